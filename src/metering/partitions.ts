import type { SystemDatabase } from './lease.ts';

/** How many months beyond the current one have partitions waiting for them. */
export const PARTITION_MONTHS_AHEAD = 3;

/**
 * Creates the monthly partitions of all fact tables from the current month (of the database's clock, UTC) to
 * {@link PARTITION_MONTHS_AHEAD} months later. Rows outside of all months go to the default partition, so an insert
 * never fails for want of one. Returns how many partitions were new.
 */
export async function ensurePartitions(database: SystemDatabase, from?: Date): Promise<number> {
  const [row] = await database.querySystem<{ readonly created: number }>(
    'SELECT patchbay.ensure_usage_partitions(coalesce($1::timestamptz, now()), $2) AS created',
    [from?.toISOString() ?? null, PARTITION_MONTHS_AHEAD + 1],
  );
  return row?.created ?? 0;
}

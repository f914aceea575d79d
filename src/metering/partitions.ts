import type { Uuid } from '../kernel/ids.ts';
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

/** The smallest uuid whose time part is the given instant: the lower bound of everything admitted from then on. */
export function uuidv7Floor(ms: number): Uuid {
  const time = ms.toString(16).padStart(12, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}-0000-0000-000000000000`;
}

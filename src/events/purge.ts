import type { Database } from '../db/client.ts';

/** Most events that one statement removes. */
const BATCH = 5_000;

/**
 * Removes events that were written before the time, and answers how many. Always the oldest in the order of readers: the
 * first event that is young enough keeps everything behind it, and what is not decided yet is left alone. So a reader
 * whose last event is still there has missed nothing.
 */
export async function purgeEvents(
  database: Pick<Database, 'querySystem'>,
  beforeMs: number,
  batch: number = BATCH,
): Promise<number> {
  let removed = 0;
  for (;;) {
    const [row] = await database.querySystem<{ readonly removed: number }>(
      `WITH bound AS (
         SELECT least(
           patchbay.outbox_horizon(),
           coalesce((SELECT e.transaction FROM outbox_event e WHERE e.created_at >= $1
                     ORDER BY e.transaction, e.position LIMIT 1), 9223372036854775807)) AS transaction
       ), gone AS (
         DELETE FROM outbox_event WHERE position IN (
           SELECT e.position FROM outbox_event e, bound b WHERE e.transaction < b.transaction
           ORDER BY e.transaction, e.position LIMIT $2)
         RETURNING 1
       )
       SELECT count(*)::integer AS removed FROM gone`,
      [new Date(beforeMs).toISOString(), batch],
    );
    const count = row?.removed ?? 0;
    removed += count;
    if (count < batch) return removed;
  }
}

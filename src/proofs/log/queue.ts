import type { PoolClient } from 'pg';
import type { Uuid } from '../../kernel/ids.ts';

/** What waits to be put into the log: an entry's id and the hash of its leaf. */
export interface QueuedLeaf {
  readonly entryId: Uuid;
  readonly leafHash: Uint8Array;
}

/** Puts leaves up for the log, in the transaction that writes what they stand for: then neither is there without the other. */
export async function queueLeaves(
  client: Pick<PoolClient, 'query'>,
  leaves: readonly QueuedLeaf[],
): Promise<void> {
  if (leaves.length === 0) return;
  await client.query({
    name: 'log_queue',
    text: 'INSERT INTO log_queue (entry_id, leaf_hash) SELECT * FROM unnest($1::uuid[], $2::bytea[])',
    values: [leaves.map(({ entryId }) => entryId), leaves.map(({ leafHash }) => Buffer.from(leafHash))],
  });
}

import type { Tx } from '../db/client.ts';
import type { Uuid } from '../kernel/ids.ts';

/** Locks batches, in the one order in which everybody locks them. Whoever changes a payout has its batch locked. */
export async function lockBatches(tx: Tx, batchIds: readonly Uuid[]): Promise<void> {
  await tx.$queryRaw`
    SELECT id FROM payout_batch WHERE id = ANY(${[...batchIds]}::uuid[]) ORDER BY id FOR NO KEY UPDATE`;
}

/** Closes those batches of which every payout is paid, has failed or came back. */
export async function settleBatches(tx: Tx, batchIds: readonly Uuid[], at: Date): Promise<void> {
  await tx.payoutBatch.updateMany({
    where: {
      id: { in: [...batchIds] },
      state: 'SUBMITTED',
      payouts: { every: { state: { in: ['PAID', 'FAILED', 'RETURNED'] } } },
    },
    data: { state: 'SETTLED', closedAt: at },
  });
}

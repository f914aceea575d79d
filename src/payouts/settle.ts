import type { Tx } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Uuid } from '../kernel/ids.ts';
import { recordStep } from './steps.ts';

/** Locks batches, in the one order in which everybody locks them. Whoever changes a payout has its batch locked. */
export async function lockBatches(tx: Tx, batchIds: readonly Uuid[]): Promise<void> {
  await tx.$queryRaw`
    SELECT id FROM payout_batch WHERE id = ANY(${[...batchIds]}::uuid[]) ORDER BY id FOR NO KEY UPDATE`;
}

/** Closes those batches, which are locked, of which every payout is paid, has failed or came back. */
export async function settleBatches(tx: Tx, clock: Clock, batchIds: readonly Uuid[]): Promise<void> {
  const settled = await tx.payoutBatch.findMany({
    where: {
      id: { in: [...batchIds] },
      state: 'SUBMITTED',
      payouts: { every: { state: { in: ['PAID', 'FAILED', 'RETURNED'] } } },
    },
    select: { id: true },
    orderBy: { id: 'asc' },
  });
  await tx.payoutBatch.updateMany({
    where: { id: { in: settled.map(({ id }) => id) } },
    data: { state: 'SETTLED', closedAt: new Date(clock.nowMs()) },
  });
  for (const { id } of settled) {
    await recordStep(tx, clock, id, 'settled', {
      before: { state: 'SUBMITTED' },
      after: { state: 'SETTLED' },
    });
  }
}

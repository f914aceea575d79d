import type { Tx } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { PaymentOrder, RailKind, RailReceipt } from './rail.ts';
import { bytes, toBatch, toPayout } from './rows.ts';
import { recordStep } from './steps.ts';

/** A batch as the rail gets it: the same text however often it is read, whatever became of the payouts meanwhile. */
export async function readOrder(
  tx: Tx,
  batchId: Uuid,
): Promise<{ readonly rail: RailKind; readonly order: PaymentOrder }> {
  const batch = await tx.payoutBatch.findUniqueOrThrow({ where: { id: batchId } });
  const rows = await tx.payout.findMany({
    where: { batchId },
    include: { destination: true },
    orderBy: { line: 'asc' },
  });
  const payments = rows.map(toPayout).map(({ tenantId, paymentKey, amountNano, destination }) => ({
    key: paymentKey,
    beneficiary: tenantId,
    accountName: destination.accountName,
    accountReference: destination.accountReference,
    amount: amountNano,
  }));
  return { rail: toBatch(batch).rail, order: { batchId, currency: batch.currency, payments } };
}

/** Takes down that the rail has the batch, whoever's call or resumption it was that handed it over. */
export async function finishSubmission(
  tx: Tx,
  clock: Clock,
  batchId: Uuid,
  receipt: RailReceipt,
): Promise<void> {
  const { reference: railReference, sha256 } = receipt;
  const { count } = await tx.payoutBatch.updateMany({
    where: { id: batchId, state: 'SUBMITTING' },
    data: {
      state: 'SUBMITTED',
      railReference,
      railSha256: bytes(sha256),
      submittedAt: new Date(clock.nowMs()),
    },
  });
  if (count === 0) return;
  await recordStep(tx, clock, batchId, 'submitted', {
    before: { state: 'SUBMITTING' },
    after: { state: 'SUBMITTED', railReference, railSha256: sha256 },
  });
}

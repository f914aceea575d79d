import type { Tx } from '../db/client.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { PaymentOrder, RailReceipt } from './rail.ts';
import { bytes, toPayout } from './rows.ts';

/** A batch as the rail gets it: the same text however often it is read, whatever became of the payouts meanwhile. */
export async function readOrder(tx: Tx, batchId: Uuid): Promise<PaymentOrder> {
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
  return { batchId, currency: batch.currency, payments };
}

/** Takes down that the rail has the batch. */
export async function finishSubmission(tx: Tx, batchId: Uuid, receipt: RailReceipt, at: Date): Promise<void> {
  await tx.payoutBatch.updateMany({
    where: { id: batchId, state: 'SUBMITTING' },
    data: {
      state: 'SUBMITTED',
      railReference: receipt.reference,
      railSha256: bytes(receipt.sha256),
      submittedAt: at,
    },
  });
}

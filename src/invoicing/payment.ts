import type { Tx } from '../db/client.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { AMOUNT_MAX } from '../ledger/types.ts';
import { paymentKey } from './keys.ts';
import type { InvoicingDeps } from './operation.ts';
import { billingAccounts, postMovements } from './posting.ts';
import { readInvoice } from './reader.ts';
import type { Invoice } from './rows.ts';
import { recordStep } from './steps.ts';

/** Makes a final bill PAID on which nothing is due and nothing waits; answers whether it did. The caller has locked it. */
export async function payIfNothingIsDue(tx: Tx, invoiceId: Uuid, paidAt: Date): Promise<boolean> {
  const { state, dueNano, openNano } = await readInvoice(tx, invoiceId);
  if (state !== 'FINALISED' || dueNano > 0n || openNano > 0n) return false;
  await tx.invoice.update({ where: { id: invoiceId }, data: { state: 'PAID', paidAt } });
  return true;
}

/** {@link payIfNothingIsDue} because of what was done to a final bill, which the audit log does not say yet. */
export async function settleIfNothingIsDue(
  tx: Tx,
  { clock }: InvoicingDeps,
  invoice: Pick<Invoice, 'id' | 'tenantId'>,
): Promise<void> {
  if (!(await payIfNothingIsDue(tx, invoice.id, new Date(clock.nowMs())))) return;
  await recordStep(tx, clock, invoice, 'settled', {
    before: { state: 'FINALISED' },
    after: { state: 'PAID' },
  });
}

/**
 * Brings what is due on a bill to the customer's balance; or, where a top-up brought it already, takes that one down, which
 * then pays no other bill. Answers the transfer that brought it; null where nothing is due. The caller has locked the bill.
 */
export async function bringPayment(
  tx: Tx,
  { clock }: InvoicingDeps,
  { id, tenantId, document: { currency }, dueNano }: Invoice,
  topUpId: Uuid | null,
): Promise<Uuid | null> {
  if (topUpId !== null) {
    await requireTopUp(tx, topUpId, { tenantId, currency, dueNano });
    return topUpId;
  }
  const accounts = await billingAccounts(tx, clock, tenantId, currency, 'CASH');
  const [first] = await postMovements(tx, clock, accounts, [
    {
      ...{ tenantId, currency, direction: 'CREDIT', amountNano: dueNano },
      ...{ key: paymentKey(id), referenceType: 'invoice_payment', referenceId: id },
    },
  ]);
  return first ?? null;
}

/** Throws unless the transfer is a top-up of the tenant that brought at least what is due and has paid no bill yet. */
async function requireTopUp(
  tx: Tx,
  transferId: Uuid,
  { tenantId, currency, dueNano }: Pick<Invoice, 'tenantId' | 'dueNano'> & { readonly currency: string },
): Promise<void> {
  const bad = (message: string): PatchbayError =>
    new PatchbayError('BAD_INPUT', message, {
      field: 'topUp',
      fix: 'Leave `topUp` out to have the payment posted now, or name the top-up that brought it.',
    });
  if (dueNano === 0n) throw bad('Nothing is due on the invoice.');
  if (dueNano > AMOUNT_MAX) throw bad('More is due than one top-up can bring.');
  const found = await tx.ledgerTransfer.findFirst({
    where: { id: transferId, tenantId, asset: currency, referenceType: 'top_up', amount: { gte: dueNano } },
    select: { id: true },
  });
  if (found === null) throw bad('It is no top-up of this customer that brought what is due.');
  const paid = await tx.invoice.findUnique({
    where: { paymentTransferId: transferId },
    select: { number: true },
  });
  if (paid !== null) throw bad(`The top-up has paid ${paid.number}.`);
}

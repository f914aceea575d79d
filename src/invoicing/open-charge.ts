import type { Tx } from '../db/client.ts';
import type { Uuid } from '../kernel/ids.ts';
import { budgetExceeded } from '../ledger/errors.ts';
import { adjustmentKey } from './keys.ts';
import type { InvoicingDeps } from './operation.ts';
import { billingAccounts, lockAvailable, type Movement, postMovements } from './posting.ts';

/** The movement of a minimum charge. Its key names the period, so that it can happen once whatever is tried again. */
export function minimumCharge(invoice: {
  readonly id: Uuid;
  readonly tenantId: Uuid;
  readonly currency: string;
  readonly periodStart: Date;
  readonly revision: number;
  readonly amountNano: bigint;
}): Movement {
  return {
    tenantId: invoice.tenantId,
    currency: invoice.currency,
    direction: 'DEBIT',
    amountNano: invoice.amountNano,
    key: adjustmentKey('minimum', invoice),
    referenceType: 'invoice',
    referenceId: invoice.id,
  };
}

/**
 * Posts what of an invoice's minimum charge is still open. The caller has locked the invoice. Throws BUDGET_EXCEEDED when
 * the balance has no room for it yet.
 */
export async function collectOpenCharge(tx: Tx, { clock }: InvoicingDeps, invoiceId: Uuid): Promise<void> {
  const charge = await tx.invoiceOpenCharge.findUnique({ where: { invoiceId }, include: { invoice: true } });
  if (charge === null) return;
  const { tenantId, currency, amountNano, invoice } = charge;
  const accounts = await billingAccounts(tx, clock, tenantId, currency);
  const available = await lockAvailable(tx, accounts);
  if (available < amountNano) throw budgetExceeded(amountNano, available, { invoiceId });
  const { periodStart, revision } = invoice;
  const movement = minimumCharge({ id: invoiceId, tenantId, currency, periodStart, revision, amountNano });
  await postMovements(tx, clock, accounts, [movement]);
  await tx.invoiceOpenCharge.delete({ where: { invoiceId } });
}

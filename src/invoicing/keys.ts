import { periodOf } from '../kernel/period.ts';

/**
 * The business key of what a bill posts for its month. It names the month and, where an earlier bill of the month was made
 * void, the how-manieth it is: so it can happen once for each bill that counts, whatever is tried again.
 */
export function adjustmentKey(
  what: 'reductions' | 'minimum',
  bill: { readonly periodStart: Date; readonly revision: number },
): string {
  const { label } = periodOf(bill.periodStart);
  return `invoice.${what}:${bill.revision === 1 ? label : `${label}.${bill.revision}`}`;
}

/** The business key of what takes back everything that a bill has posted. */
export function voidKey(invoiceId: string): string {
  return `invoice.void:${invoiceId}`;
}

/** The business key of what a customer pays for a bill. */
export function paymentKey(invoiceId: string): string {
  return `invoice.payment:${invoiceId}`;
}

import type { PoolClient } from 'pg';
import { sums } from './adjustments.ts';
import type { InvoiceDocument } from './document.ts';
import { adjustmentKey, paymentKey, voidKey } from './keys.ts';
import type { StoredInvoice } from './verify-types.ts';

/** What the ledger has for an invoice, by what it is for. */
type Posted = Readonly<Record<'reductions' | 'minimum' | 'void' | 'credited' | 'payment', bigint>>;

/** Something about an invoice that has another amount than its document, its state and its credit notes say. */
export interface PostingMismatch {
  readonly what: string;
  readonly expected: bigint;
  readonly actual: bigint;
}

/** Compares what was posted for an invoice with what its document, its state and its credit notes say. */
export async function checkPostings(
  client: PoolClient,
  invoice: StoredInvoice,
  document: InvoiceDocument,
): Promise<readonly PostingMismatch[]> {
  const posted = await readPosted(client, invoice);
  const { reductionNano, minimumNano } = sums(document.adjustments);
  const [open, credited] = [BigInt(invoice.open), BigInt(invoice.credited)];
  const isVoid = invoice.state === 'VOID';
  const mismatches: PostingMismatch[] = [];
  const expect = (what: string, actual: bigint, expected: bigint): void => {
    if (actual !== expected) mismatches.push({ what, expected, actual });
  };
  expect('Allowance and discounts', posted.reductions, reductionNano);
  // What was open when an invoice was made void is never posted.
  if (!isVoid || posted.minimum !== 0n) expect('Minimum charge', -posted.minimum, minimumNano - open);
  expect('Credit notes', posted.credited, credited);
  const given = posted.reductions + posted.minimum + posted.credited;
  expect('What the void invoice takes back', posted.void, isVoid ? -given : 0n);
  const isPaid = invoice.state === 'PAID';
  const paid = posted.payment + BigInt(invoice.topped_up) + BigInt(invoice.prepaid) + credited;
  // More may have come in than was due, by credit notes that followed the payment.
  if (isPaid && paid < document.totalNano)
    expect('What came in for the paid invoice', paid, document.totalNano);
  if (!isPaid) expect('Payment', posted.payment, 0n);
  if (credited > document.totalNano) expect('Most that credit notes give back', credited, document.totalNano);
  if (isVoid) expect('Open charge of a void invoice', open, 0n);
  return mismatches;
}

/** More pieces than any amount within the ledger's bounds is posted in. */
const PIECES_MAX = 20;

/** Sums of the customer's postings, found by their keys; positive ones were given to the customer. */
async function readPosted(client: PoolClient, invoice: StoredInvoice): Promise<Posted> {
  const bill = { periodStart: invoice.period_start, revision: invoice.revision };
  const { rows } = await client.query<{ readonly what: string; readonly amount: string }>(
    `WITH wanted AS (
       SELECT b.what, b.key || CASE n WHEN 1 THEN '' ELSE ':' || n END AS key
       FROM unnest($2::text[], $3::text[]) AS b(what, key) CROSS JOIN generate_series(1, ${PIECES_MAX}) n
       UNION ALL
       SELECT 'credited', 'credit_note:' || c.id FROM credit_note c WHERE c.invoice_id = $4
     )
     SELECT w.what, sum(p.amount)::text AS amount
     FROM wanted w
     CROSS JOIN LATERAL (
       SELECT t.id FROM ledger_transfer t
       WHERE md5(t.tenant_id::text || t.business_key)::uuid = md5($1::uuid::text || w.key)::uuid
         AND t.business_key = w.key AND t.tenant_id = $1 AND t.business_key IS NOT NULL LIMIT 1) t
     JOIN ledger_posting p ON p.transfer_id = t.id
     JOIN ledger_account a ON a.id = p.account_id AND a.kind = 'CUSTOMER'
     GROUP BY w.what`,
    [
      invoice.tenant_id,
      ['reductions', 'minimum', 'void', 'payment'],
      [
        adjustmentKey('reductions', bill),
        adjustmentKey('minimum', bill),
        voidKey(invoice.id),
        paymentKey(invoice.id),
      ],
      invoice.id,
    ],
  );
  const amountOf = (what: keyof Posted): bigint => BigInt(rows.find((row) => row.what === what)?.amount ?? 0);
  return {
    reductions: amountOf('reductions'),
    minimum: amountOf('minimum'),
    void: amountOf('void'),
    credited: amountOf('credited'),
    payment: amountOf('payment'),
  };
}

import type { PoolClient } from 'pg';
import { documentText, hashOf } from '../../invoicing/document.ts';
import { ForeignCharge } from '../../invoicing/facts.ts';
import { remadeDocument, storedInvoices } from '../../invoicing/stored.ts';
import { checkPostings } from '../../invoicing/verify-postings.ts';
import type { StoredInvoice } from '../../invoicing/verify-types.ts';
import {
  DIFFERENCES_MAX,
  type ReconciliationDifference,
  type ReconciliationRule,
  type ReconciliationScope,
  type RuleFindings,
} from '../types.ts';
import type { SqlRule } from './rule.ts';

/** Invoices and usage records: the document is made from the charges, so this goes by the records. */
export const INVOICE_RULES: readonly SqlRule[] = [
  {
    rule: 'INVOICE_CHARGES',
    subject: 'INVOICE',
    sql: `
SELECT i.id AS subject_id, i.tenant_id, NULL AS detail, s.amount::text AS expected, i.charges_nano::text AS actual
FROM invoice i
CROSS JOIN LATERAL (
  SELECT coalesce(sum(r.amount_nano), 0) AS amount FROM usage_record r
  WHERE r.tenant_id = i.tenant_id AND r.ended_at >= i.period_start AND r.ended_at < i.period_end) s
WHERE i.period_start >= $1::timestamptz AND i.period_end <= $2::timestamptz
  AND ($3::uuid IS NULL OR i.tenant_id = $3::uuid) AND s.amount <> i.charges_nano`,
  },
];

/** What {@link checkInvoices} finds. */
export type InvoiceFindings = ReadonlyMap<'INVOICE_DOCUMENT' | 'INVOICE_POSTINGS', RuleFindings>;

/** Makes the documents of the scope's invoices anew, and looks up what was posted for them. */
export async function checkInvoices(
  client: PoolClient,
  scope: ReconciliationScope,
): Promise<InvoiceFindings> {
  const [documents, postings] = [new Findings(), new Findings()];
  for await (const invoice of storedInvoices(client, scope)) {
    const document = await remadeDocument(client, invoice).catch(foreign);
    if (document instanceof ForeignCharge) {
      const { wanted, found } = document;
      documents.add(difference('INVOICE_DOCUMENT', invoice, 'currency of a charge', wanted, found));
      continue;
    }
    const [expected, actual] = [documentText(document), invoice.content].map(hexHash);
    const total = [String(document.totalNano), invoice.total];
    if (expected !== actual)
      documents.add(difference('INVOICE_DOCUMENT', invoice, 'SHA-256', expected, actual));
    else if (total[0] !== total[1]) documents.add(difference('INVOICE_DOCUMENT', invoice, 'total', ...total));
    for (const { what, ...amounts } of await checkPostings(client, invoice, document)) {
      const [wanted, found] = [String(amounts.expected), String(amounts.actual)];
      postings.add(difference('INVOICE_POSTINGS', invoice, what, wanted, found));
    }
  }
  return new Map([
    ['INVOICE_DOCUMENT', documents],
    ['INVOICE_POSTINGS', postings],
  ]);
}

/** Keeps the first differences, and counts all. */
class Findings implements RuleFindings {
  readonly differences: ReconciliationDifference[] = [];
  count = 0;

  add(found: ReconciliationDifference): void {
    this.count += 1;
    if (this.differences.length < DIFFERENCES_MAX) this.differences.push(found);
  }
}

function difference(
  rule: ReconciliationRule,
  { id, tenant_id: tenantId }: StoredInvoice,
  detail: string,
  expected: string | null = null,
  actual: string | null = null,
): ReconciliationDifference {
  return { rule, subject: 'INVOICE', subjectId: id, tenantId, detail, expected, actual };
}

function foreign(error: unknown): ForeignCharge {
  if (error instanceof ForeignCharge) return error;
  throw error;
}

function hexHash(text: string): string {
  return Buffer.from(hashOf(text)).toString('hex');
}

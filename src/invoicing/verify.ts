import type { PoolClient } from 'pg';
import type { Database } from '../db/client.ts';
import { periodOf } from '../kernel/period.ts';
import { sums } from './adjustments.ts';
import { documentText, hashOf, type InvoiceDocument } from './document.ts';
import { readPrepaid } from './prepaid.ts';
import { EVERY_INVOICE, remadeDocument, storedInvoices } from './stored.ts';
import { findWrongNumbers } from './verify-numbers.ts';
import { checkPostings } from './verify-postings.ts';
import type { InvoiceProblem, StoredInvoice } from './verify-types.ts';

/** What a verification found. */
export interface InvoiceReport {
  readonly invoices: number;
  readonly creditNotes: number;
  /** Invoices in the order in which their periods were closed, then numbers. */
  readonly problems: readonly InvoiceProblem[];
}

/** How to verify. */
export interface VerifyInvoicesOptions {
  /** After this many problems the search ends. */
  readonly problemsMax?: number;
  /** Told after each invoice how many are done, of how many. */
  readonly onInvoice?: (done: number, total: number) => void;
}

const PROBLEMS_MAX = 100;

/**
 * Makes every invoice anew from the usage records and the terms, in one snapshot, and compares it with what is stored,
 * byte by byte; and checks what was posted for it, and that no number is missing.
 */
export async function verifyInvoices(
  database: Pick<Database, 'withSystemPg'>,
  options: VerifyInvoicesOptions = {},
): Promise<InvoiceReport> {
  const max = options.problemsMax ?? PROBLEMS_MAX;
  return database.withSystemPg(async (client) => {
    await client.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY');
    await client.query('SET LOCAL statement_timeout = 0');
    await client.query('SET LOCAL idle_in_transaction_session_timeout = 0');
    const [total, creditNotes] = await counts(client);
    const problems: InvoiceProblem[] = [];
    let invoices = 0;
    for await (const invoice of storedInvoices(client, EVERY_INVOICE)) {
      if (problems.length >= max) break;
      const bill = invoice.number ?? `draft of ${invoice.tenant_id}, ${periodOf(invoice.period_start).label}`;
      const messages = await check(client, invoice);
      problems.push(...messages.map((message) => ({ invoiceId: invoice.id, bill, message })));
      invoices += 1;
      options.onInvoice?.(invoices, total);
    }
    if (problems.length < max) problems.push(...(await findWrongNumbers(client)));
    return { invoices, creditNotes, problems: problems.slice(0, max) };
  });
}

async function check(client: PoolClient, invoice: StoredInvoice): Promise<readonly string[]> {
  const document = await remadeDocument(client, invoice);
  const prepaid = await readPrepaid(client, document);
  const mismatches = await checkPostings(client, invoice, document);
  return [
    ...compareContent(invoice, document),
    ...(String(prepaid) === invoice.prepaid
      ? []
      : [`The balance had paid ${prepaid}, and it says ${invoice.prepaid}.`]),
    ...mismatches.map(
      ({ what, expected, actual }) => `${what}: the ledger has ${actual}, and it should be ${expected}.`,
    ),
  ];
}

function compareContent(invoice: StoredInvoice, document: InvoiceDocument): readonly string[] {
  const messages: string[] = [];
  const text = documentText(document);
  const { reductionNano, minimumNano } = sums(document.adjustments);
  if (text !== invoice.content) {
    messages.push(
      `The document is not what the usage records and terms give; the first difference is at byte ${firstDifference(text, invoice.content)}.`,
    );
  }
  if (Buffer.from(hashOf(invoice.content)).toString('hex') !== invoice.sha256) {
    messages.push('The document does not have the hash that is stored with it.');
  }
  if (invoice.currency !== document.currency || invoice.charges !== String(document.chargesNano)) {
    messages.push('The charges differ from those of the usage records.');
  }
  if (invoice.reduction !== String(reductionNano) || invoice.minimum !== String(minimumNano)) {
    messages.push('Reductions and minimum differ from those of the terms.');
  }
  if (invoice.total !== String(document.chargesNano - reductionNano + minimumNano)) {
    messages.push('The total differs from the charges after the terms.');
  }
  return messages;
}

/** How many bytes two texts have in common at their beginning. */
export function firstDifference(a: string, b: string): number {
  const [left, right] = [Buffer.from(a, 'utf8'), Buffer.from(b, 'utf8')];
  const shorter = Math.min(left.length, right.length);
  for (let i = 0; i < shorter; i += 1) if (left[i] !== right[i]) return i;
  return shorter;
}

async function counts(client: PoolClient): Promise<readonly [number, number]> {
  const { rows } = await client.query<{ readonly invoices: string; readonly notes: string }>(
    `SELECT (SELECT count(*) FROM invoice)::text AS invoices, (SELECT count(*) FROM credit_note)::text AS notes`,
  );
  return [Number(rows[0]?.invoices ?? 0), Number(rows[0]?.notes ?? 0)];
}

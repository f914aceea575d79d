import type { PoolClient } from 'pg';
import { z } from 'zod';
import type { Uuid } from '../kernel/ids.ts';
import { periodOf } from '../kernel/period.ts';
import type { InvoiceDocument } from './document.ts';
import { readDocument } from './facts.ts';
import type { StoredInvoice } from './verify-types.ts';

/** Which invoices are wanted: those whose period lies between the times, as far as they are given. */
export interface StoredInvoiceFilter {
  readonly from: Date | null;
  readonly to: Date | null;
  readonly tenantId: Uuid | null;
}

export const EVERY_INVOICE: StoredInvoiceFilter = { from: null, to: null, tenantId: null };

/** So many documents are in memory at once. */
const PAGE = 50;

/** Invoices as they are stored, in the order in which their periods were closed. */
export async function* storedInvoices(
  client: PoolClient,
  filter: StoredInvoiceFilter,
): AsyncGenerator<StoredInvoice> {
  let after: Uuid | null = null;
  for (;;) {
    const rows: readonly StoredInvoice[] = await readPage(client, filter, after);
    yield* rows;
    after = rows.at(-1)?.id ?? null;
    if (rows.length < PAGE) return;
  }
}

async function readPage(
  client: PoolClient,
  { from, to, tenantId }: StoredInvoiceFilter,
  after: Uuid | null,
): Promise<readonly StoredInvoice[]> {
  const { rows } = await client.query<StoredInvoice>(
    `SELECT i.id, i.tenant_id, i.period_start, i.revision, i.currency, i.state, i.number, i.content,
            encode(i.content_sha256, 'hex') AS sha256, i.charges_nano::text AS charges, i.total_nano::text AS total,
            i.reduction_nano::text AS reduction, i.minimum_nano::text AS minimum, i.prepaid_nano::text AS prepaid,
            coalesce((SELECT sum(p.amount) FROM ledger_transfer t JOIN ledger_posting p ON p.transfer_id = t.id
                      JOIN ledger_account a ON a.id = p.account_id AND a.kind = 'CUSTOMER'
                      WHERE t.id = i.payment_transfer_id AND t.reference_type = 'top_up'), 0)::text AS topped_up,
            coalesce((SELECT sum(o.amount_nano) FROM invoice_open_charge o WHERE o.invoice_id = i.id), 0)::text AS open,
            coalesce((SELECT sum(c.amount_nano) FROM credit_note c WHERE c.invoice_id = i.id), 0)::text AS credited
     FROM invoice i
     WHERE ($1::uuid IS NULL OR i.id > $1) AND ($2::timestamptz IS NULL OR i.period_start >= $2)
       AND ($3::timestamptz IS NULL OR i.period_end <= $3) AND ($4::uuid IS NULL OR i.tenant_id = $4)
     ORDER BY i.id LIMIT ${PAGE}`,
    [after, from?.toISOString() ?? null, to?.toISOString() ?? null, tenantId],
  );
  return rows;
}

/**
 * Makes the document of an invoice anew from the usage records. A void one is made by the terms that it was made by:
 * others may have been set for its month since.
 */
export function remadeDocument(
  client: PoolClient,
  { tenant_id: tenantId, period_start: start, state, content }: StoredInvoice,
): Promise<InvoiceDocument> {
  return readDocument(client, tenantId, periodOf(start), state === 'VOID' ? termsIn(content) : undefined);
}

const withTerms = z.object({ terms: z.object({ id: z.uuid() }).nullable() });

/** The terms that a document was made by; undefined when it cannot be read, because somebody changed it. */
function termsIn(content: string): Uuid | null | undefined {
  try {
    const read = withTerms.safeParse(JSON.parse(content));
    return read.success ? (read.data.terms?.id ?? null) : undefined;
  } catch {
    return undefined;
  }
}

import { type Actor, reaches, requireScope } from '../auth/principal.ts';
import type { Database, Tx } from '../db/client.ts';
import { keyset, type Page, type PageRequest, toPage } from '../db/page.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { INVOICE_PARTS, type Invoice, toInvoice } from './rows.ts';

/** Which invoices to list. */
export interface InvoiceFilter {
  /** Null for the actor's own tenant; for an operator, for all. */
  readonly tenantId: Uuid | null;
}

/** Reads bills: tenants their own, operators everybody's. */
export class InvoiceReader {
  readonly #database: Database;

  constructor(dependencies: { readonly database: Database }) {
    this.#database = dependencies.database;
  }

  /** Invoices in the order in which their periods were closed. */
  async list(actor: Actor, filter: InvoiceFilter, page: PageRequest): Promise<Page<Invoice>> {
    requireScope(actor, 'billing:read');
    const { tenantId } = filter;
    if (tenantId !== null && !reaches(actor, tenantId)) {
      throw new PatchbayError('NOT_FOUND', 'No such tenant is visible to you.', { field: 'tenant' });
    }
    const { where, ...order } = keyset(page);
    const rows = await this.#as(actor, (tx) =>
      tx.invoice.findMany({
        where: { AND: [where, tenantId === null ? {} : { tenantId }] },
        include: INVOICE_PARTS,
        ...order,
      }),
    );
    return toPage(rows, page, toInvoice);
  }

  /** One invoice; null when it does not exist or is somebody else's. */
  async get(actor: Actor, id: Uuid): Promise<Invoice | null> {
    requireScope(actor, 'billing:read');
    return this.#as(actor, (tx) => findInvoice(tx, id));
  }

  #as<T>(actor: Actor, work: (tx: Tx) => Promise<T>): Promise<T> {
    return actor.kind === 'TENANT'
      ? this.#database.withTenant(actor.tenantId, work)
      : this.#database.withSystem(work);
  }
}

/** An invoice that the transaction can see. */
async function findInvoice(tx: Tx, id: Uuid): Promise<Invoice | null> {
  const row = await tx.invoice.findUnique({ where: { id }, include: INVOICE_PARTS });
  return row && toInvoice(row);
}

/** {@link findInvoice} of one that is known to be there. */
export async function readInvoice(tx: Tx, id: Uuid): Promise<Invoice> {
  const found = await findInvoice(tx, id);
  if (found === null) throw new Error('An invoice that was written cannot be read');
  return found;
}

/** Reads an invoice and keeps others from changing it until the transaction ends. */
export async function lockInvoice(tx: Tx, id: Uuid): Promise<Invoice> {
  await tx.$queryRaw`SELECT id FROM invoice WHERE id = ${id}::uuid FOR NO KEY UPDATE`;
  const found = await findInvoice(tx, id);
  if (found !== null) return found;
  throw new PatchbayError('NOT_FOUND', 'There is no such invoice.', { field: 'invoice' });
}

import type { InvoiceOptions } from '../../src/invoicing/closing.ts';
import { createInvoicing as create, type Invoicing } from '../../src/invoicing/invoicing.ts';
import type { InvoicingDeps } from '../../src/invoicing/operation.ts';
import { booksOf } from '../../src/reconciliation/books.ts';

/** Bills as the server opens them: the books of a month are reconciled before it is closed. */
export function createInvoicing(deps: Omit<InvoicingDeps, 'books'>, options?: InvoiceOptions): Invoicing {
  return create({ ...deps, books: booksOf(deps.database) }, options);
}

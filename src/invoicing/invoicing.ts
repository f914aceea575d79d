import { BillingTermsService } from './billing-terms.ts';
import { PeriodCloser } from './closing.ts';
import type { InvoicingDeps } from './operation.ts';
import { InvoiceReader } from './reader.ts';
import { InvoiceService } from './service.ts';

/** Everything about bills, by who does it. */
export interface Invoicing {
  readonly periods: Pick<PeriodCloser, 'close'>;
  readonly invoices: Pick<InvoiceService, 'finalise' | 'markPaid' | 'void' | 'credit' | 'collectOpenCharges'>;
  readonly terms: Pick<BillingTermsService, 'set' | 'list'>;
  readonly reader: Pick<InvoiceReader, 'list' | 'get'>;
}

/** Makes the services of bills over one database. */
export function createInvoicing(dependencies: InvoicingDeps): Invoicing {
  return {
    periods: new PeriodCloser(dependencies),
    invoices: new InvoiceService(dependencies),
    terms: new BillingTermsService(dependencies),
    reader: new InvoiceReader(dependencies),
  };
}

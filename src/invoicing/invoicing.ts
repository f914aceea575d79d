import { BillingTermsService } from './billing-terms.ts';
import { type InvoiceOptions, PeriodCloser } from './closing.ts';
import { PeriodsCloser } from './open-periods.ts';
import type { InvoicingDeps } from './operation.ts';
import { InvoiceReader } from './reader.ts';
import { InvoiceService } from './service.ts';

/** Everything about bills, by who does it. */
export interface Invoicing {
  readonly periods: Pick<PeriodCloser, 'close'> & Pick<PeriodsCloser, 'closeAll' | 'open'>;
  readonly invoices: Pick<InvoiceService, 'finalise' | 'markPaid' | 'void' | 'credit' | 'collectOpenCharges'>;
  readonly terms: Pick<BillingTermsService, 'set' | 'list'>;
  readonly reader: Pick<InvoiceReader, 'list' | 'get'>;
}

/** Makes the services of bills over one database. */
export function createInvoicing(
  dependencies: InvoicingDeps,
  options: InvoiceOptions = { issuer: null },
): Invoicing {
  const closer = new PeriodCloser(options, dependencies);
  const all = new PeriodsCloser(closer, dependencies);
  return {
    periods: {
      close: (...args) => closer.close(...args),
      closeAll: (...args) => all.closeAll(...args),
      open: (...args) => all.open(...args),
    },
    invoices: new InvoiceService(dependencies),
    terms: new BillingTermsService(dependencies),
    reader: new InvoiceReader(dependencies),
  };
}

import { SYSTEM_ACTOR } from '../../auth/principal.ts';
import type { ClosedPeriods } from '../../invoicing/open-periods.ts';
import type { InvoiceReport } from '../../invoicing/verify.ts';
import { systemClock } from '../../kernel/clock.ts';
import { newId, type Uuid } from '../../kernel/ids.ts';
import { formatMoney } from '../../kernel/money.ts';
import { withProgress } from '../../observability/progress.ts';
import { booksOf } from '../../reconciliation/books.ts';
import { EXIT } from '../exit-codes.ts';
import { type CliIo, progressFor } from '../io.ts';
import { withOfflineDatabase } from '../offline-database.ts';
import { table } from '../table.ts';

/** What the command line says. */
export interface InvoicesVerifyFlags {
  readonly json: boolean;
}

/** Makes every invoice of the installation anew and compares, with or without a running server. */
export async function invoicesVerify(io: CliIo, flags: InvoicesVerifyFlags): Promise<number> {
  const { config } = io.loadConfig();
  const { verifyInvoices } = await import('../../invoicing/verify.ts');
  const report = await withProgress(progressFor(io, flags.json), 'Verifying the invoices', (step) =>
    withOfflineDatabase(config.data, 'invoices', (database) =>
      verifyInvoices(database, { onInvoice: (done, total) => step.update(done, total, 'items') }),
    ),
  );
  io.out(flags.json ? `${JSON.stringify(report)}\n` : describe(report));
  return report.problems.length === 0 ? EXIT.ok : EXIT.failed;
}

function describe({ invoices, creditNotes, problems }: InvoiceReport): string {
  const scope = `${invoices} invoices and ${creditNotes} credit notes.\n`;
  if (problems.length === 0) return `The invoices are what the usage records give: ${scope}`;
  const rows = problems.map(({ bill, message }) => [bill, message]);
  return `The invoices are not what the usage records give.\n\n${table(['BILL', 'WHAT'], rows)}\n${scope}`;
}

/** What became of all tenants of a month. */
type ClosingReport = Pick<ClosedPeriods, 'closed' | 'alreadyClosed' | 'refused'>;

const TENANTS_AT_ONCE = 100;

/** Closes a month of every tenant, with or without a running server. Ends with 1 when one of them is refused. */
export async function invoicesClose(
  io: CliIo,
  period: string,
  flags: { readonly json: boolean },
): Promise<number> {
  const { config } = io.loadConfig();
  const { createInvoicing } = await import('../../invoicing/invoicing.ts');
  const report = await withOfflineDatabase(config.data, 'invoices', async (database) => {
    const { periods } = createInvoicing(
      { database, clock: systemClock, books: booksOf(database) },
      config.invoices,
    );
    const idempotencyKey = newId(systemClock);
    const steps: ClosedPeriods[] = [];
    let after: Uuid | null = null;
    do {
      const input = { idempotencyKey, period, first: TENANTS_AT_ONCE, after };
      const step: ClosedPeriods = await periods.closeAll(SYSTEM_ACTOR, input);
      steps.push(step);
      after = step.next;
    } while (after !== null);
    return {
      closed: steps.flatMap(({ closed }) => closed),
      alreadyClosed: steps.reduce((sum, { alreadyClosed }) => sum + alreadyClosed, 0),
      refused: steps.flatMap(({ refused }) => refused),
    };
  });
  io.out(flags.json ? `${JSON.stringify(closingJson(report))}\n` : describeClosing(period, report));
  return report.refused.length === 0 ? EXIT.ok : EXIT.failed;
}

function closingJson({ closed, alreadyClosed, refused }: ClosingReport): object {
  return {
    closed: closed.map(({ id, tenantId, document, dueNano }) => ({
      ...{ invoiceId: id, tenantId, totalNano: String(document.totalNano), dueNano: String(dueNano) },
    })),
    alreadyClosed,
    refused: refused.map(({ tenantId, error }) => ({ tenantId, error: error.toPublic() })),
  };
}

function describeClosing(period: string, { closed, alreadyClosed, refused }: ClosingReport): string {
  const counts = `${closed.length} closed, ${alreadyClosed} closed before, ${refused.length} refused.\n`;
  const bills = closed.map(({ customerName, document, dueNano }) => [
    ...[customerName, `${formatMoney(document.totalNano)} ${document.currency}`, formatMoney(dueNano)],
  ]);
  const made = bills.length === 0 ? '' : `${table(['CUSTOMER', 'TOTAL', 'DUE'], bills)}\n`;
  const reasons = refused.map(({ tenantId, error }) => [tenantId, error.code, error.message]);
  const left = reasons.length === 0 ? '' : `${table(['TENANT', 'CODE', 'WHY'], reasons)}\n`;
  return `${made}${left}${period}: ${counts}`;
}

import type { InvoiceReport } from '../../invoicing/verify.ts';
import { withProgress } from '../../observability/progress.ts';
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

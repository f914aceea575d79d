import { type Command, Option } from 'commander';
import type { CliIo } from './io.ts';
import { json } from './options.ts';
import { EXPORT_FORMATS, EXPORT_SOURCES } from './ports.ts';
import type { Run } from './program.ts';

/** `patchbay ledger`. */
export function addLedger(program: Command, io: CliIo, run: Run): void {
  const ledger = program.command('ledger').description('money: check what is written');
  ledger
    .command('verify')
    .description('recompute the whole ledger and its chain of hashes; exits with 1 when anything differs')
    .option('--head <sequence:hash>', 'head of an earlier run, kept elsewhere, that the chain must contain')
    .addOption(json())
    .action((flags) =>
      run(flags.json, async () => (await import('./commands/ledger.ts')).ledgerVerify(io, flags)),
    );
}

/** `patchbay invoices`. */
export function addInvoices(program: Command, io: CliIo, run: Run): void {
  const invoices = program.command('invoices').description('bills: close months, check what bills say');
  invoices
    .command('verify')
    .description('make every invoice anew from the usage records; exits with 1 when anything differs')
    .addOption(json())
    .action((flags) =>
      run(flags.json, async () => (await import('./commands/invoices.ts')).invoicesVerify(io, flags)),
    );
  invoices
    .command('close')
    .description('close a month of every tenant that has not closed it; exits with 1 when one is refused')
    .argument('<month>', 'the month (UTC), such as 2028-02')
    .addOption(json())
    .action((month: string, flags) =>
      run(flags.json, async () => (await import('./commands/invoices.ts')).invoicesClose(io, month, flags)),
    );
}

/** `patchbay reconcile`. */
export function addReconcile(program: Command, io: CliIo, run: Run): void {
  program
    .command('reconcile')
    .description('compare all that was counted, charged and paid, row by row; exits with 1 when it differs')
    .requiredOption('--from <day>', 'first day (UTC), such as 2026-01-01')
    .requiredOption('--to <day>', 'day after the last one')
    .option('--tenant <tenant>', 'slug or uuid of the tenant; without it, everybody')
    .addOption(json())
    .action((flags) =>
      run(flags.json, async () => (await import('./commands/reconcile.ts')).reconcileCommand(io, flags)),
    );
}

/** `patchbay economics`. */
export function addEconomics(program: Command, io: CliIo, run: Run): void {
  program
    .command('economics')
    .description('show what adapters brought and cost in a period, and what sharing one backbone saved')
    .option('--from <day>', 'first day (UTC), such as 2026-01-01; without it, 30 days before --to')
    .option('--to <day>', 'day after the last one; without it, tomorrow')
    .addOption(
      new Option('--by <what>', 'what the lines are').choices(['adapter', 'tenant']).default('adapter'),
    )
    .addOption(json())
    .addHelpText(
      'after',
      `
Works on the operator's database, beside a running server and without one. PATCHBAY_MACHINE_PRICE says what a
machine costs for an hour.`,
    )
    .action((flags) =>
      run(flags.json, async () => (await import('./commands/economics.ts')).economicsCommand(io, flags)),
    );
}

/** `patchbay export`. */
export function addExport(program: Command, io: CliIo, run: Run): void {
  program
    .command('export')
    .description('write usage, the ledger, bills or payouts to a file, with its row count and SHA-256')
    .addOption(
      new Option('--source <name>', 'what the rows are').choices(EXPORT_SOURCES).makeOptionMandatory(),
    )
    .addOption(
      new Option('--format <name>', 'how the file is written').choices(EXPORT_FORMATS).makeOptionMandatory(),
    )
    .requiredOption('--out <file>', 'file to write; one that is there is replaced when all is written')
    .requiredOption('--from <time>', 'rows of this time and later: 2026-01-31 or 2026-01-31T12:00:00Z')
    .option('--to <time>', 'rows before this time; without it, all that can change no more')
    .option('--tenant <tenant>', "slug or uuid of the tenant; without it, all tenants' rows")
    .addOption(json())
    .addHelpText(
      'after',
      `
Works on the operator's database, beside a running server and without one. Ctrl-C leaves no half file.

Example:
  npx patchbay export --source usage --format parquet --out january.parquet --from 2026-01-01 --to 2026-02-01`,
    )
    .action((flags) =>
      run(flags.json, async () => (await import('./commands/export.ts')).exportCommand(io, flags)),
    );
}

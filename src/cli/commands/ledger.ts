import type { Config } from '../../config/index.ts';
import type { LedgerHead, LedgerReport, VerifyOptions } from '../../ledger/verify.ts';
import { withProgress } from '../../observability/progress.ts';
import { EXIT } from '../exit-codes.ts';
import { type CliIo, progressFor, UsageError } from '../io.ts';
import { withOfflineDatabase } from '../offline-database.ts';
import { table } from '../table.ts';

/** What the command line says. */
export interface LedgerVerifyFlags {
  readonly head?: string;
  readonly json: boolean;
}

/** Recomputes the ledger of the installation, with or without a running server. */
export async function ledgerVerify(io: CliIo, flags: LedgerVerifyFlags): Promise<number> {
  const expected = flags.head === undefined ? undefined : parseHead(flags.head);
  const { config } = io.loadConfig();
  const report = await withProgress(progressFor(io, flags.json), 'Verifying the ledger', (step) =>
    verify(config.data, {
      ...(expected === undefined ? {} : { expected }),
      onBatch: (done, total) => step.update(done, total, 'items'),
    }),
  );
  io.out(flags.json ? `${JSON.stringify(plain(report))}\n` : describe(report));
  return report.problems.length === 0 ? EXIT.ok : EXIT.failed;
}

async function verify(data: Config['data'], options: VerifyOptions): Promise<LedgerReport> {
  const { verifyLedger } = await import('../../ledger/verify.ts');
  return withOfflineDatabase(data, 'ledger', (database) => verifyLedger(database, options));
}

function parseHead(text: string): LedgerHead {
  const [, sequence, hash] = /^(\d{1,18}):([0-9a-f]{64})$/.exec(text) ?? [];
  if (sequence === undefined || hash === undefined) {
    throw new UsageError(
      `${JSON.stringify(text)} is not a head.`,
      'Give the sequence and the hash that an earlier run printed, such as 17:9f86d0….',
    );
  }
  return { sequence: BigInt(sequence), hash };
}

/** JSON has no integers beyond 2^53, so sequences are text. */
function plain(report: LedgerReport): unknown {
  return {
    ...report,
    head: report.head === null ? null : { ...report.head, sequence: String(report.head.sequence) },
    problems: report.problems.map((problem) => ({
      ...problem,
      batch: problem.batch === null ? null : String(problem.batch),
    })),
  };
}

function describe(report: LedgerReport): string {
  const { head, problems } = report;
  const scope = `${report.batches} batches with ${report.rows} rows; ${report.unsealed} facts wait to be sealed.\n`;
  const headLine = head === null ? '' : `head  ${head.sequence}:${head.hash}\n`;
  if (problems.length === 0) return `The ledger is whole: ${scope}${headLine}`;
  const rows = problems.map(({ batch, table: name, row, message }) => [
    batch === null ? '-' : String(batch),
    name,
    row,
    message,
  ]);
  return `The ledger was changed. The first of what was found is the first line.\n\n${table(['BATCH', 'TABLE', 'ROW', 'WHAT'], rows)}\n${scope}${headLine}`;
}

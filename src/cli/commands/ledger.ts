import { type Config, resolveSecret } from '../../config/index.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import type { LedgerHead, LedgerReport, VerifyOptions } from '../../ledger/verify.ts';
import { withProgress } from '../../observability/progress.ts';
import { EXIT } from '../exit-codes.ts';
import { type CliIo, progressFor, UsageError } from '../io.ts';
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
  const { reachDatabase } = await import('../../db/reach.ts');
  const { Database } = await import('../../db/client.ts');
  const { ensureRoles } = await import('../../db/roles.ts');
  const { sqlState } = await import('../../db/errors.ts');
  const { verifyLedger } = await import('../../ledger/verify.ts');
  const secret = await resolveSecret(data);
  const { adminUrl, release } = await reachDatabase(data);
  try {
    const urls = await ensureRoles({ adminUrl, secret });
    const database = new Database({ ...urls, applicationName: 'patchbay-verify' });
    try {
      return await verifyLedger(database, options);
    } finally {
      await database.close();
    }
  } catch (error) {
    if (!NOT_MIGRATED.has(sqlState(error) ?? '')) throw error;
    throw new PatchbayError('DATABASE_MIGRATION', 'The database has no ledger yet.', {
      fix: 'Start the server once: it brings the database up to date.',
      cause: error,
    });
  } finally {
    await release();
  }
}

/** undefined_table, and undefined_object: a role. */
const NOT_MIGRATED = new Set(['42P01', '42704']);

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

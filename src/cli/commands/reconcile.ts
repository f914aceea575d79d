import type { ReconciliationDifference } from '../../billing/reconcile.ts';
import { withProgress } from '../../observability/progress.ts';
import { EXIT } from '../exit-codes.ts';
import { type CliIo, progressFor, UsageError } from '../io.ts';
import { withOfflineDatabase } from '../offline-database.ts';
import { table } from '../table.ts';

/** What the command line says. */
export interface ReconcileFlags {
  readonly from: string;
  readonly to: string;
  readonly json: boolean;
}

/** Compares usage records, charges and the ledger of a period, with or without a running server. */
export async function reconcileCommand(io: CliIo, flags: ReconcileFlags): Promise<number> {
  const period = { from: day(flags.from, '--from'), to: day(flags.to, '--to') };
  if (period.to <= period.from) throw new UsageError('The period is empty.', 'Let --to be after --from.');
  const { config } = io.loadConfig();
  const { reconcile } = await import('../../billing/reconcile.ts');
  const differences = await withProgress(progressFor(io, flags.json), 'Reconciling', () =>
    withOfflineDatabase(config.data, 'charges', (database) => reconcile(database, period)),
  );
  io.out(flags.json ? `${JSON.stringify({ differences })}\n` : describe(differences));
  return differences.length === 0 ? EXIT.ok : EXIT.failed;
}

/** Midnight (UTC) of a day. */
function day(text: string, flag: string): Date {
  const at = new Date(`${text}T00:00:00Z`);
  // A day that no month has, such as February 30th, reads as another one.
  if (!/^\d{4}-\d{2}-\d{2}$/.test(text) || Number.isNaN(at.getTime()) || !at.toISOString().startsWith(text)) {
    throw new UsageError(`${flag} ${JSON.stringify(text)} is not a day.`, 'Give one such as 2026-01-31.');
  }
  return at;
}

function describe(differences: readonly ReconciliationDifference[]): string {
  if (differences.length === 0) return 'Usage records, charges and the ledger agree.\n';
  const rows = differences.map(({ rule, requestId, expected, actual }) => [
    rule,
    requestId,
    expected ?? '-',
    actual ?? '-',
  ]);
  return `They do not agree.\n\n${table(['RULE', 'REQUEST', 'EXPECTED', 'ACTUAL'], rows)}`;
}

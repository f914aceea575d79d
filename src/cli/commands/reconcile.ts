import type { ReconciliationDifference } from '../../billing/reconcile.ts';
import { withProgress } from '../../observability/progress.ts';
import { EXIT } from '../exit-codes.ts';
import { type CliIo, progressFor } from '../io.ts';
import { withOfflineDatabase } from '../offline-database.ts';
import { periodOf } from '../period.ts';
import { table } from '../table.ts';

/** What the command line says. */
export interface ReconcileFlags {
  readonly from: string;
  readonly to: string;
  readonly json: boolean;
}

/** Compares usage records, charges and the ledger of a period, with or without a running server. */
export async function reconcileCommand(io: CliIo, flags: ReconcileFlags): Promise<number> {
  const period = periodOf(flags);
  const { config } = io.loadConfig();
  const { reconcile } = await import('../../billing/reconcile.ts');
  const differences = await withProgress(progressFor(io, flags.json), 'Reconciling', () =>
    withOfflineDatabase(config.data, 'charges', (database) => reconcile(database, period)),
  );
  io.out(flags.json ? `${JSON.stringify({ differences })}\n` : describe(differences));
  return differences.length === 0 ? EXIT.ok : EXIT.failed;
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

import { withProgress } from '../../observability/progress.ts';
import type { ReconciliationReport } from '../../reconciliation/types.ts';
import { EXIT } from '../exit-codes.ts';
import { findTenant } from '../find-tenant.ts';
import { type CliIo, progressFor } from '../io.ts';
import { withOfflineDatabase } from '../offline-database.ts';
import { periodOf } from '../period.ts';
import { table } from '../table.ts';

/** What the command line says. */
export interface ReconcileFlags {
  readonly from: string;
  readonly to: string;
  /** Slug or id; left out: everybody. */
  readonly tenant?: string;
  readonly json: boolean;
}

/** Compares everything that was counted, charged and paid in a period, with or without a running server. */
export async function reconcileCommand(io: CliIo, flags: ReconcileFlags): Promise<number> {
  const period = periodOf(flags);
  const { config } = io.loadConfig();
  const { differencesOf, reconcile } = await import('../../reconciliation/reconcile.ts');
  const report = await withProgress(progressFor(io, flags.json), 'Reconciling', () =>
    withOfflineDatabase(config.data, 'charges', async (database) => {
      const tenantId = flags.tenant === undefined ? null : await findTenant(database, flags.tenant);
      return reconcile(database, { ...period, tenantId });
    }),
  );
  const count = differencesOf(report);
  io.out(flags.json ? `${JSON.stringify(report)}\n` : describe(report, count));
  return count === 0 ? EXIT.ok : EXIT.failed;
}

function describe({ counts, differences, requests, uncounted }: ReconciliationReport, count: number): string {
  const told = `${requests} requests; the engine told no counts of ${uncounted}.\n`;
  if (count === 0) return `Everything that was counted, charged and paid agrees. ${told}`;
  const rules = counts.filter((one) => one.differences > 0).map((one) => [one.rule, String(one.differences)]);
  const rows = differences.map(({ rule, subject, subjectId, tenantId, detail, expected, actual }) => [
    rule,
    `${subject} ${subjectId}`,
    tenantId ?? '-',
    detail ?? '-',
    expected ?? '-',
    actual ?? '-',
  ]);
  const header = ['RULE', 'SUBJECT', 'TENANT', 'DETAIL', 'EXPECTED', 'ACTUAL'];
  return `It does not agree. ${told}\n${table(['RULE', 'DIFFERENCES'], rules)}\n${table(header, rows)}`;
}

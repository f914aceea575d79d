import { withProgress } from '../../observability/progress.ts';
import type { ReconciliationReport } from '../../reconciliation/types.ts';
import { EXIT } from '../exit-codes.ts';
import { findTenant } from '../find-tenant.ts';
import { type CliIo, progressFor, UsageError } from '../io.ts';
import { withOfflineDatabase } from '../offline-database.ts';
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
  const period = { from: day(flags.from, '--from'), to: day(flags.to, '--to') };
  if (period.to <= period.from) throw new UsageError('The period is empty.', 'Let --to be after --from.');
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

/** Midnight (UTC) of a day. */
function day(text: string, flag: string): Date {
  const at = new Date(`${text}T00:00:00Z`);
  // A day that no month has, such as February 30th, reads as another one.
  if (!/^\d{4}-\d{2}-\d{2}$/.test(text) || Number.isNaN(at.getTime()) || !at.toISOString().startsWith(text)) {
    throw new UsageError(`${flag} ${JSON.stringify(text)} is not a day.`, 'Give one such as 2026-01-31.');
  }
  return at;
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

import type { Database } from '../db/client.ts';
import type { Uuid } from '../kernel/ids.ts';
import { reconcile } from '../reconciliation/reconcile.ts';
import { requireReconciled } from '../reconciliation/require.ts';
import type { ReconciliationRule } from '../reconciliation/types.ts';

/** What has to agree before earnings are paid. */
const RULES: readonly ReconciliationRule[] = [
  'CAPTURE_RECORD',
  'EARNINGS',
  'STATEMENT_EARNED',
  'STATEMENT_PAID',
  'PAYOUT_MONEY',
  'PAYOUT_HOLD',
  'PAYOUT_BATCH',
];

/** Transactions are dated from their beginning, so one that began before an earlier batch may have ended after it. */
const OVERLAP_MS = 3_600_000;

/**
 * Throws RECONCILIATION_FAILED when the earnings that a draft pays do not agree with the usage records, or its own money does
 * not: everything from the batch before it, with which the rest was looked at, up to its making. Of a batch that is no draft
 * nothing is asked.
 */
export async function requireEarningsAgree(
  database: Pick<Database, 'querySystem' | 'withSystemPg'>,
  batchId: Uuid,
): Promise<void> {
  const [row] = await database.querySystem<{ readonly since: Date | null; readonly made: Date }>(
    `SELECT b.created_at AS made,
            (SELECT max(o.earned_before) FROM payout_batch o
             WHERE o.currency = b.currency AND o.approved_at IS NOT NULL AND o.earned_before < b.earned_before) AS since
     FROM payout_batch b WHERE b.id = $1 AND b.state = 'DRAFT'`,
    [batchId],
  );
  if (row === undefined) return;
  const scope = {
    from: new Date(Math.max(0, (row.since?.getTime() ?? 0) - OVERLAP_MS)),
    to: new Date(row.made.getTime() + 1),
    tenantId: null,
  };
  requireReconciled(await reconcile(database, scope, RULES), 'batch');
}

import { PatchbayError } from '../kernel/errors.ts';
import { differencesOf } from './reconcile.ts';
import type { Comparison, ReconciliationDifference } from './types.ts';

/** Of so many differences the error tells; the others are in the report. */
const SHOWN_MAX = 5;

/** Throws RECONCILIATION_FAILED, with the first differences, when anything differs. */
export function requireReconciled(report: Comparison, field: string): void {
  const count = differencesOf(report);
  if (count === 0) return;
  const { from, to, tenantId } = report;
  throw new PatchbayError(
    'RECONCILIATION_FAILED',
    `The books of the period do not agree: ${count} differences.`,
    {
      field,
      meta: {
        differences: count,
        from: from.toISOString(),
        to: to.toISOString(),
        tenant: tenantId,
        first: report.differences.slice(0, SHOWN_MAX).map(describeDifference).join('; '),
      },
    },
  );
}

/** A difference in words. */
function describeDifference(difference: ReconciliationDifference): string {
  const { rule, subject, subjectId, detail, expected, actual } = difference;
  const part = detail === null ? '' : ` (${detail})`;
  return `${rule} ${subject} ${subjectId}${part}: expected ${expected ?? 'nothing'}, found ${actual ?? 'nothing'}`;
}

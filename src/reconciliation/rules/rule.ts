import type { PoolClient } from 'pg';
import type { Uuid } from '../../kernel/ids.ts';
import {
  DIFFERENCES_MAX,
  type ReconciliationRule,
  type ReconciliationScope,
  type ReconciliationSubject,
  type RuleFindings,
} from '../types.ts';

/**
 * A rule as SQL: it selects `subject_id, tenant_id, detail, expected, actual` of what does not agree, all of them text. Of the
 * scope, `$1` is the first instant, `$2` the first one after it, and `$3` the tenant, or null.
 */
export interface SqlRule {
  readonly rule: ReconciliationRule;
  readonly subject: ReconciliationSubject;
  readonly sql: string;
}

/** Whether a time and a tenant, as columns, are within the scope. */
export function inScope(at: string, tenant: string): string {
  return `${inPeriod(at)} AND ($3::uuid IS NULL OR ${tenant} = $3::uuid)`;
}

/** Whether a time, as a column, is within the scope. */
export function inPeriod(at: string): string {
  return `${at} >= $1::timestamptz AND ${at} < $2::timestamptz`;
}

/** The usage records of the scope that have a price, as a CTE. */
export const PRICED_RECORDS = `record AS (
  SELECT * FROM usage_record r WHERE ${inScope('r.ended_at', 'r.tenant_id')} AND r.amount_nano IS NOT NULL)`;

interface Row {
  readonly subject_id: Uuid;
  readonly tenant_id: Uuid | null;
  readonly detail: string | null;
  readonly expected: string | null;
  readonly actual: string | null;
  readonly total: number;
}

/** Runs a rule in the transaction of the client. */
export async function runRule(
  client: PoolClient,
  { rule, subject, sql }: SqlRule,
  { from, to, tenantId, distributorId }: ReconciliationScope,
): Promise<RuleFindings> {
  const ofDistributor = subject === 'DISTRIBUTOR' ? 'd.subject_id = $4::uuid' : 'true';
  const { rows } = await client.query<Row>(
    // Names every part of the scope, because a rule need not.
    `SELECT d.*, count(*) OVER ()::integer AS total FROM (${sql}) d
     WHERE $1::timestamptz < $2::timestamptz AND ($3::uuid IS NULL OR true) AND ($4::uuid IS NULL OR ${ofDistributor})
     ORDER BY subject_id, detail LIMIT ${DIFFERENCES_MAX}`,
    [from.toISOString(), to.toISOString(), tenantId, distributorId ?? null],
  );
  const differences = rows.map((row) => ({
    rule,
    subject,
    subjectId: row.subject_id,
    tenantId: row.tenant_id,
    detail: row.detail,
    expected: row.expected,
    actual: row.actual,
  }));
  return { count: rows[0]?.total ?? 0, differences };
}

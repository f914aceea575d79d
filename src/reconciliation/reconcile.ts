import type { PoolClient } from 'pg';
import type { Database } from '../db/client.ts';
import { CHAIN_RULES } from './rules/chain.ts';
import { CHARGE_RULES } from './rules/charges.ts';
import { ENGINE_RULES } from './rules/engine.ts';
import { checkInvoices, INVOICE_RULES } from './rules/invoices.ts';
import { LEDGER_RULES } from './rules/ledger.ts';
import { PAYOUT_RULES } from './rules/payouts.ts';
import { RECEIPT_RULES } from './rules/receipts.ts';
import { inScope, runRule } from './rules/rule.ts';
import {
  type Comparison,
  RECONCILIATION_RULES,
  type ReconciliationReport,
  type ReconciliationRule,
  type ReconciliationScope,
  type RuleFindings,
} from './types.ts';

const SQL_RULES = [
  ...ENGINE_RULES,
  ...CHARGE_RULES,
  ...LEDGER_RULES,
  ...RECEIPT_RULES,
  ...INVOICE_RULES,
  ...PAYOUT_RULES,
  ...CHAIN_RULES,
];

/**
 * Compares what the engine counted, usage records, charges, the ledger, invoices and payouts of a period, row by row, in one
 * snapshot. Reads everything of the period: for closing it and for audits.
 */
export function reconcile(
  database: Pick<Database, 'withSystemPg'>,
  scope: ReconciliationScope,
  rules: readonly ReconciliationRule[] = RECONCILIATION_RULES,
): Promise<ReconciliationReport> {
  return inSnapshot(database, (client) => reconcileIn(client, scope, rules));
}

/** {@link reconcile} in a transaction that is open and reads one snapshot. */
export async function reconcileIn(
  client: PoolClient,
  scope: ReconciliationScope,
  rules: readonly ReconciliationRule[] = RECONCILIATION_RULES,
): Promise<ReconciliationReport> {
  return { ...(await compareIn(client, scope, rules)), ...(await countRecords(client, scope)) };
}

/** {@link reconcile} by some rules, without looking at usage records that none of them is about. */
export function compare(
  database: Pick<Database, 'withSystemPg'>,
  scope: ReconciliationScope,
  rules: readonly ReconciliationRule[],
): Promise<Comparison> {
  return inSnapshot(database, (client) => compareIn(client, scope, rules));
}

function inSnapshot<T>(
  database: Pick<Database, 'withSystemPg'>,
  work: (client: PoolClient) => Promise<T>,
): Promise<T> {
  return database.withSystemPg(async (client) => {
    await client.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY');
    await client.query('SET LOCAL statement_timeout = 0');
    await client.query('SET LOCAL idle_in_transaction_session_timeout = 0');
    return work(client);
  });
}

async function compareIn(
  client: PoolClient,
  scope: ReconciliationScope,
  rules: readonly ReconciliationRule[],
): Promise<Comparison> {
  const found = new Map<ReconciliationRule, RuleFindings>();
  for (const rule of SQL_RULES) {
    if (rules.includes(rule.rule)) found.set(rule.rule, await runRule(client, rule, scope));
  }
  if (rules.includes('INVOICE_DOCUMENT') || rules.includes('INVOICE_POSTINGS')) {
    for (const [rule, findings] of await checkInvoices(client, scope)) found.set(rule, findings);
  }
  const wanted = RECONCILIATION_RULES.filter((rule) => rules.includes(rule));
  return {
    ...scope,
    counts: wanted.map((rule) => ({ rule, differences: found.get(rule)?.count ?? 0 })),
    differences: wanted.flatMap((rule) => found.get(rule)?.differences ?? []),
  };
}

/** How many differences a report counts. */
export function differencesOf({ counts }: Pick<ReconciliationReport, 'counts'>): number {
  return counts.reduce((sum, { differences }) => sum + differences, 0);
}

async function countRecords(
  client: PoolClient,
  { from, to, tenantId }: ReconciliationScope,
): Promise<Pick<ReconciliationReport, 'requests' | 'uncounted'>> {
  const { rows } = await client.query<{ readonly requests: number; readonly uncounted: number }>(
    `SELECT count(*)::integer AS requests, count(*) FILTER (WHERE engine_prompt_tokens IS NULL)::integer AS uncounted
     FROM usage_record WHERE ${inScope('ended_at', 'tenant_id')}`,
    [from.toISOString(), to.toISOString(), tenantId],
  );
  return rows[0] ?? { requests: 0, uncounted: 0 };
}

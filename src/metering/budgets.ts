import type { PoolClient } from 'pg';
import { BUDGET_PERIODS, BUDGET_SCOPES, type BudgetRefusal } from '../kernel/budget.ts';
import { invariant } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { Admission, Settlement } from './types.ts';

interface RefusedRow {
  readonly request_id: Uuid;
  readonly budget_id: Uuid;
  readonly scope: string;
  readonly subject_id: Uuid | null;
  readonly period: string;
  readonly start: Date;
  readonly limit_nano: string;
  readonly spent_nano: string;
  readonly held_nano: string;
  readonly amount_nano: string;
}

/** What a request that ended cost in the end; nothing, when it never ran. */
export interface Ending {
  readonly requestId: Uuid;
  readonly charge: Settlement['charge'];
}

/**
 * Charges budgets with admissions of the open transaction, and turns what ended requests held into what they spent;
 * answers the admissions that do not fit. Everybody locks the rows of budgets after the accounts of the ledger and
 * before the rows of quotas.
 */
export async function chargeBudgets(
  client: Pick<PoolClient, 'query'>,
  admissions: readonly Admission[],
  endings: readonly Ending[],
): Promise<ReadonlyMap<Uuid, BudgetRefusal>> {
  const charges = admissions.filter(({ charge }) => charge.amount > 0n);
  if (charges.length === 0 && endings.length === 0) return new Map();
  const { rows } = await client.query<RefusedRow>({
    name: 'metering_charge_budgets',
    text: 'SELECT * FROM patchbay.charge_budgets($1, $2)',
    values: [JSON.stringify(charges.map(chargeRow)), JSON.stringify(endings.map(endingRow))],
  });
  return new Map(rows.map((row) => [row.request_id, toRefusal(row)]));
}

function chargeRow({ requestId, tenantId, keyId, charge }: Admission, index: number) {
  return {
    ord: index + 1,
    id: requestId,
    tenant_id: tenantId,
    key_id: keyId,
    amount: String(charge.amount),
    adapters: Object.fromEntries([...charge.adapters].map(([id, amount]) => [id, String(amount)])),
  };
}

function endingRow({ requestId, charge }: Ending) {
  const adapters: Record<Uuid, string> = {};
  for (const { adapter, input, cached, output, rank, royalty } of charge?.parts ?? []) {
    if (adapter === null) continue;
    const before = BigInt(adapters[adapter.adapterId] ?? 0n);
    adapters[adapter.adapterId] = String(before + input + cached + output + rank + royalty);
  }
  return { id: requestId, amount: String(charge?.amount ?? 0n), adapters };
}

function toRefusal(row: RefusedRow): BudgetRefusal {
  const scope = BUDGET_SCOPES.find((name) => name === row.scope);
  const period = BUDGET_PERIODS.find((name) => name === row.period);
  invariant(scope !== undefined && period !== undefined, 'a budget has a known scope and period');
  return {
    budgetId: row.budget_id,
    scope,
    subjectId: row.subject_id,
    period,
    start: row.start,
    limit: BigInt(row.limit_nano),
    spent: BigInt(row.spent_nano),
    held: BigInt(row.held_nano),
    amount: BigInt(row.amount_nano),
  };
}

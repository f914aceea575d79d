import { z } from 'zod';
import type { Tx } from '../db/client.ts';
import { invariant } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { BUDGET_PERIODS, type BudgetPeriod, periodAt } from './budget-period.ts';
import { type BudgetScope, WHOLE_TENANT } from './budget-terms.ts';

/** A budget and what is taken of its present period. Amounts are nano-units of the currency. */
export interface BudgetState {
  readonly id: Uuid;
  readonly tenantId: Uuid;
  readonly scope: BudgetScope;
  /** The key or the adapter; null for the whole tenant. */
  readonly subjectId: Uuid | null;
  readonly period: BudgetPeriod;
  readonly currency: string;
  readonly limit: bigint;
  readonly alertsPpm: readonly number[];
  /** What ended requests have cost. */
  readonly spent: bigint;
  /** The most that running requests may cost. */
  readonly held: bigint;
  /** What may still be held; zero when a limit was set below what is taken. */
  readonly left: bigint;
  readonly start: Date;
  /** When it begins at zero again. */
  readonly resetsAt: Date;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

const rows = z.array(
  z.object({
    id: z.string(),
    tenant_id: z.string(),
    scope: z.enum(['TENANT', 'KEY', 'ADAPTER']),
    subject_id: z.string(),
    period: z.enum(BUDGET_PERIODS),
    currency: z.string(),
    limit_nano: z.bigint(),
    alerts_ppm: z.array(z.number()),
    spent_nano: z.bigint(),
    held_nano: z.bigint(),
    created_at: z.date(),
    updated_at: z.date(),
    start: z.date(),
    at: z.date(),
  }),
);

/** Every budget of the transaction's tenant, the oldest first. */
export async function readBudgets(tx: Tx): Promise<readonly BudgetState[]> {
  return select(tx, null);
}

/** One of them, or null. */
export async function readBudget(tx: Tx, id: Uuid): Promise<BudgetState | null> {
  const [found] = await select(tx, id);
  return found ?? null;
}

/** The time is the database's, because that is the one that charges are counted by. */
async function select(tx: Tx, id: Uuid | null): Promise<readonly BudgetState[]> {
  const found = rows.parse(
    await tx.$queryRaw`
      SELECT b.id, b.tenant_id, b.scope, b.subject_id, b.period, b.currency, b.limit_nano, b.alerts_ppm,
             coalesce(p.spent_nano, 0) AS spent_nano, coalesce(p.held_nano, 0) AS held_nano, b.created_at,
             b.updated_at, s.start, now() AS at
      FROM budget b
      CROSS JOIN LATERAL (SELECT date_trunc(lower(b.period), now(), 'UTC') AS start) s
      LEFT JOIN budget_period p ON p.budget_id = b.id AND p.start = s.start
      WHERE ${id}::uuid IS NULL OR b.id = ${id}::uuid
      ORDER BY b.id`,
  );
  return found.map((row) => {
    const { start, end } = periodAt(row.period, row.at);
    invariant(start.getTime() === row.start.getTime(), 'the database counts periods as the program does');
    const left = row.limit_nano - row.spent_nano - row.held_nano;
    return {
      id: row.id,
      tenantId: row.tenant_id,
      scope: row.scope,
      subjectId: row.subject_id === WHOLE_TENANT ? null : row.subject_id,
      period: row.period,
      currency: row.currency,
      limit: row.limit_nano,
      alertsPpm: row.alerts_ppm,
      spent: row.spent_nano,
      held: row.held_nano,
      left: left > 0n ? left : 0n,
      start,
      resetsAt: end,
      createdAt: row.created_at,
      updatedAt: row.updated_at,
    };
  });
}

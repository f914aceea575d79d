import { PatchbayError } from './errors.ts';
import type { Uuid } from './ids.ts';
import { formatMoney } from './money.ts';

/** Whose spending a budget bounds. */
export const BUDGET_SCOPES = ['TENANT', 'KEY', 'ADAPTER'] as const;
export type BudgetScope = (typeof BUDGET_SCOPES)[number];

/** For how long; periods are those of the calendar, in UTC. */
export const BUDGET_PERIODS = ['DAY', 'MONTH'] as const;
export type BudgetPeriod = (typeof BUDGET_PERIODS)[number];

/** A request that may cost more than a budget has left. Amounts are nano-units. */
export interface BudgetRefusal {
  readonly budgetId: Uuid;
  readonly scope: BudgetScope;
  /** The key or the adapter; null for the whole tenant. */
  readonly subjectId: Uuid | null;
  readonly period: BudgetPeriod;
  /** When the period began. */
  readonly start: Date;
  readonly limit: bigint;
  readonly spent: bigint;
  /** What running requests hold. */
  readonly held: bigint;
  /** What the request may cost the budget. */
  readonly amount: bigint;
}

/** A request that may cost more than its tenant has. */
export interface FundsRefusal {
  readonly amount: bigint;
  readonly available: bigint;
}

/** What a refused request would have been charged at most, so that its sender need not ask. */
export interface RefusedQuote {
  readonly currency: string;
  readonly maximum: bigint;
  readonly promptTokens: number;
  readonly maxTokens: number;
}

/** When the period after the one that begins at the time begins. */
export function nextPeriod(period: BudgetPeriod, start: Date): Date {
  const next = new Date(start);
  if (period === 'DAY') next.setUTCDate(next.getUTCDate() + 1);
  else next.setUTCMonth(next.getUTCMonth() + 1);
  return next;
}

const WHOSE: Readonly<Record<BudgetScope, string>> = {
  TENANT: 'the tenant',
  KEY: 'the key',
  ADAPTER: 'the adapter',
};

/** The error of a request that does not fit into a budget, with its quote. */
export function overBudget(refusal: BudgetRefusal, quote: RefusedQuote): PatchbayError {
  const { scope, period, start, limit, spent, held, amount } = refusal;
  const left = limit - spent - held;
  const resetsAt = nextPeriod(period, start).toISOString();
  const words = period === 'DAY' ? 'today' : 'this month';
  return new PatchbayError(
    'BUDGET_EXCEEDED',
    `The request may cost ${formatMoney(amount)} ${quote.currency}, and the budget of ${WHOSE[scope]} has ` +
      `${formatMoney(left)} left for ${words}.`,
    {
      fix: `Ask for fewer tokens, raise the budget, or wait until ${resetsAt}.`,
      meta: {
        ...quoteMeta(quote),
        budgetId: refusal.budgetId,
        scope,
        subjectId: refusal.subjectId,
        period,
        limit: formatMoney(limit),
        spent: formatMoney(spent),
        held: formatMoney(held),
        resetsAt,
      },
    },
  );
}

/** The error of a request that its tenant cannot pay, with its quote. */
export function outOfFunds({ amount, available }: FundsRefusal, quote: RefusedQuote): PatchbayError {
  return new PatchbayError(
    'BUDGET_EXCEEDED',
    `The request may cost ${formatMoney(amount)} ${quote.currency}, and the account has ` +
      `${formatMoney(available)} available.`,
    { meta: { ...quoteMeta(quote), available: formatMoney(available) } },
  );
}

function quoteMeta({ currency, maximum, promptTokens, maxTokens }: RefusedQuote) {
  return { currency, maximum: formatMoney(maximum), promptTokens, maxTokens };
}

/** For how long a budget counts what is spent before it begins at zero again. Days and months are those of UTC. */
export const BUDGET_PERIODS = ['DAY', 'MONTH'] as const;
export type BudgetPeriod = (typeof BUDGET_PERIODS)[number];

/** The period that a time is in; `end` belongs to the next one. */
export function periodAt(period: BudgetPeriod, at: Date): { readonly start: Date; readonly end: Date } {
  const [year, month, day] = [at.getUTCFullYear(), at.getUTCMonth(), at.getUTCDate()];
  return period === 'DAY'
    ? { start: utc(year, month, day), end: utc(year, month, day + 1) }
    : { start: utc(year, month, 1), end: utc(year, month + 1, 1) };
}

/** Months and days beyond the last one run on into the next year or month. */
function utc(year: number, month: number, day: number): Date {
  return new Date(Date.UTC(year, month, day));
}

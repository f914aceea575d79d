import { z } from 'zod';
import type { Tx } from '../db/client.ts';
import type { Page } from '../db/page.ts';
import type { Uuid } from '../kernel/ids.ts';
import { BUDGET_PERIODS, periodAt } from './budget-period.ts';

/** What was taken of a budget in one of its periods, the present one among them. */
export interface PeriodUse {
  readonly start: Date;
  /** Null, as is the limit, for a period from before these were kept. */
  readonly end: Date | null;
  /** The limit that bounded it last. */
  readonly limit: bigint | null;
  readonly spent: bigint;
  readonly held: bigint;
  /** The thresholds that were told of or passed over, rising. */
  readonly alertsReachedPpm: readonly number[];
}

/** So many periods, the latest first; those that began before a time. */
export interface PeriodUsePage {
  readonly first: number;
  readonly before: Date | null;
}

const rows = z.array(
  z.object({
    start: z.date(),
    period: z.enum(BUDGET_PERIODS).nullable(),
    limit_nano: z.bigint().nullable(),
    spent_nano: z.bigint(),
    held_nano: z.bigint(),
    alerts: z.array(z.number()),
  }),
);

/** Periods of a budget of the transaction's tenant in which something was admitted, also when the budget is gone. */
export async function readUses(
  tx: Tx,
  budgetId: Uuid,
  { first, before }: PeriodUsePage,
): Promise<Page<PeriodUse>> {
  const found = rows.parse(
    await tx.$queryRaw`
      SELECT p.start, p.period, p.limit_nano, p.spent_nano, p.held_nano,
             ARRAY(SELECT a.ppm FROM unnest(p.alerts_ppm) AS a(ppm) WHERE a.ppm <= p.alerted_ppm ORDER BY 1) AS alerts
      FROM budget_period p
      WHERE p.budget_id = ${budgetId}::uuid AND (${before}::timestamptz IS NULL OR p.start < ${before}::timestamptz)
      ORDER BY p.start DESC LIMIT ${first + 1}`,
  );
  const items = found.slice(0, first).map((row) => ({
    start: row.start,
    end: row.period === null ? null : periodAt(row.period, row.start).end,
    limit: row.limit_nano,
    spent: row.spent_nano,
    held: row.held_nano,
    alertsReachedPpm: row.alerts,
  }));
  return { items, hasNextPage: found.length > first };
}

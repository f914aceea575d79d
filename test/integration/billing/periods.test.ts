import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BUDGET_PERIODS, periodAt } from '../../../src/billing/budget-period.ts';
import { chargeStatement } from './charge.ts';
import { failure, type MoneyKit, openMoney } from './money-kit.ts';

let kit: MoneyKit;
beforeAll(async () => {
  kit = await openMoney();
});
afterAll(() => kit.db.dispose());

const INSTANTS = [
  ...['2028-02-28T23:59:59.999Z', '2028-02-29T00:00:00Z', '2028-02-29T23:59:59.999Z', '2028-03-01T00:00:00Z'],
  ...['2027-02-28T23:59:59.999Z', '2027-03-01T00:00:00Z', '2100-02-28T23:59:59.999Z', '2100-03-01T00:00:00Z'],
  ...['2026-12-31T23:59:59.999Z', '2027-01-01T00:00:00Z', '2026-10-25T00:59:59.999Z', '2026-10-25T01:00:00Z'],
  ...['2026-03-29T00:59:59.999Z', '2026-03-29T01:00:00Z', '2026-04-30T23:59:59.999Z', '2026-05-01T00:00:00Z'],
];

describe('a period begins', () => {
  test('where the database says, at ends of days, months and years, in leap years and in any time zone', async () => {
    for (const zone of ['UTC', 'Pacific/Auckland', 'America/Los_Angeles', 'Europe/Berlin']) {
      const client = new pg.Client({ connectionString: kit.db.systemUrl });
      await client.connect();
      await client.query(`SELECT set_config('timezone', $1, false)`, [zone]);
      for (const at of INSTANTS) {
        for (const period of BUDGET_PERIODS) {
          // The expression is that of patchbay.charge_budgets.
          const { rows } = await client.query<{ start: Date }>(
            `SELECT date_trunc($1, $2::timestamptz, 'UTC') AS start`,
            [period.toLowerCase(), at],
          );
          expect(rows[0]?.start, `${period} of ${at} in ${zone}`).toEqual(
            periodAt(period, new Date(at)).start,
          );
        }
      }
      await client.end();
    }
  });

  test('in UTC for whoever charges, whatever the time zone of the session', async () => {
    const customer = await kit.customer();
    await kit.setBudget(customer);
    await kit.setBudget(customer, { period: 'MONTH' });
    const client = new pg.Client({ connectionString: kit.db.systemUrl });
    await client.connect();
    for (const zone of ['Pacific/Kiritimati', 'Pacific/Pago_Pago']) {
      await client.query(`SELECT set_config('timezone', $1, false)`, [zone]);
      const { text, values } = chargeStatement([kit.charge(customer, 1n)]);
      await client.query(text, values);
    }
    await client.end();
    // Between the two zones it is never the same day; both charged the one of UTC.
    for (const budget of await kit.budgets.list(customer.actor, null)) {
      const rows = await kit.db.admin('SELECT start, held_nano FROM budget_period WHERE budget_id = $1', [
        budget.id,
      ]);
      expect(rows).toEqual([{ start: budget.start, held_nano: '2' }]);
    }
  });
});

/** Moves what was charged of a budget into an earlier period, as if the time had gone on. */
async function later(budgetId: string, by: string): Promise<void> {
  for (const table of ['budget_period', 'budget_hold']) {
    await kit.db.admin(`UPDATE ${table} SET start = start - $2::interval WHERE budget_id = $1`, [
      budgetId,
      by,
    ]);
  }
}

describe('when a period is over', () => {
  test.each([
    ['DAY', '1 day'],
    ['MONTH', '1 month'],
  ] as const)('a %s begins at zero, and what was admitted before counts where it was', async (period, by) => {
    const customer = await kit.customer();
    const { id } = await kit.setBudget(customer, { period, alertsPpm: [500_000] });
    const charge = kit.charge(customer, 100n);
    await kit.round([charge]);
    expect(await kit.round([kit.charge(customer, 1n)])).toHaveLength(1);
    await later(id, by);
    expect(await kit.budgets.list(customer.actor, null)).toMatchObject([{ spent: 0n, held: 0n, left: 100n }]);
    expect(await kit.round([kit.charge(customer, 70n)])).toEqual([]);
    // It ends in the next period and is spent in its own.
    await kit.round([], [{ id: charge.id, amount: 95n }]);
    const rows = await kit.db.admin(
      'SELECT spent_nano, held_nano FROM budget_period WHERE budget_id = $1 ORDER BY start',
      [id],
    );
    expect(rows).toEqual([
      { spent_nano: '95', held_nano: '0' },
      { spent_nano: '0', held_nano: '70' },
    ]);
    expect(await kit.events(customer.tenantId)).toMatchObject([
      { kind: 'budget.exhausted', payload: { spentNano: '0', heldNano: '100', period } },
      { kind: 'budget.threshold', payload: { spentNano: '95', period } },
    ]);
    expect(await kit.budgets.list(customer.actor, null)).toMatchObject([{ spent: 0n, held: 70n, left: 30n }]);
  });
});

describe('what was taken of earlier periods', () => {
  test('can be read with the limit and the thresholds that they had, also when the budget is gone', async () => {
    const customer = await kit.customer();
    const { id } = await kit.setBudget(customer, { alertsPpm: [500_000, 900_000] });
    const spend = async (amount: bigint): Promise<void> => {
      const charge = kit.charge(customer, amount);
      expect(await kit.round([charge])).toEqual([]);
      await kit.round([], [{ id: charge.id, amount }]);
    };
    const uses = async (first = 10, before: Date | null = null) =>
      kit.budgets.uses(customer.actor, { tenantId: null, budgetId: id }, { first, before });
    // The present one is there from the beginning.
    expect(await uses()).toMatchObject({ items: [{ spent: 0n, held: 0n }], hasNextPage: false });
    await spend(60n);
    await later(id, '1 day');
    await kit.setBudget(customer, { limit: 200n, alertsPpm: [250_000, 300_000, 800_000] });
    await spend(60n);
    const [budget] = await kit.budgets.list(customer.actor, null);
    const today = budget?.start ?? new Date(0);
    const yesterday = new Date(today.getTime() - 86_400_000);
    const present = { start: today, end: budget?.resetsAt, spent: 60n, held: 0n };
    const past = {
      start: yesterday,
      end: today,
      limit: 100n,
      spent: 60n,
      held: 0n,
      alertsReachedPpm: [500_000],
    };
    expect(await uses()).toEqual({
      items: [{ ...present, limit: 200n, alertsReachedPpm: [250_000, 300_000] }, past],
      hasNextPage: false,
    });
    // A new limit bounds the present period, and none before it.
    await kit.setBudget(customer, { limit: 230n });
    expect((await uses()).items).toEqual([{ ...present, limit: 230n, alertsReachedPpm: [250_000] }, past]);
    expect(await uses(1)).toMatchObject({ items: [{ limit: 230n }], hasNextPage: true });
    expect(await uses(1, today)).toEqual({ items: [past], hasNextPage: false });
    await kit.budgets.remove(customer.actor, { idempotencyKey: randomUUID(), budgetId: id });
    expect((await uses()).items).toHaveLength(2);
    // Of somebody else's there are none.
    const stranger = await kit.customer();
    const theirs = kit.budgets.uses(
      stranger.actor,
      { tenantId: null, budgetId: id },
      { first: 1, before: null },
    );
    expect(await theirs).toEqual({ items: [], hasNextPage: false });
    const asked = { tenantId: customer.tenantId, budgetId: id };
    expect(await failure(kit.budgets.uses(stranger.actor, asked, { first: 1, before: null }))).toBe(
      'NOT_FOUND tenant',
    );
    expect(await failure(uses(0))).toBe('BAD_INPUT first');
  });
});

describe('a threshold', () => {
  test('is told once a period, the highest that was passed, in the transaction that passed it', async () => {
    const customer = await kit.customer();
    const budget = await kit.setBudget(customer, { alertsPpm: [250_000, 500_000, 900_000, 1_000_000] });
    const spend = async (amount: bigint): Promise<void> => {
      const charge = kit.charge(customer, amount);
      await kit.round([charge]);
      await kit.round([], [{ id: charge.id, amount }]);
    };
    const told = async () =>
      (await kit.events(customer.tenantId)).map(({ payload }) => [
        payload['thresholdPpm'],
        payload['spentNano'],
      ]);
    await spend(24n);
    expect(await told()).toEqual([]);
    await spend(1n);
    expect(await told()).toEqual([[250_000, '25']]);
    await spend(2n);
    await spend(65n);
    expect(await told()).toEqual([
      [250_000, '25'],
      [900_000, '92'],
    ]);
    await spend(8n);
    await spend(0n);
    expect(await told()).toEqual([
      [250_000, '25'],
      [900_000, '92'],
      [1_000_000, '100'],
    ]);
    expect(await kit.events(customer.tenantId)).toMatchObject([
      {
        kind: 'budget.threshold',
        subject_id: budget.id,
        payload: { scope: 'TENANT', subjectId: null, currency: 'USD', limitNano: '100', period: 'DAY' },
      },
      {},
      {},
    ]);
  });

  test('is not told when what passed it is undone', async () => {
    const customer = await kit.customer();
    await kit.setBudget(customer, { alertsPpm: [1] });
    const charge = kit.charge(customer, 10n);
    await kit.round([charge]);
    const { text, values } = chargeStatement([], [{ id: charge.id, amount: 10n }]);
    await expect(
      kit.db.database.withSystemPg(async (client) => {
        await client.query(text, values);
        throw new Error('undone');
      }),
    ).rejects.toThrow('undone');
    expect(await kit.events(customer.tenantId)).toEqual([]);
    await kit.round([], [{ id: charge.id, amount: 10n }]);
    expect(await kit.events(customer.tenantId)).toHaveLength(1);
  });

  test('counts again when the limit is raised above it, and is told at once of a limit that was lowered', async () => {
    const customer = await kit.customer();
    await kit.setBudget(customer, { alertsPpm: [500_000, 800_000] });
    const spend = async (amount: bigint): Promise<void> => {
      const charge = kit.charge(customer, amount);
      expect(await kit.round([charge])).toEqual([]);
      await kit.round([], [{ id: charge.id, amount }]);
    };
    const told = async () =>
      (await kit.events(customer.tenantId)).map(({ payload }) => [
        payload['thresholdPpm'],
        payload['limitNano'],
      ]);
    await spend(80n);
    expect(await told()).toEqual([[800_000, '100']]);
    // 80 of 160 is a half, which was passed on the way; 80 of 400 is nothing.
    await kit.setBudget(customer, { limit: 160n });
    await spend(1n);
    expect(await told()).toHaveLength(1);
    await kit.setBudget(customer, { limit: 400n });
    await spend(119n);
    expect((await told()).at(-1)).toEqual([500_000, '400']);
    await kit.setBudget(customer, { limit: 220n });
    await spend(1n);
    expect((await told()).at(-1)).toEqual([800_000, '220']);
    expect(await told()).toHaveLength(3);
  });
});

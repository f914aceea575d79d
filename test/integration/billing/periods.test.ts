import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BUDGET_PERIODS, periodAt } from '../../../src/billing/budget-period.ts';
import { chargeStatement } from './charge.ts';
import { type MoneyKit, openMoney } from './money-kit.ts';

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

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { newId } from '../../../src/kernel/ids.ts';
import { codeOf, DAY_MS, newCurrency, openPayoutsKit, type PayoutsKit, UNIT } from './kit.ts';

let kit: PayoutsKit;
beforeAll(async () => {
  kit = await openPayoutsKit();
});
afterAll(() => kit.dispose());

const at = (time: string): void => kit.clock.advance(Date.parse(time) - kit.clock.nowMs());

test('a statement tells a month by adapter version, and the months follow from each other', async () => {
  const currency = newCurrency();
  at('2028-02-28T00:00:00Z');
  const who = await kit.beneficiary(currency);
  const [poet = '', sorter = ''] = [newId(kit.clock), newId(kit.clock)].sort();
  await kit.earn(who, currency, 40n * UNIT, poet);
  // The last millisecond of a leap day, and the first of the month after it.
  at('2028-02-29T23:59:59.999Z');
  await kit.earn(who, currency, 2n ** 60n / 16n, sorter);
  at('2028-03-01T00:00:00Z');
  await kit.earn(who, currency, 5n, poet);
  await kit.earn(who, currency, 7n, poet);
  await kit.correct(who, currency, -3n, poet);
  await kit.correct(who, currency, 2n);
  at('2028-03-20T00:00:00Z');
  const batch = await kit.submitted(currency);
  await kit.say(
    (await kit.payoutsOf(batch.id)).map(({ paymentKey: key, amountNano: amount }) => ({
      key,
      amount,
      state: 'PAID',
      reference: `B-${key}`,
    })),
  );
  await kit.earn(who, currency, 100n, sorter);

  const of = (period: string) =>
    kit.payouts.earnings.statement(who.principal, { tenantId: null, currency, period });
  const february = await of('2028-02');
  const sum = 40n * UNIT + 2n ** 56n;
  expect(february).toEqual({
    ...{ tenantId: who.tenantId, currency, period: '2028-02', isComplete: true },
    ...{ from: new Date('2028-02-01T00:00:00Z'), to: new Date('2028-03-01T00:00:00Z') },
    opening: 0n,
    earned: [
      { adapterVersionId: poet, amount: 40n * UNIT, postings: 1 },
      { adapterVersionId: sorter, amount: 2n ** 56n, postings: 1 },
    ],
    corrections: [],
    paid: 0n,
    returned: 0n,
    closing: sum,
  });
  const march = await of('2028-03');
  expect(march).toMatchObject({
    isComplete: false,
    opening: sum,
    earned: [
      { adapterVersionId: poet, amount: 12n, postings: 2 },
      { adapterVersionId: sorter, amount: 100n, postings: 1 },
    ],
    corrections: [
      { adapterVersionId: null, amount: 2n, postings: 1 },
      { adapterVersionId: poet, amount: -3n, postings: 1 },
    ],
    paid: batch.totalNano,
    returned: 0n,
    closing: sum + 12n + 100n - 1n - batch.totalNano,
  });
  // Sealed or not, and read by an operator or by the beneficiary, it is the same.
  await kit.sealer.run();
  expect(await of('2028-03')).toEqual(march);
  const asked = { tenantId: who.tenantId, currency, period: '2028-02' };
  expect(await kit.payouts.earnings.statement(kit.drafter, asked)).toEqual(february);
  at('2028-04-01T00:00:00Z');
  expect(await of('2028-03')).toEqual({ ...march, isComplete: true });
  expect(await of('2028-04')).toMatchObject({ opening: march.closing, earned: [], closing: march.closing });
  expect(await of('2028-01')).toMatchObject({ opening: 0n, earned: [], closing: 0n });
});

test('a statement is the sum of the postings, found in another way', async () => {
  const currency = newCurrency();
  const who = await kit.beneficiary(currency);
  const versions = [newId(kit.clock), newId(kit.clock), newId(kit.clock)];
  for (let i = 0; i < 40; i += 1) {
    kit.clock.advance(3 * DAY_MS);
    await kit.earn(who, currency, BigInt(i * i + 1), versions[i % 3]);
    if (i % 7 === 0) await kit.correct(who, currency, BigInt(5 - i));
  }
  const months = await kit.db.admin<{ period: string; earned: string; corrected: string }>(
    `SELECT to_char(p.created_at AT TIME ZONE 'UTC', 'YYYY-MM') AS period,
            coalesce(sum(p.amount) FILTER (WHERE t.kind = 'POST'), 0)::text AS earned,
            coalesce(sum(p.amount) FILTER (WHERE t.kind = 'SINGLE'), 0)::text AS corrected
     FROM ledger_posting p JOIN ledger_transfer t ON t.id = p.transfer_id WHERE p.account_id = $1 GROUP BY 1 ORDER BY 1`,
    [who.accountId],
  );
  expect(months.length).toBeGreaterThan(3);
  let closing = 0n;
  for (const { period, earned, corrected } of months) {
    const found = await kit.payouts.earnings.statement(who.principal, { tenantId: null, currency, period });
    const total = (lines: typeof found.earned): bigint => lines.reduce((sum, line) => sum + line.amount, 0n);
    expect([found.opening, total(found.earned), total(found.corrections)]).toEqual([
      closing,
      BigInt(earned),
      BigInt(corrected),
    ]);
    closing = found.closing;
  }
  expect((await kit.balance(who)).posted).toBe(closing);
});

test('a balance tells what matures, what is held, what can be paid and what is carried over', async () => {
  const currency = newCurrency();
  const who = await kit.beneficiary(currency);
  const read = async () => {
    const [found, ...others] = await kit.payouts.earnings.balances(who.principal, null);
    expect(others).toEqual([]);
    return found;
  };
  await kit.earn(who, currency, 12n * UNIT + 3n);
  expect(await read()).toEqual({
    currency,
    posted: 12n * UNIT + 3n,
    held: 0n,
    maturing: 12n * UNIT + 3n,
    payable: 0n,
    carried: 0n,
  });
  kit.clock.advance(kit.options.holdbackMs);
  // To the millisecond: what was posted exactly so long ago is still in the window.
  expect(await read()).toMatchObject({ maturing: 12n * UNIT + 3n, payable: 0n });
  kit.clock.advance(1);
  expect(await read()).toMatchObject({ maturing: 0n, payable: 12n * UNIT, carried: 3n });
  await kit.earn(who, currency, UNIT);
  await kit.create(currency);
  expect(await read()).toMatchObject({
    posted: 13n * UNIT + 3n,
    held: 12n * UNIT,
    maturing: UNIT,
    payable: 0n,
    carried: 3n,
  });
  // A correction counts at once, and may take it below zero.
  await kit.correct(who, currency, -2n * UNIT);
  expect(await read()).toMatchObject({ posted: 11n * UNIT + 3n, payable: 0n, carried: 3n - 2n * UNIT });
});

describe('who may read', () => {
  test('a beneficiary reads its own, an operator everybody’s, and nobody else’s exist', async () => {
    const currency = newCurrency();
    const [who, other] = [await kit.beneficiary(currency), await kit.beneficiary(currency)];
    await kit.earn(who, currency, UNIT);
    const { earnings, destinations, outcomes } = kit.payouts;
    const page = { first: 10, after: null };
    const period = '2028-02';
    expect(await codeOf(earnings.balances(other.principal, who.tenantId))).toBe('NOT_FOUND');
    expect(
      await codeOf(earnings.statement(other.principal, { tenantId: who.tenantId, currency, period })),
    ).toBe('NOT_FOUND');
    expect(await codeOf(destinations.list(other.principal, who.tenantId, page))).toBe('NOT_FOUND');
    expect(
      await codeOf(outcomes.list(other.principal, { tenantId: who.tenantId, batchId: null }, page)),
    ).toBe('NOT_FOUND');
    expect((await earnings.balances(kit.drafter, who.tenantId)).map(({ posted }) => posted)).toEqual([UNIT]);
    expect((await destinations.list(kit.drafter, who.tenantId, page)).items).toHaveLength(1);
    const weak = { ...who.principal, scopes: ['payouts:write'] };
    expect(await codeOf(earnings.balances(weak, null))).toBe('FORBIDDEN');
    expect(await codeOf(kit.payouts.batches.list(who.principal, page))).toBe('FORBIDDEN');
  });
});

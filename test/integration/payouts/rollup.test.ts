import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { AccountService } from '../../../src/billing/accounts.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { EARNINGS_ROLLUP_DEFAULTS, EarningsRollup } from '../../../src/ledger/earnings.ts';
import { type Beneficiary, DAY_MS, newCurrency, openPayoutsKit, type PayoutsKit, SEED } from './kit.ts';

const HOUR_MS = DAY_MS / 24;
/** A Monday at the end of a leap day, so that hours, days and months end in what is drawn. */
const START = Date.parse('2028-02-29T00:00:00Z');

let kit: PayoutsKit;
let rollup: EarningsRollup;
let accounts: AccountService;
beforeAll(async () => {
  kit = await openPayoutsKit({ options: { holdbackMs: 30 * HOUR_MS, minimumNano: 1n } });
  const { database } = kit.db;
  // Few at a time, so that a run takes several.
  rollup = new EarningsRollup({ ...EARNINGS_ROLLUP_DEFAULTS, rowsMax: 5 }, { database });
  accounts = new AccountService({ database });
});
afterAll(() => kit.dispose());

/** What happens, in the order of time: something is earned or corrected, the chain grows, its batches are summed up. */
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('earn' as const),
      version: fc.nat(2),
      amount: fc.bigInt({ min: 1n, max: 2n ** 55n }),
      laterMs: fc.oneof(fc.nat(HOUR_MS), fc.nat(DAY_MS), fc.constantFrom(0, 1, HOUR_MS, DAY_MS, 15 * DAY_MS)),
    }),
  },
  fc.record({ kind: fc.constant('correct' as const), amount: fc.bigInt({ min: -3n, max: -1n }) }),
  fc.record({ kind: fc.constant('seal' as const) }),
  fc.record({ kind: fc.constant('sum' as const) }),
);
/** Times between which it is asked, as parts of what has passed or at an edge of hours or days. */
const moment = fc.record({
  part: fc.double({ min: 0, max: 1, noNaN: true }),
  to: fc.constantFrom(1, HOUR_MS, DAY_MS),
});

interface Fact {
  readonly version: Uuid | null;
  readonly amount: bigint;
  readonly atMs: number;
}

async function compare(who: Beneficiary, facts: readonly Fact[], from: number, to: number): Promise<void> {
  const during = facts.filter(({ atMs }) => atMs >= from && atMs < to);
  const named = [...new Set(during.flatMap(({ version }) => version ?? []))].sort();
  const period = { tenantId: null, from: new Date(from), to: new Date(to) };
  const { items } = await accounts.earnings(who.principal, period, { first: 100, after: null });
  expect(items.map(({ adapterVersionId, amount, postings }) => [adapterVersionId, amount, postings])).toEqual(
    named.map((version) => {
      const of = during.filter((fact) => fact.version === version);
      return [version, of.reduce((sum, { amount }) => sum + amount, 0n), BigInt(of.length)];
    }),
  );
}

test(`earnings of any period are the postings of it, whatever is sealed and summed up (seed ${SEED})`, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 4, maxLength: 18 }),
      fc.array(fc.tuple(moment, moment), { minLength: 3, maxLength: 3 }),
      async (steps, periods) => {
        kit.clock.advance(START - kit.clock.nowMs());
        const currency = newCurrency();
        const who = await kit.beneficiary(currency);
        const versions = [newId(kit.clock), newId(kit.clock), newId(kit.clock)];
        const facts: Fact[] = [];
        for (const one of steps) {
          if (one.kind === 'seal') await kit.sealer.run();
          else if (one.kind === 'sum') await rollup.run();
          else {
            if (one.kind === 'earn') kit.clock.advance(one.laterMs);
            const version = one.kind === 'earn' ? (versions[one.version] ?? null) : null;
            if (one.kind === 'earn') await kit.earn(who, currency, one.amount, version ?? '');
            else await kit.correct(who, currency, one.amount);
            facts.push({ version, amount: one.amount, atMs: kit.clock.nowMs() });
          }
        }
        const end = kit.clock.nowMs() + 1;
        for (const [a, b] of periods) {
          const [x, y] = [a, b].map(({ part, to }) => Math.floor((START + part * (end - START)) / to) * to);
          if (x !== undefined && y !== undefined && x !== y)
            await compare(who, facts, Math.min(x, y), Math.max(x, y));
        }
        await compare(who, facts, START, START + 2 * DAY_MS);
        // What has not matured is credits alone, however old the debits are.
        const before = kit.clock.nowMs() - 30 * HOUR_MS;
        const [balance] = await kit.payouts.earnings.balances(who.principal, null);
        const credits = facts.filter(({ amount, atMs }) => amount > 0n && atMs >= before);
        expect(balance?.maturing ?? 0n).toBe(credits.reduce((sum, { amount }) => sum + amount, 0n));
        expect(balance?.posted ?? 0n).toBe(facts.reduce((sum, { amount }) => sum + amount, 0n));
        for (const period of ['2028-02', '2028-03', '2028-04']) {
          const wanted = { tenantId: null, currency, period };
          const statement = await kit.payouts.earnings.statement(who.principal, wanted);
          const inside = (atMs: number) => atMs >= statement.from.getTime() && atMs < statement.to.getTime();
          const earlier = facts.filter(({ atMs }) => atMs < statement.from.getTime());
          expect(statement.opening).toBe(earlier.reduce((sum, { amount }) => sum + amount, 0n));
          const earned = facts.filter(({ version, atMs }) => version !== null && inside(atMs));
          expect(statement.earned.reduce((sum, { amount }) => sum + amount, 0n)).toBe(
            earned.reduce((sum, { amount }) => sum + amount, 0n),
          );
          expect(statement.earned.reduce((sum, { postings }) => sum + postings, 0)).toBe(earned.length);
        }
      },
    ),
    { seed: SEED, numRuns: 10, endOnFailure: true },
  );
  await kit.sealer.run();
  await rollup.run();
  // Every sealed posting is in the sums once, by hour, day and month.
  const [left] = await kit.db.admin<{ wrong: string }>(
    `SELECT count(*)::text AS wrong FROM (
       SELECT p.account_id, w.width, date_trunc(w.width, p.created_at, 'UTC') AS start, sum(p.amount) AS amount,
              count(*) AS postings
       FROM ledger_posting p JOIN ledger_account a ON a.id = p.account_id AND a.kind = 'EARNINGS'
       CROSS JOIN (VALUES ('hour'), ('day'), ('month')) AS w(width) GROUP BY 1, 2, 3
     ) expected
     FULL JOIN (SELECT account_id, width, start, sum(amount) AS amount, sum(postings) AS postings
                FROM earnings_rollup GROUP BY 1, 2, 3) found USING (account_id, width, start)
     WHERE (expected.amount, expected.postings) IS DISTINCT FROM (found.amount, found.postings)`,
  );
  expect(left?.wrong).toBe('0');
  expect((await kit.db.admin('SELECT FROM earnings_rollup')).length).toBeGreaterThan(50);
});

test('two that sum up at once add every batch once', async () => {
  kit.clock.advance(START + 400 * DAY_MS - kit.clock.nowMs());
  const currency = newCurrency();
  const who = await kit.beneficiary(currency);
  const version = newId(kit.clock);
  for (let i = 0; i < 6; i++) {
    await kit.earn(who, currency, 5n, version);
    await kit.sealer.run();
  }
  await Promise.all([rollup.run(), rollup.run(), rollup.run()]);
  await rollup.run();
  const rows = await kit.db.admin<{ amount: string; postings: string }>(
    `SELECT sum(amount)::text AS amount, sum(postings)::text AS postings FROM earnings_rollup
     WHERE account_id = $1 AND width = 'day'`,
    [who.accountId],
  );
  expect(rows).toEqual([{ amount: '30', postings: '6' }]);
});

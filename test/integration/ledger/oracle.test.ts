import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../../src/kernel/clock.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { captureAll, holdAll, runAlone } from '../../../src/ledger/statements.ts';
import type { Capture } from '../../../src/ledger/types.ts';
import { verifyLedger } from '../../../src/ledger/verify.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import {
  type Customer,
  capture,
  codeOf,
  createLedger,
  credit,
  hold,
  SEED,
  type TestLedger,
  transfer,
} from './kit.ts';
import { Oracle } from './oracle.ts';

let db: TestDatabase;
let ledger: TestLedger;
beforeAll(async () => {
  db = await createTestDatabase();
  ledger = await createLedger(db);
});
afterAll(() => db.dispose());

const who = fc.nat(1);
const parts = fc.nat(20);
/** Few keys, so that some are used twice: for the same thing, and for another. */
const key = fc.nat(12);

const operation = fc.oneof(
  fc.record({
    kind: fc.constant('hold' as const),
    holds: fc.array(fc.record({ who, parts, key, ttl: fc.option(fc.integer({ min: 1, max: 40 })) }), {
      minLength: 1,
      maxLength: 5,
    }),
  }),
  fc.record({
    kind: fc.constant('capture' as const),
    captures: fc.array(fc.record({ pick: fc.nat(30), parts, split: fc.nat(2), again: fc.boolean() }), {
      minLength: 1,
      maxLength: 4,
    }),
  }),
  fc.record({ kind: fc.constant('void' as const), pick: fc.nat(30) }),
  fc.record({ kind: fc.constant('expire' as const), after: fc.integer({ min: 1, max: 30 }) }),
  fc.record({ kind: fc.constant('topUp' as const), who, parts: fc.integer({ min: 1, max: 30 }), key }),
  fc.record({ kind: fc.constant('refund' as const), who, parts: fc.integer({ min: 1, max: 5 }), key }),
  fc.record({ kind: fc.constant('charge' as const), who, parts: fc.integer({ min: 1, max: 20 }), key }),
  fc.record({ kind: fc.constant('limit' as const), who, parts }),
  fc.record({ kind: fc.constant('seal' as const) }),
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

/** One run: two customers and two beneficiaries, in the database and in the oracle. */
class Comparison {
  readonly oracle = new Oracle();
  private readonly holdIds: Uuid[] = [];
  private readonly captures: Capture[] = [];
  private readonly run = runAlone(db.database);
  private limits = 0;
  private readonly customers: readonly Customer[];
  private readonly credited: readonly Uuid[];
  /** A nano-unit, or a number of them that a double cannot hold. */
  private readonly unit: bigint;

  constructor(customers: readonly Customer[], credited: readonly Uuid[], unit: bigint) {
    this.customers = customers;
    this.credited = credited;
    this.unit = unit;
    for (const { accountId } of customers) this.oracle.open(accountId, true);
    for (const accountId of credited) this.oracle.open(accountId, false);
  }

  async perform(op: Operation): Promise<void> {
    const { service, clock } = ledger;
    if (op.kind === 'hold') {
      const holds = op.holds.map((one) =>
        hold(this.customer(one.who).accountId, BigInt(one.parts) * this.unit, {
          key: `key-${one.key}`,
          expiresAt: one.ttl === null ? null : new Date(clock.nowMs() + one.ttl),
        }),
      );
      this.holdIds.push(...holds.map((one) => one.id));
      const found = await holdAll(this.run, holds, 'request', new Date(clock.nowMs()));
      const expected = this.oracle.holdAll(holds);
      expect(found.map(({ outcome }) => outcome)).toEqual(expected.map(({ outcome }) => outcome));
      expect(found.map(({ id }) => id)).toEqual(expected.map(({ id }) => id));
    } else if (op.kind === 'capture') {
      const captures = op.captures.map((one) => this.captureOf(one));
      this.captures.push(...captures);
      const found = await captureAll(this.run, captures, new Date(clock.nowMs()));
      expect(found.map(({ outcome }) => outcome)).toEqual(this.oracle.captureAll(captures));
    } else if (op.kind === 'void') {
      const holdId = this.holdId(op.pick);
      const code = await codeOf(service.void({ id: newId(systemClock), holdId }));
      const expected =
        { UNKNOWN: 'NOT_FOUND', RESOLVED: 'LEDGER_CONFLICT' }[this.oracle.void(holdId)] ?? null;
      expect(code).toBe(expected);
    } else if (op.kind === 'expire') {
      clock.advance(op.after);
      // Holds of earlier runs run out too; they are not this run's.
      const expired = (await service.expireDue())
        .map(({ holdId }) => holdId)
        .filter((holdId) => this.holdIds.includes(holdId))
        .sort();
      expect(expired).toEqual(this.oracle.expire(clock.nowMs()));
    } else if (op.kind === 'limit') {
      const { accountId } = this.customer(op.who);
      const limit = BigInt(op.parts) * this.unit;
      this.limits += 1;
      const code = await codeOf(service.setCreditLimit(accountId, limit, `limit-${this.limits}`));
      expect(code).toBe(this.oracle.setLimit(accountId, limit));
    } else if (op.kind === 'seal') {
      await ledger.sealer.run();
    } else {
      await this.post(op.kind, this.customer(op.who), BigInt(op.parts) * this.unit, `key-${op.key}`);
    }
  }

  /** Everything that can be read, against the oracle; and what must hold whatever the oracle says. */
  async compare(): Promise<void> {
    const balances = await ledger.service.balances([...this.oracle.accounts.keys()]);
    expect(balances).toHaveLength(this.oracle.accounts.size);
    for (const balance of balances) {
      const { posted, held, limit, limited } = this.oracle.account(balance.accountId);
      expect([balance.posted, balance.held, balance.creditLimit]).toEqual([posted, held, limit]);
      if (limited) expect(balance.available >= 0n).toBe(true);
    }
    const [sum] = await db.admin<{ total: string }>(
      'SELECT coalesce(sum(amount), 0)::text AS total FROM ledger_posting',
    );
    expect(sum?.total).toBe('0');
  }

  private async post(kind: string, customer: Customer, amount: bigint, postKey: string): Promise<void> {
    // All but top-ups are between customer and fee; a charge takes, a refund gives back.
    const other = kind === 'topUp' ? ledger.cash : (this.credited[0] ?? '');
    const signed = kind === 'charge' ? -amount : amount;
    const asked = transfer(customer, postKey, other, signed);
    const code = await codeOf(ledger.service.post(asked));
    if (kind === 'topUp' && !this.oracle.accounts.has(other)) this.oracle.open(other, false);
    expect(code).toBe(this.oracle.post(asked.id, customer.accountId, other, postKey, signed));
    // Cash is shared by all runs, so that its balance is not this run's alone.
    this.oracle.accounts.delete(ledger.cash);
  }

  private captureOf(one: { pick: number; parts: number; split: number; again: boolean }): Capture {
    const before = this.captures.at(-1 - (one.pick % 3));
    if (one.again && before !== undefined) return before;
    const amount = BigInt(one.parts) * this.unit;
    const last = one.split === 0 ? amount : amount / 3n;
    const credits = [
      credit(this.credited[one.split] ?? '', amount - last),
      credit(this.credited[2] ?? '', last),
    ];
    return capture(
      this.holdId(one.pick),
      credits.filter((each) => each.amount > 0n),
    );
  }

  private customer(index: number): Customer {
    const customer = this.customers[index];
    if (customer === undefined) throw new Error('No such customer');
    return customer;
  }

  private holdId(pick: number): Uuid {
    return this.holdIds[pick % Math.max(1, this.holdIds.length)] ?? newId(systemClock);
  }
}

test('random operations: the database decides and counts as the oracle does', async () => {
  console.log(`seed ${SEED}`);
  await fc.assert(
    fc.asyncProperty(
      fc.array(operation, { minLength: 5, maxLength: 50 }),
      fc.constantFrom(1n, 2n ** 53n + 1n),
      async (operations, unit) => {
        const customers = [await ledger.customer(), await ledger.customer()];
        const credited = [await ledger.beneficiary(), await ledger.beneficiary(), await ledger.beneficiary()];
        const accounts = credited.map(({ accountId }) => accountId);
        const comparison = new Comparison(customers, accounts, unit);
        for (const op of [
          { kind: 'topUp', who: 0, parts: 20, key: 99 } as const,
          { kind: 'topUp', who: 1, parts: 7, key: 99 } as const,
          ...operations,
        ]) {
          await comparison.perform(op);
          await comparison.compare();
        }
      },
    ),
    { seed: SEED, numRuns: 40, endOnFailure: true },
  );
  await ledger.sealer.run();
  const report = await verifyLedger(db.database);
  expect(report.problems).toEqual([]);
  expect(report.unsealed).toBe(0);
  expect(report.rows).toBeGreaterThan(500);
});

import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import { newId } from '../../../src/kernel/ids.ts';
import { capture, credit, hold } from '../ledger/kit.ts';
import { actorOf, OPERATOR, ofBackbone } from '../pricing/kit.ts';
import { type Customer, failure, type MoneyKit, openMoney } from './money-kit.ts';

/** More than a float can count. */
const HUGE = 9_007_199_254_740_993n;
const page = { first: 100, after: null };

let kit: MoneyKit;
beforeAll(async () => {
  kit = await openMoney();
});
afterAll(() => kit.db.dispose());

const entries = (customer: Customer) =>
  kit.accounts
    .entries(customer.actor, { tenantId: null, from: null, to: null, kinds: null }, page)
    .then(({ items }) => items);

const audit = (tenantId: string) =>
  kit.db.admin<{ action: string; before: Record<string, string>; after: Record<string, string> }>(
    `SELECT action, before, after FROM audit_log WHERE tenant_id = $1 AND outcome = 'DONE' ORDER BY id`,
    [tenantId],
  );

const limit = (customer: Customer, creditLimit: bigint, idempotencyKey: string = randomUUID()) => {
  kit.clock.advance(1);
  return kit.funds.setCreditLimit(OPERATOR, { idempotencyKey, tenantId: customer.tenantId, creditLimit });
};

describe('a top-up', () => {
  test('opens the account, moves money from outside, and is exact past 2^53', async () => {
    const customer = await kit.customer();
    expect(await kit.accounts.balances(customer.actor, null)).toEqual([]);
    const { transferId, balance } = await kit.move(customer, { amount: HUGE, reason: 'wire 17' });
    const whole = { posted: HUGE, held: 0n, creditLimit: 0n, available: HUGE };
    expect(balance).toEqual({ currency: 'USD', alertBelow: 0n, ...whole });
    expect(await kit.accounts.balances(customer.actor, null)).toMatchObject([
      { kind: 'CUSTOMER', asset: 'USD', ...whole },
    ]);
    expect(await entries(customer)).toMatchObject([
      {
        id: transferId,
        kind: 'SINGLE',
        currency: 'USD',
        amount: HUGE,
        referenceType: 'top_up',
        // The other line is the platform's.
        lines: [{ account: 'CUSTOMER', amount: HUGE, subjectId: null }],
      },
    ]);
    expect(await audit(customer.tenantId)).toMatchObject([
      {
        action: 'balance.topUp',
        before: { posted: '0' },
        after: { posted: HUGE.toString(), amount: HUGE.toString(), reason: 'wire 17', transferId },
      },
    ]);
    expect(await kit.events(customer.tenantId)).toMatchObject([
      {
        kind: 'balance.adjusted',
        payload: {
          kind: 'TOP_UP',
          amountNano: HUGE.toString(),
          currency: 'USD',
          reason: 'wire 17',
          transferId,
        },
      },
    ]);
  });

  test('moves money once for a key, however often and however many at once', async () => {
    const customer = await kit.customer();
    const idempotencyKey = 'k'.repeat(200);
    const answers = await Promise.all(
      Array.from({ length: 6 }, () => kit.move(customer, { idempotencyKey, amount: 50n })),
    );
    for (const answer of answers) expect(answer).toEqual(answers[0]);
    await kit.move(customer, { amount: 1n });
    // A retry is told what the first attempt was told.
    expect(await kit.move(customer, { idempotencyKey, amount: 50n })).toEqual(answers[0]);
    expect(await failure(kit.move(customer, { idempotencyKey, amount: 51n }))).toBe(
      'IDEMPOTENCY_CONFLICT idempotencyKey',
    );
    const other = await kit.customer();
    expect(await failure(kit.move(other, { idempotencyKey, amount: 50n }))).toBe(
      'IDEMPOTENCY_CONFLICT idempotencyKey',
    );
    expect(await kit.accounts.balances(customer.actor, null)).toMatchObject([{ posted: 51n }]);
    expect(await audit(customer.tenantId)).toHaveLength(2);
    expect(await kit.events(customer.tenantId)).toHaveLength(2);
  });

  test('moves money once even when the record of the key is gone', async () => {
    const customer = await kit.customer();
    const idempotencyKey = randomUUID();
    const first = await kit.move(customer, { idempotencyKey, amount: 50n });
    await kit.db.admin(`DELETE FROM idempotency_key WHERE operation = 'topUp'`);
    expect(await kit.move(customer, { idempotencyKey, amount: 50n })).toEqual(first);
    await kit.db.admin(`DELETE FROM idempotency_key WHERE operation = 'topUp'`);
    expect(await failure(kit.move(customer, { idempotencyKey, amount: 60n }))).toBe('LEDGER_CONFLICT');
    expect(await kit.accounts.balances(customer.actor, null)).toMatchObject([{ posted: 50n }]);
    expect(await audit(customer.tenantId)).toHaveLength(1);
    expect(await kit.events(customer.tenantId)).toHaveLength(1);
  });

  test('is for operators, for tenants that exist, and for amounts that the ledger takes', async () => {
    const customer = await kit.customer();
    const move = {
      idempotencyKey: randomUUID(),
      tenantId: customer.tenantId,
      kind: 'TOP_UP',
      amount: 1n,
      reason: null,
    } as const;
    expect(await failure(kit.funds.move(customer.actor, move))).toBe('FORBIDDEN');
    expect(await failure(kit.funds.setCreditLimit(customer.actor, { ...move, creditLimit: 1n }))).toBe(
      'FORBIDDEN',
    );
    const denied = await kit.db.admin(
      `SELECT action, target_id FROM audit_log WHERE actor_key_id = $1 AND outcome = 'DENIED' ORDER BY action`,
      [customer.actor.keyId],
    );
    expect(denied).toEqual([
      { action: 'balance.topUp', target_id: customer.tenantId },
      { action: 'creditLimit.set', target_id: customer.tenantId },
    ]);
    for (const tenantId of [randomUUID(), PLATFORM_TENANT_ID]) {
      expect(await failure(kit.funds.move(OPERATOR, { ...move, tenantId }))).toBe('NOT_FOUND tenant');
    }
    expect(await failure(kit.move(customer, { amount: 0n }))).toBe('BAD_INPUT amount');
    expect(await failure(kit.move(customer, { amount: 10n ** 18n + 1n }))).toBe('BAD_INPUT amount');
    for (let times = 0; times < 4; times += 1) await kit.move(customer, { amount: 10n ** 18n });
    expect(await failure(kit.move(customer, { amount: 1n }))).toBe('LEDGER_INVALID amount');
  });

  test('needs a currency, which the first price decides', async () => {
    const fresh = await openMoney({ priced: false });
    const customer = await fresh.customer();
    expect(await failure(fresh.move(customer))).toBe('PRICE_MISSING');
    expect(await failure(fresh.setBudget(customer))).toBe('PRICE_MISSING');
    await fresh.setPrice(ofBackbone(fresh.backboneDigest), {});
    expect((await fresh.move(customer)).balance.currency).toBe('USD');
    expect((await fresh.setBudget(customer)).currency).toBe('USD');
    await fresh.db.dispose();
  });
});

describe('an adjustment', () => {
  test('is at the expense of the platform, has a reason, and may not take more than there is', async () => {
    const customer = await kit.customer();
    const [before] = await adjustments();
    expect(await failure(kit.move(customer, { kind: 'REFUND', amount: 10n }))).toBe('BAD_INPUT reason');
    await kit.move(customer, { kind: 'REFUND', amount: 10n, reason: 'an outage' });
    const { balance } = await kit.move(customer, {
      kind: 'CORRECTION',
      amount: -4n,
      reason: 'counted twice',
    });
    expect(balance).toMatchObject({ posted: 6n, available: 6n });
    const refused = kit.move(customer, { kind: 'CORRECTION', amount: -7n, reason: 'too much' });
    await expect(refused).rejects.toMatchObject({
      code: 'BUDGET_EXCEEDED',
      field: 'amount',
      meta: { amount: '7', available: '6' },
    });
    const [after] = await adjustments();
    expect((after?.posted ?? 0n) - (before?.posted ?? 0n)).toBe(-6n);
    expect(
      (await entries(customer)).map(({ referenceType, lines }) => [referenceType, lines[0]?.amount]),
    ).toEqual([
      ['correction', -4n],
      ['refund', 10n],
    ]);
    expect(
      (await audit(customer.tenantId)).map(({ action, after: is }) => [action, is['kind'], is['reason']]),
    ).toEqual([
      ['balance.adjust', 'REFUND', 'an outage'],
      ['balance.adjust', 'CORRECTION', 'counted twice'],
    ]);
  });

  test('does not take what is held', async () => {
    const customer = await kit.customer();
    await kit.move(customer, { amount: 100n });
    const accountId = await kit.ledger.openAccount(customer.tenantId, 'CUSTOMER', 'USD');
    await kit.ledger.hold(hold(accountId, 70n), 'inference');
    const take = (amount: bigint) => kit.move(customer, { kind: 'CORRECTION', amount: -amount, reason: 'x' });
    expect(await failure(take(31n))).toBe('BUDGET_EXCEEDED amount');
    expect((await take(30n)).balance).toMatchObject({ posted: 70n, held: 70n, available: 0n });
  });
});

/** The platform's account of adjustments, as an operator reads it. */
async function adjustments() {
  const balances = await kit.accounts.balances(OPERATOR, null);
  return balances.filter(({ kind }) => kind === 'ADJUSTMENT');
}

describe('a credit limit', () => {
  test('lets a balance go below zero, once for a key, and not below what is used', async () => {
    const customer = await kit.customer();
    const key = randomUUID();
    const first = await limit(customer, HUGE, key);
    expect(first).toMatchObject({
      transferId: null,
      balance: { posted: 0n, creditLimit: HUGE, available: HUGE },
    });
    expect(await limit(customer, HUGE, key)).toEqual(first);
    // The same limit under another key changes nothing.
    await limit(customer, HUGE);
    const accountId = await kit.ledger.openAccount(customer.tenantId, 'CUSTOMER', 'USD');
    await kit.ledger.hold(hold(accountId, 70n), 'inference');
    await expect(limit(customer, 69n)).rejects.toMatchObject({
      code: 'BUDGET_EXCEEDED',
      field: 'creditLimit',
      meta: { used: '70', creditLimit: '69' },
    });
    expect((await limit(customer, 70n)).balance).toMatchObject({ creditLimit: 70n, available: 0n });
    expect(await failure(limit(customer, -1n))).toBe('BAD_INPUT creditLimit');
    expect(await failure(limit(customer, 10n ** 18n + 1n))).toBe('BAD_INPUT creditLimit');
    expect(
      (await audit(customer.tenantId)).map(({ before, after }) => [
        before['creditLimit'],
        after['creditLimit'],
      ]),
    ).toEqual([
      ['0', HUGE.toString()],
      [HUGE.toString(), '70'],
    ]);
  });

  test('and top-ups that race leave nothing out', async () => {
    const customer = await kit.customer();
    await Promise.all([
      ...Array.from({ length: 10 }, () => kit.move(customer, { amount: 3n })),
      ...Array.from({ length: 5 }, (_, index) => limit(customer, BigInt(index + 1))),
    ]);
    const [balance] = await kit.accounts.balances(customer.actor, null);
    expect(balance?.posted).toBe(30n);
    const lines = await audit(customer.tenantId);
    expect(lines).toHaveLength(15);
    // Each line begins where another one ended: what was before is what was replaced.
    const states = lines.map(({ before, after }) => [
      `${before['posted']}/${before['creditLimit']}`,
      `${after['posted']}/${after['creditLimit']}`,
    ]);
    const ends = new Set(['0/0', ...states.map(([, end]) => end)]);
    for (const [start] of states) expect(ends.has(start)).toBe(true);
  });
});

describe('what a tenant reads', () => {
  /** A request of the customer's that paid an owner and the platform. */
  async function request(
    customer: Customer,
    owner: Customer,
    versionId: string,
    royalty: bigint,
  ): Promise<void> {
    const payer = await kit.ledger.openAccount(customer.tenantId, 'CUSTOMER', 'USD');
    const base = await kit.ledger.openAccount(PLATFORM_TENANT_ID, 'PLATFORM_BASE', 'USD');
    const earner = await kit.ledger.openAccount(owner.tenantId, 'EARNINGS', 'USD');
    // Ids are by the same clock as times, and those of one millisecond in no order.
    const id = (): string => {
      kit.clock.advance(1);
      return newId(kit.clock);
    };
    const asked = hold(payer, 100n, { id: id(), referenceId: id() });
    await kit.ledger.hold(asked, 'inference');
    const credits = [credit(base, 20n), credit(earner, royalty, versionId)];
    await kit.ledger.capture({ ...capture(asked.id, credits), id: id() });
  }

  test('are its own transfers with its own lines, newest first, by time and kind', async () => {
    const [customer, owner] = [await kit.customer(), await kit.customer()];
    const { versionId } = await kit.adapter(owner.tenantId, kit.backboneDigest);
    await kit.move(customer, { amount: 1_000n });
    kit.clock.advance(3_600_000);
    const hour = new Date(kit.clock.nowMs());
    await request(customer, owner, versionId, 5n);
    const all = await entries(customer);
    expect(
      all.map(({ kind, amount, held, lines }) => [kind, amount, held, lines.map((line) => line.amount)]),
    ).toEqual([
      ['POST', 25n, 100n, [-25n]],
      ['PENDING', 0n, 100n, []],
      ['SINGLE', 1_000n, 0n, [1_000n]],
    ]);
    const [post, pending] = all;
    expect(post).toMatchObject({
      pendingId: pending?.id,
      referenceType: 'inference',
      referenceId: pending?.referenceId,
    });
    const some = async (query: object) => {
      const found = await kit.accounts.entries(
        customer.actor,
        { tenantId: null, from: null, to: null, kinds: null, ...query },
        page,
      );
      return found.items.map(({ kind }) => kind);
    };
    expect(await some({ from: hour })).toEqual(['POST', 'PENDING']);
    expect(await some({ to: hour })).toEqual(['SINGLE']);
    expect(await some({ kinds: ['SINGLE', 'POST'] })).toEqual(['POST', 'SINGLE']);
    const first = await kit.accounts.entries(
      customer.actor,
      { tenantId: null, from: null, to: null, kinds: null },
      { first: 2, after: null },
    );
    expect(first.hasNextPage).toBe(true);
    const rest = await kit.accounts.entries(
      customer.actor,
      { tenantId: null, from: null, to: null, kinds: null },
      { first: 2, after: first.items.at(-1)?.id ?? null },
    );
    expect([...first.items, ...rest.items]).toEqual(all);
    // The owner sees the earning, and not the transfer of who paid it.
    expect(await entries(owner)).toEqual([]);
  });

  test('are its earnings by adapter version in a period', async () => {
    const [customer, owner] = [await kit.customer(), await kit.customer()];
    const versions = [
      await kit.adapter(owner.tenantId, kit.backboneDigest),
      await kit.adapter(owner.tenantId, kit.backboneDigest),
    ].map(({ versionId }) => versionId);
    await kit.move(customer, { amount: 10n ** 18n });
    const [first = '', second = ''] = versions.toSorted();
    const from = new Date(kit.clock.nowMs());
    await request(customer, owner, first, 5n);
    await request(customer, owner, first, 6n);
    await request(customer, owner, second, 7n);
    kit.clock.advance(1_000);
    const to = new Date(kit.clock.nowMs());
    await request(customer, owner, second, 50n);
    const period = { tenantId: null, from, to };
    const usd = { currency: 'USD' };
    const whole = [
      { adapterVersionId: first, ...usd, amount: 11n, postings: 2n },
      { adapterVersionId: second, ...usd, amount: 7n, postings: 1n },
    ];
    const { items } = await kit.accounts.earnings(owner.actor, period, { first: 10, after: null });
    expect(items).toEqual(whole);
    const one = await kit.accounts.earnings(owner.actor, period, { first: 1, after: null });
    expect(one).toEqual({ items: whole.slice(0, 1), hasNextPage: true });
    const rest = await kit.accounts.earnings(owner.actor, period, {
      first: 1,
      after: { ...usd, versionId: first },
    });
    expect(rest).toEqual({ items: whole.slice(1), hasNextPage: false });
    expect((await kit.accounts.earnings(customer.actor, period, { first: 10, after: null })).items).toEqual(
      [],
    );
    expect(
      await failure(kit.accounts.earnings(owner.actor, { ...period, to: from }, { first: 1, after: null })),
    ).toBe('BAD_INPUT to');
  });

  test('is nothing of another tenant’s, and nothing at all without billing:read', async () => {
    const [customer, stranger] = [await kit.customer(), await kit.customer()];
    await kit.move(customer);
    expect(await kit.accounts.balances(stranger.actor, null)).toEqual([]);
    expect(await entries(stranger)).toEqual([]);
    expect(await failure(kit.accounts.balances(stranger.actor, customer.tenantId))).toBe('NOT_FOUND tenant');
    const query = { tenantId: customer.tenantId, from: null, to: null, kinds: null };
    expect(await failure(kit.accounts.entries(stranger.actor, query, page))).toBe('NOT_FOUND tenant');
    expect(await kit.accounts.balances(OPERATOR, customer.tenantId)).toMatchObject([{ posted: 1_000n }]);
    const blind = actorOf(customer.tenantId, ['infer']);
    expect(await failure(kit.accounts.balances(blind, null))).toBe('FORBIDDEN');
    expect(await failure(kit.accounts.entries(blind, { ...query, tenantId: null }, page))).toBe('FORBIDDEN');
  });
});

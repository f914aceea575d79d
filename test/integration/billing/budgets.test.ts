import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SCOPES } from '../../../src/auth/principal.ts';
import { BUDGETS_MAX, DEFAULT_ALERTS_PPM } from '../../../src/billing/budgets.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { newId } from '../../../src/kernel/ids.ts';
import { waitFor } from '../../kit/wait.ts';
import { actorOf, OPERATOR } from '../pricing/kit.ts';
import { chargeStatement } from './charge.ts';
import { failure, type MoneyKit, openMoney } from './money-kit.ts';

let kit: MoneyKit;
beforeAll(async () => {
  kit = await openMoney();
});
afterAll(() => kit.db.dispose());

describe('setting a budget', () => {
  test('makes one for each subject and period, and changes the one that there is', async () => {
    const customer = await kit.customer();
    const first = await kit.setBudget(customer, { limit: 9_007_199_254_740_993n });
    expect(first).toMatchObject({
      scope: 'TENANT',
      subjectId: null,
      period: 'DAY',
      currency: 'USD',
      limit: 9_007_199_254_740_993n,
      alertsPpm: DEFAULT_ALERTS_PPM,
      spent: 0n,
      held: 0n,
      left: 9_007_199_254_740_993n,
    });
    const changed = await kit.setBudget(customer, { limit: 5n, alertsPpm: [900_000, 100, 900_000] });
    expect(changed).toMatchObject({ id: first.id, limit: 5n, alertsPpm: [100, 900_000] });
    expect((await kit.setBudget(customer, { limit: 6n })).alertsPpm).toEqual([100, 900_000]);
    await kit.setBudget(customer, { period: 'MONTH' });
    await kit.setBudget(customer, { subject: { scope: 'KEY', keyId: customer.keyId } });
    const listed = await kit.budgets.list(customer.actor, null);
    expect(listed.map(({ scope, period, limit }) => [scope, period, limit])).toEqual([
      ['TENANT', 'DAY', 6n],
      ['TENANT', 'MONTH', 100n],
      ['KEY', 'DAY', 100n],
    ]);
    const [{ at } = { at: new Date(0) }] = await kit.db.admin<{ at: Date }>('SELECT now() AS at');
    for (const { start, resetsAt } of listed) {
      expect(start.getTime()).toBeLessThanOrEqual(at.getTime());
      expect(resetsAt.getTime()).toBeGreaterThan(at.getTime());
    }
  });

  test('is done once for a key, and leaves one line of audit for each change and none for what changes nothing', async () => {
    const customer = await kit.customer();
    const idempotencyKey = randomUUID();
    const once = await kit.setBudget(customer, { idempotencyKey, limit: 1n });
    await kit.setBudget(customer, { limit: 2n });
    expect((await kit.setBudget(customer, { idempotencyKey, limit: 1n })).limit).toBe(2n);
    expect(await failure(kit.setBudget(customer, { idempotencyKey, limit: 3n }))).toBe(
      'IDEMPOTENCY_CONFLICT idempotencyKey',
    );
    await kit.setBudget(customer, { limit: 2n });
    const lines = await kit.db.admin(
      `SELECT action, outcome::text, before ->> 'limit' AS before, after ->> 'limit' AS after,
              after ->> 'budgetId' AS id FROM audit_log WHERE tenant_id = $1 ORDER BY id`,
      [customer.tenantId],
    );
    expect(lines).toEqual([
      { action: 'budget.set', outcome: 'DONE', before: null, after: '1', id: once.id },
      { action: 'budget.set', outcome: 'DONE', before: '1', after: '2', id: once.id },
    ]);
  });

  test('of several at once makes one', async () => {
    const customer = await kit.customer();
    const made = await Promise.all(
      Array.from({ length: 8 }, (_, index) => kit.setBudget(customer, { limit: BigInt(index) })),
    );
    expect(new Set(made.map(({ id }) => id)).size).toBe(1);
    expect(await kit.budgets.list(customer.actor, null)).toHaveLength(1);
  });

  test('takes own keys, own adapters and public ones; of others it says what it says of none', async () => {
    const [customer, stranger] = [await kit.customer(), await kit.customer()];
    const own = await kit.adapter(customer.tenantId, kit.backboneDigest, 'PRIVATE');
    const open = await kit.adapter(stranger.tenantId, kit.backboneDigest, 'PUBLIC');
    const hidden = await kit.adapter(stranger.tenantId, kit.backboneDigest, 'PRIVATE');
    const ofAdapter = (adapterId: string) =>
      failure(kit.setBudget(customer, { subject: { scope: 'ADAPTER', adapterId } }));
    const ofKey = (keyId: string) => failure(kit.setBudget(customer, { subject: { scope: 'KEY', keyId } }));
    expect([await ofAdapter(own.adapterId), await ofAdapter(open.adapterId)]).toEqual([null, null]);
    expect([await ofAdapter(hidden.adapterId), await ofAdapter(randomUUID())]).toEqual([
      'ADAPTER_NOT_FOUND adapter',
      'ADAPTER_NOT_FOUND adapter',
    ]);
    expect([await ofKey(customer.keyId), await ofKey(stranger.keyId), await ofKey(randomUUID())]).toEqual([
      null,
      'NOT_FOUND key',
      'NOT_FOUND key',
    ]);
  });

  test('and removing one need billing:write, and leave a line when they are denied', async () => {
    const customer = await kit.customer();
    const { id } = await kit.setBudget(customer);
    const weak = { ...customer, actor: actorOf(customer.tenantId, ['billing:read', 'usage:read', 'infer']) };
    expect(await failure(kit.setBudget(weak))).toBe('FORBIDDEN');
    const removal = { idempotencyKey: randomUUID(), budgetId: id };
    expect(await failure(kit.budgets.remove(weak.actor, removal))).toBe('FORBIDDEN');
    expect(await kit.budgets.list(weak.actor, null)).toHaveLength(1);
    const lines = await kit.db.admin(
      'SELECT action FROM audit_log WHERE actor_key_id = $1 AND outcome = $2 ORDER BY action DESC',
      [weak.actor.keyId, 'DENIED'],
    );
    expect(lines).toEqual([{ action: 'budget.set' }, { action: 'budget.remove' }]);
    const blind = actorOf(
      customer.tenantId,
      SCOPES.filter((scope) => scope !== 'billing:read'),
    );
    expect(await failure(kit.budgets.list(blind, null))).toBe('FORBIDDEN');
  });

  test('refuses what no budget can be, and more budgets than a tenant may have', async () => {
    const customer = await kit.customer();
    expect(await failure(kit.setBudget(customer, { limit: -1n }))).toBe('BAD_INPUT limit');
    expect(await failure(kit.setBudget(customer, { alertsPpm: [1_000_001] }))).toBe('BAD_INPUT alertsPpm');
    await kit.db.admin(
      `INSERT INTO budget (id, tenant_id, scope, subject_id, period, currency, limit_nano, created_at, updated_at)
       SELECT gen_random_uuid(), $1, 'KEY', gen_random_uuid(), 'DAY', 'USD', 1, now(), now()
       FROM generate_series(1, $2)`,
      [customer.tenantId, BUDGETS_MAX],
    );
    expect(await failure(kit.setBudget(customer))).toBe('QUOTA_EXCEEDED');
  });
});

describe('a budget', () => {
  test('is nothing to another tenant, and the operator may look at it', async () => {
    const [customer, stranger] = [await kit.customer(), await kit.customer()];
    const { id } = await kit.setBudget(customer);
    expect(await kit.budgets.list(stranger.actor, null)).toEqual([]);
    expect(await failure(kit.budgets.list(stranger.actor, customer.tenantId))).toBe('NOT_FOUND tenant');
    expect(await kit.budgets.list(OPERATOR, customer.tenantId)).toMatchObject([{ id }]);
    const removal = { idempotencyKey: randomUUID(), budgetId: id };
    expect(await failure(kit.budgets.remove(stranger.actor, removal))).toBe('NOT_FOUND budget');
    expect(await failure(kit.budgets.remove(stranger.actor, { ...removal, budgetId: randomUUID() }))).toBe(
      'NOT_FOUND budget',
    );
  });

  test('bounds what is held and spent together, and says what is left', async () => {
    const customer = await kit.customer();
    const budget = await kit.setBudget(customer);
    const [first, second, third] = [
      kit.charge(customer, 60n),
      kit.charge(customer, 41n),
      kit.charge(customer, 40n),
    ];
    const refused = await kit.round([first, second, third]);
    expect(refused).toMatchObject([
      { request_id: second.id, budget_id: budget.id, scope: 'TENANT', amount_nano: '41', held_nano: '60' },
    ]);
    expect(await kit.budgets.list(customer.actor, null)).toMatchObject([{ spent: 0n, held: 100n, left: 0n }]);
    await kit.round([], [{ id: first.id, amount: 25n }]);
    expect(await kit.budgets.list(customer.actor, null)).toMatchObject([
      { spent: 25n, held: 40n, left: 35n },
    ]);
    await kit.setBudget(customer, { limit: 10n });
    expect(await kit.budgets.list(customer.actor, null)).toMatchObject([{ spent: 25n, held: 40n, left: 0n }]);
  });

  test('ends a request once, however often it is told', async () => {
    const customer = await kit.customer();
    await kit.setBudget(customer);
    const charge = kit.charge(customer, 50n);
    await kit.round([charge]);
    for (let times = 0; times < 3; times += 1) await kit.round([], [{ id: charge.id, amount: 20n }]);
    await kit.round([], [{ id: charge.id, amount: 50n }]);
    await kit.round([], [{ id: newId(systemClock), amount: 50n }]);
    expect(await kit.budgets.list(customer.actor, null)).toMatchObject([{ spent: 20n, held: 0n, left: 80n }]);
  });

  test('of a key or an adapter counts what that one costs', async () => {
    const customer = await kit.customer();
    const other = await kit.key(customer.tenantId);
    const { adapterId } = await kit.adapter(customer.tenantId, kit.backboneDigest);
    await kit.setBudget(customer, { subject: { scope: 'KEY', keyId: customer.keyId }, limit: 50n });
    await kit.setBudget(customer, { subject: { scope: 'ADAPTER', adapterId }, limit: 30n });
    const blend = kit.charge(customer, 40n, { adapters: { [adapterId]: 30n, [randomUUID()]: 10n } });
    const again = kit.charge(customer, 11n, { keyId: other, adapters: { [adapterId]: 1n } });
    const plain = kit.charge(customer, 11n, { keyId: other });
    const much = kit.charge(customer, 11n);
    const refused = await kit.round([blend, again, plain, much]);
    expect(refused.map(({ request_id, scope, subject_id }) => [request_id, scope, subject_id])).toEqual([
      [again.id, 'ADAPTER', adapterId],
      [much.id, 'KEY', customer.keyId],
    ]);
    await kit.round([], [{ id: blend.id, amount: 35n, adapters: { [adapterId]: 26n } }]);
    const listed = await kit.budgets.list(customer.actor, null);
    expect(listed.map(({ scope, spent, held }) => [scope, spent, held])).toEqual([
      ['KEY', 35n, 0n],
      ['ADAPTER', 26n, 0n],
    ]);
  });
});

describe('a budget that is made while a round runs', () => {
  test('counts from the next round on, and is not passed by the one that could not lock it', async () => {
    const [other, customer] = [await kit.customer(), await kit.customer()];
    const first = await kit.setBudget(other);
    const held = kit.charge(other, 10n);
    await kit.round([held]);
    const [guard, early, late] = [await connection(), await connection(), await connection()];
    // The round stops between its locks and its charges: at what it ends.
    await guard.query('BEGIN');
    await guard.query('SELECT 1 FROM budget_hold WHERE request_id = $1 FOR UPDATE', [held.id]);
    const stopped = chargeStatement([kit.charge(customer, 50n)], [{ id: held.id, amount: 1n }]);
    const running = early.query(stopped.text, stopped.values);
    await waitFor(
      async () => {
        const waiting = await kit.db.admin(
          `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
             AND query LIKE '%charge_budgets%'`,
        );
        return waiting.length === 1;
      },
      { what: 'the round to stop' },
    );
    const made = await kit.setBudget(customer);
    await kit.round([kit.charge(customer, 10n)]);
    const charged = chargeStatement([kit.charge(customer, 80n)]);
    await late.query('BEGIN');
    expect((await late.query(charged.text, charged.values)).rows).toEqual([]);
    await guard.query('ROLLBACK');
    await late.query('COMMIT');
    // It charges nothing that it did not lock, and so refuses nothing for it either.
    expect((await running).rows).toEqual([]);
    expect(await kit.budgets.list(customer.actor, null)).toMatchObject([
      { id: made.id, held: 90n, left: 10n },
    ]);
    expect(await kit.budgets.list(other.actor, null)).toMatchObject([{ id: first.id, spent: 1n, held: 0n }]);
    expect(await kit.round([kit.charge(customer, 11n)])).toHaveLength(1);
    for (const client of [guard, early, late]) await client.end();
  });
});

/** A connection that nothing else uses, as superuser: to stand in the way of what the program may lock. */
async function connection(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: kit.db.adminUrl });
  await client.connect();
  return client;
}

describe('removing a budget', () => {
  test('is done once for a key and recorded with what it was', async () => {
    const customer = await kit.customer();
    const { id } = await kit.setBudget(customer, { limit: 7n });
    const removal = { idempotencyKey: randomUUID(), budgetId: id };
    expect(await kit.budgets.remove(customer.actor, removal)).toBe(id);
    expect(await kit.budgets.remove(customer.actor, removal)).toBe(id);
    const anew = { ...removal, idempotencyKey: randomUUID() };
    expect(await failure(kit.budgets.remove(customer.actor, anew))).toBe('NOT_FOUND budget');
    const lines = await kit.db.admin(
      `SELECT target_id, before ->> 'limit' AS "limit" FROM audit_log WHERE tenant_id = $1 AND action = 'budget.remove'`,
      [customer.tenantId],
    );
    expect(lines).toEqual([{ target_id: id, limit: '7' }]);
  });

  test('while requests hold it lets them end, tells nobody, and does not bound the next one', async () => {
    const customer = await kit.customer();
    const month = await kit.setBudget(customer, { period: 'MONTH', limit: 1_000n });
    const day = await kit.setBudget(customer, { alertsPpm: [1] });
    const charge = kit.charge(customer, 100n);
    await kit.round([charge]);
    await kit.budgets.remove(customer.actor, { idempotencyKey: randomUUID(), budgetId: day.id });
    expect(await kit.round([kit.charge(customer, 200n)], [{ id: charge.id, amount: 90n }])).toEqual([]);
    expect(await kit.budgets.list(customer.actor, null)).toMatchObject([
      { id: month.id, spent: 90n, held: 200n },
    ]);
    expect(await kit.events(customer.tenantId)).toEqual([]);
    // What was spent of it stays on record.
    expect(
      await kit.db.admin('SELECT spent_nano, held_nano FROM budget_period WHERE budget_id = $1', [day.id]),
    ).toEqual([{ spent_nano: '90', held_nano: '0' }]);
  });
});

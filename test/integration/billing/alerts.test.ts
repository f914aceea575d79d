import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { ApiKeyService } from '../../../src/tenant/api-keys.ts';
import { capture, credit, hold } from '../ledger/kit.ts';
import { OPERATOR } from '../pricing/kit.ts';
import { type Customer, failure, type MoneyKit, openMoney } from './money-kit.ts';

let kit: MoneyKit;
let keys: ApiKeyService;
beforeAll(async () => {
  kit = await openMoney();
  keys = new ApiKeyService({ pepper: 'p' }, { database: kit.db.database, clock: systemClock, randomBytes });
});
afterAll(() => kit.db.dispose());

/** Events of a budget or an account: the kind, and the fact that is asked for. */
async function told(customer: Customer, subject: Uuid, fact: string): Promise<unknown[][]> {
  const events = await kit.events(customer.tenantId);
  return events
    .filter(({ subject_id }) => subject_id === subject)
    .map(({ kind, payload }) => [kind, payload[fact]]);
}

describe('the budget of a key that is rotated', () => {
  async function rotated(customer: Customer, id: Uuid, overlapMs: number): Promise<Uuid> {
    const { key } = await keys.rotate(customer.actor, { idempotencyKey: randomUUID(), id, overlapMs });
    return key.id;
  }

  test('bounds all keys of the chain together, during the overlap and after it', async () => {
    const customer = await kit.customer();
    const first = customer.keyId;
    const budget = await kit.setBudget(customer, { subject: { scope: 'KEY', keyId: first }, limit: 10n });
    const second = await rotated(customer, first, 60_000);
    const third = await rotated(customer, second, 0);
    const charge = (keyId: Uuid, amount: bigint) => kit.charge(customer, amount, { keyId });
    expect(await kit.round([charge(first, 3n), charge(second, 3n), charge(third, 3n)])).toEqual([]);
    const [refusal] = await kit.round([charge(third, 2n)]);
    expect(refusal).toMatchObject({ budget_id: budget.id, scope: 'KEY', subject_id: first, held_nano: '9' });
    // Another key of the tenant has nothing to do with it.
    expect(await kit.round([charge(await kit.key(customer.tenantId), 50n)])).toEqual([]);
  });

  test('is the same one whichever key of the chain it is set for', async () => {
    const customer = await kit.customer();
    const first = customer.keyId;
    const second = await rotated(customer, first, 60_000);
    const made = await kit.setBudget(customer, { subject: { scope: 'KEY', keyId: second }, limit: 10n });
    expect(made.subjectId).toBe(first);
    const changed = await kit.setBudget(customer, { subject: { scope: 'KEY', keyId: first }, limit: 11n });
    expect(changed).toMatchObject({ id: made.id, limit: 11n });
  });

  test('cannot be left behind by a key that names another origin', async () => {
    const customer = await kit.customer();
    const id = newId(systemClock);
    await kit.db.database.withTenant(customer.tenantId, (tx) =>
      tx.apiKey.createMany({
        data: {
          ...{ id, tenantId: customer.tenantId, kind: 'TENANT', name: 'k', prefix: 'p', scopes: [] },
          ...{ keyHash: randomBytes(32), createdAt: new Date(), rotatedFrom: customer.keyId, originId: id },
        },
      }),
    );
    expect(await kit.db.admin('SELECT origin_id FROM api_key WHERE id = $1', [id])).toEqual([
      { origin_id: customer.keyId },
    ]);
  });
});

describe('a budget that refuses', () => {
  test('tells so once in its period, each that refuses, and again after another limit', async () => {
    const customer = await kit.customer();
    const day = await kit.setBudget(customer, { limit: 10n });
    const month = await kit.setBudget(customer, { period: 'MONTH', limit: 12n });
    const wide = await kit.setBudget(customer, {
      subject: { scope: 'KEY', keyId: customer.keyId },
      limit: 1_000n,
    });
    const much = () => kit.charge(customer, 20n);
    expect(await kit.round([kit.charge(customer, 9n), much(), much()])).toHaveLength(2);
    expect(await kit.round([much()])).toHaveLength(1);
    const [event] = (await kit.events(customer.tenantId)).filter(({ subject_id }) => subject_id === day.id);
    expect(event).toMatchObject({
      kind: 'budget.exhausted',
      payload: {
        scope: 'TENANT',
        period: 'DAY',
        limitNano: '10',
        spentNano: '0',
        heldNano: '9',
        amountNano: '20',
      },
    });
    expect(await told(customer, day.id, 'limitNano')).toHaveLength(1);
    expect(await told(customer, month.id, 'limitNano')).toEqual([['budget.exhausted', '12']]);
    expect(await told(customer, wide.id, 'limitNano')).toEqual([]);
    // Other thresholds are no other limit.
    await kit.setBudget(customer, { limit: 10n, alertsPpm: [500_000] });
    await kit.round([much()]);
    expect(await told(customer, day.id, 'limitNano')).toHaveLength(1);
    await kit.setBudget(customer, { limit: 15n });
    await kit.round([much()]);
    expect(await told(customer, day.id, 'limitNano')).toEqual([
      ['budget.exhausted', '10'],
      ['budget.exhausted', '15'],
    ]);
  });

  test('leaves nothing of it when the round is undone', async () => {
    const customer = await kit.customer();
    const budget = await kit.setBudget(customer, { limit: 1n });
    const undone = kit.db.database.withSystemPg(async (client) => {
      await client.query('SELECT * FROM patchbay.charge_budgets($1::jsonb, $2::jsonb)', [
        JSON.stringify([
          {
            ord: 1,
            id: randomUUID(),
            tenant_id: customer.tenantId,
            key_id: customer.keyId,
            amount: '2',
            adapters: {},
          },
        ]),
        '[]',
      ]);
      throw new Error('undone');
    });
    await expect(undone).rejects.toThrow('undone');
    expect(await told(customer, budget.id, 'limitNano')).toEqual([]);
    await kit.round([kit.charge(customer, 2n)]);
    expect(await told(customer, budget.id, 'limitNano')).toEqual([['budget.exhausted', '1']]);
  });
});

describe('a threshold', () => {
  test('is told at once when a lower limit or a new threshold makes it reached, and once', async () => {
    const customer = await kit.customer();
    const { id } = await kit.setBudget(customer, { limit: 100n });
    const charge = kit.charge(customer, 50n);
    await kit.round([charge]);
    await kit.round([], [{ id: charge.id, amount: 50n }]);
    expect(await told(customer, id, 'thresholdPpm')).toEqual([]);
    await kit.setBudget(customer, { limit: 60n });
    await kit.setBudget(customer, { limit: 61n });
    expect(await told(customer, id, 'thresholdPpm')).toEqual([['budget.threshold', 800_000]]);
    await kit.setBudget(customer, { limit: 40n });
    // What was told of higher ones is told of lower ones too.
    await kit.setBudget(customer, { limit: 1_000n, alertsPpm: [40_000] });
    await kit.setBudget(customer, { limit: 1_000n, alertsPpm: [1_000, 45_000] });
    expect(await told(customer, id, 'thresholdPpm')).toEqual([
      ['budget.threshold', 800_000],
      ['budget.threshold', 1_000_000],
      ['budget.threshold', 45_000],
    ]);
    // Of nothing that is spent, nothing is reached.
    const idle = await kit.customer();
    await kit.setBudget(idle, { limit: 5n });
    const none = await kit.setBudget(idle, { limit: 0n });
    expect(await told(idle, none.id, 'thresholdPpm')).toEqual([]);
  });
});

describe('an operator', () => {
  test('sets and removes budgets of the tenant that is named, recorded there, and none of the platform', async () => {
    const [customer, stranger] = [await kit.customer(), await kit.customer()];
    const operator = { ...customer, actor: OPERATOR };
    const { tenantId } = customer;
    const made = await kit.setBudget(operator, {
      tenantId,
      subject: { scope: 'KEY', keyId: customer.keyId },
    });
    expect(made.tenantId).toBe(tenantId);
    expect(await kit.budgets.list(customer.actor, null)).toMatchObject([{ id: made.id }]);
    const foreign = { tenantId, subject: { scope: 'KEY' as const, keyId: stranger.keyId } };
    expect(await failure(kit.setBudget(operator, foreign))).toBe('NOT_FOUND key');
    expect(await failure(kit.setBudget(operator))).toBe('BAD_INPUT tenant');
    expect(await failure(kit.setBudget(operator, { tenantId: PLATFORM_TENANT_ID }))).toBe('BAD_INPUT tenant');
    expect(await failure(kit.setBudget(operator, { tenantId: randomUUID() }))).toBe('NOT_FOUND tenant');
    expect(await failure(kit.setBudget(stranger, { tenantId }))).toBe('NOT_FOUND tenant');
    const removal = () => ({ idempotencyKey: randomUUID(), budgetId: made.id });
    expect(await failure(kit.budgets.remove(OPERATOR, removal()))).toBe('BAD_INPUT tenant');
    expect(await failure(kit.budgets.remove(stranger.actor, { ...removal(), tenantId }))).toBe(
      'NOT_FOUND tenant',
    );
    expect(await kit.budgets.remove(OPERATOR, { ...removal(), tenantId })).toBe(made.id);
    const lines = await kit.db.admin(
      'SELECT action, actor_kind FROM audit_log WHERE tenant_id = $1 ORDER BY id',
      [tenantId],
    );
    expect(lines).toMatchObject([
      { action: 'budget.set', actor_kind: 'OPERATOR' },
      { action: 'budget.remove', actor_kind: 'OPERATOR' },
    ]);
    expect(await kit.db.admin('SELECT 1 FROM budget WHERE tenant_id = $1', [PLATFORM_TENANT_ID])).toEqual([]);
  });
});

describe('a balance', () => {
  /** A request of the customer's that costs so much. */
  async function spend(accountId: Uuid, amount: bigint): Promise<void> {
    const base = await kit.ledger.openAccount(PLATFORM_TENANT_ID, 'PLATFORM_BASE', 'USD');
    const asked = hold(accountId, amount);
    await kit.ledger.hold(asked, 'inference');
    await kit.ledger.capture(capture(asked.id, [credit(base, amount)]));
  }
  const terms = (customer: Customer, creditLimit: bigint, alertBelow: bigint | null) =>
    kit.funds.setCreditLimit(OPERATOR, {
      ...{ idempotencyKey: randomUUID(), tenantId: customer.tenantId, creditLimit, alertBelow },
    });

  test('that falls below its threshold is told of once, until it was above it again', async () => {
    const customer = await kit.customer();
    await kit.move(customer, { amount: 100n });
    const account = await kit.ledger.openAccount(customer.tenantId, 'CUSTOMER', 'USD');
    await spend(account, 90n);
    expect(await told(customer, account, 'leftNano')).toEqual([['balance.adjusted', undefined]]);
    await kit.move(customer, { amount: 90n });
    expect((await terms(customer, 0n, 50n)).balance.alertBelow).toBe(50n);
    const low = async () =>
      (await told(customer, account, 'leftNano'))
        .filter(([kind]) => kind === 'balance.low')
        .map(([, left]) => left);
    // What is only held is not spent.
    await kit.ledger.hold(hold(account, 40n), 'inference');
    await spend(account, 50n);
    expect(await low()).toEqual([]);
    await spend(account, 1n);
    await spend(account, 2n);
    expect(await low()).toEqual(['49']);
    await kit.move(customer, { amount: 3n });
    await spend(account, 1n);
    expect(await low()).toEqual(['49', '49']);
    const [event] = (await kit.events(customer.tenantId)).filter(({ kind }) => kind === 'balance.low');
    expect(event?.payload).toEqual({
      currency: 'USD',
      leftNano: '49',
      creditLimitNano: '0',
      thresholdNano: '50',
    });
    // Credit is left too; another threshold is told anew, and none is never told.
    await terms(customer, 20n, null);
    expect(await low()).toHaveLength(2);
    await terms(customer, 20n, 1_000n);
    expect(await low()).toEqual(['49', '49', '69']);
    await terms(customer, 20n, 0n);
    await spend(account, 20n);
    expect(await low()).toHaveLength(3);
    expect(await kit.accounts.balances(customer.actor, null)).toMatchObject([{ alertBelow: 0n }]);
    expect(await failure(terms(customer, 20n, -1n))).toBe('BAD_INPUT alertBelow');
  });

  test('has its threshold in the audit log', async () => {
    const customer = await kit.customer();
    await terms(customer, 0n, 5n);
    await terms(customer, 0n, 5n);
    const lines = await kit.db.admin<{ before: object; after: object }>(
      `SELECT before, after FROM audit_log WHERE tenant_id = $1`,
      [customer.tenantId],
    );
    expect(lines).toMatchObject([{ before: { alertBelow: '0' }, after: { alertBelow: '5' } }]);
  });
});

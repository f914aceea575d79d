import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { BudgetState } from '../../../src/billing/budget-state.ts';
import { BudgetService, type SetBudgetInput } from '../../../src/billing/budgets.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { PRICE_LEAD_MS } from '../../../src/pricing/resolver.ts';
import { waitFor } from '../../kit/wait.ts';
import { plays } from '../inference/fake-engine.ts';
import { collect, plainInput, quiesce, type TestProcess, take, testCaller } from '../inference/harness.ts';
import { actorOf } from '../pricing/kit.ts';
import { type BillingKit, openBilling, PRICE, priceBackbone } from './kit.ts';

let kit: BillingKit;
let api: TestProcess;
let budgets: BudgetService;
let tenantId: Uuid;

beforeAll(async () => {
  kit = await openBilling();
  await priceBackbone(kit, PRICE);
  api = await kit.process();
  budgets = new BudgetService({ database: kit.db.database, clock: kit.clock });
});
afterAll(() => kit.close());
beforeEach(async () => {
  tenantId = await kit.customer(10_000_000n);
  api.engine.script = plays(() => 10);
});

/** 3 prompt tokens, one of them cached, and 10 more; and the most that it can cost. */
const COST = 22_500n;
const MOST = 23_001n;
const input = () => plainInput(3, { maxTokens: 10 });

/** What the tenant's requests have cost, out of their records. */
async function recorded(): Promise<bigint> {
  const [row] = await kit.db.admin<{ amount: string }>(
    'SELECT coalesce(sum(amount_nano), 0)::text AS amount FROM usage_record WHERE tenant_id = $1',
    [tenantId],
  );
  return BigInt(row?.amount ?? 0);
}

function set(more: Partial<SetBudgetInput> = {}): Promise<BudgetState> {
  kit.clock.advance(1);
  return budgets.set(actorOf(tenantId), {
    idempotencyKey: randomUUID(),
    subject: { scope: 'TENANT' },
    period: 'MONTH',
    limit: 1_000_000n,
    alertsPpm: null,
    ...more,
  });
}

async function read(id: Uuid): Promise<BudgetState | undefined> {
  return (await budgets.list(actorOf(tenantId), null)).find((budget) => budget.id === id);
}

async function key(rotatedFrom: Uuid | null): Promise<Uuid> {
  const id = newId(kit.clock);
  await kit.db.admin(
    `INSERT INTO api_key (id, tenant_id, kind, name, prefix, key_hash, scopes, created_at, rotated_from)
     VALUES ($1, $2, 'TENANT', 'k', 'p', sha256($3::text::bytea), '{}', now(), $4)`,
    [id, tenantId, id, rotatedFrom],
  );
  return id;
}

describe('a budget that is made in the middle of its period', () => {
  test('has spent what was spent, tells the threshold that this reaches, and does not begin anew when it is removed', async () => {
    for (let i = 0; i < 2; i += 1) await collect(await api.service.infer(testCaller(tenantId), input()));
    const spent = await recorded();
    expect(spent).toBeGreaterThan(0n);
    const limit = spent + MOST - 1n;
    const made = await set({ limit, alertsPpm: [100_000] });
    expect(made).toMatchObject({ spent, held: 0n, left: MOST - 1n });
    await expect(api.service.infer(testCaller(tenantId), input())).rejects.toMatchObject({
      code: 'BUDGET_EXCEEDED',
    });
    expect(
      await kit.db.admin('SELECT kind FROM outbox_event WHERE subject_id = $1 ORDER BY position', [made.id]),
    ).toEqual([{ kind: 'budget.threshold' }, { kind: 'budget.exhausted' }]);
    await budgets.remove(actorOf(tenantId), { idempotencyKey: randomUUID(), budgetId: made.id });
    expect(await set({ limit })).toMatchObject({ spent, held: 0n });
  });

  test('holds what runs, and counts what that costs in the end', async () => {
    api.engine.script = null;
    const stream = await api.service.infer(testCaller(tenantId), input());
    await take(stream);
    const made = await set();
    expect(made).toMatchObject({ spent: 0n, held: MOST });
    const sequence = await api.engine.sequence(api.engine.all.length - 1);
    sequence.emit(1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
    sequence.end('stop');
    await collect(stream);
    expect(await read(made.id)).toMatchObject({ spent: COST, held: 0n });
    expect(await recorded()).toBe(COST);
  });

  test('counts what was admitted in the period, not what ended in it', async () => {
    await collect(await api.service.infer(testCaller(tenantId), input()));
    await collect(await api.service.infer(testCaller(tenantId), input()));
    const spent = await recorded();
    // One of the two is moved to before the month; it ended in it.
    await kit.db.admin('ALTER TABLE usage_record DISABLE TRIGGER append_only');
    const [moved] = await kit.db.admin<{ amount_nano: string }>(
      `UPDATE usage_record SET admitted_at = date_trunc('month', now(), 'UTC') - interval '1 second'
       WHERE id = (SELECT id FROM usage_record WHERE tenant_id = $1 ORDER BY id LIMIT 1) RETURNING amount_nano`,
      [tenantId],
    );
    await kit.db.admin('ALTER TABLE usage_record ENABLE TRIGGER append_only');
    expect(await set()).toMatchObject({ spent: spent - BigInt(moved?.amount_nano ?? 0) });
  });

  test('of a key counts its chain of rotations, and of an adapter that adapter', async () => {
    const owner = await kit.tenant();
    const { adapterId } = await kit.adapterWithRoyalty(`a-${tenantId}`, owner, 0n);
    kit.clock.advance(PRICE_LEAD_MS + 1);
    const [first, other] = [await key(null), await key(null)];
    const second = await key(first);
    const caller = (keyId: Uuid) => ({ ...testCaller(tenantId), keyId });
    const { plainBackbone: _plain, ...rest } = input();
    await collect(await api.service.infer(caller(first), input()));
    const one = await recorded();
    await collect(
      await api.service.infer(caller(second), { ...rest, adapters: [{ adapter: `a-${tenantId}` }] }),
    );
    const two = await recorded();
    await collect(await api.service.infer(caller(other), input()));
    api.engine.script = null;
    const running = await api.service.infer(caller(second), {
      ...rest,
      adapters: [{ adapter: `a-${tenantId}` }],
    });
    await take(running);
    const ofKey = await set({ subject: { scope: 'KEY', keyId: second } });
    const ofAdapter = await set({ subject: { scope: 'ADAPTER', adapterId } });
    expect(ofKey).toMatchObject({ subjectId: first, spent: two, held: MOST });
    expect(ofAdapter).toMatchObject({ spent: two - one, held: MOST });
    const all = await recorded();
    const sequence = await api.engine.sequence(api.engine.all.length - 1);
    sequence.end('stop');
    await collect(running);
    const last = (await recorded()) - all;
    expect(await read(ofKey.id)).toMatchObject({ spent: two + last, held: 0n });
    expect(await read(ofAdapter.id)).toMatchObject({ spent: two - one + last, held: 0n });
  });

  test('counts what is settled between its sum and its lock, once', async () => {
    await collect(await api.service.infer(testCaller(tenantId), input()));
    api.engine.script = null;
    const stream = await api.service.infer(testCaller(tenantId), input());
    await take(stream);
    const { accountId } = await kit.balance(tenantId);
    const waiting = (count: number) =>
      waitFor(
        async () => {
          const rows = await kit.db.admin(
            `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
          );
          return rows.length === count;
        },
        { what: `${count} that wait` },
      );
    let settling: Promise<unknown> = Promise.resolve();
    let making: Promise<BudgetState[]> = Promise.resolve([]);
    // Nothing of the account moves, and first the settlement and then the budgets wait for it.
    await kit.db.database.withSystemPg(async (client) => {
      await client.query('SELECT patchbay.ledger_lock($1)', [[accountId]]);
      const sequence = await api.engine.sequence(api.engine.all.length - 1);
      sequence.emit(1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
      sequence.end('stop');
      settling = collect(stream);
      await waiting(1);
      making = Promise.all([set(), set({ period: 'DAY' })]);
      await waiting(3);
    });
    await settling;
    const made = await making;
    expect(await recorded()).toBe(2n * COST);
    expect(made).toHaveLength(2);
    for (const { id } of made) expect(await read(id)).toMatchObject({ spent: 2n * COST, held: 0n });
  });

  test('misses nothing and counts nothing twice while requests are admitted and settled', async () => {
    const run = async (): Promise<void> => {
      for (let i = 0; i < 8; i += 1) await collect(await api.service.infer(testCaller(tenantId), input()));
    };
    const running = Promise.all(Array.from({ length: 8 }, run));
    const made: BudgetState[] = [];
    for (let i = 0; i < 6; i += 1) {
      for (const { id } of made.splice(0)) {
        await budgets.remove(actorOf(tenantId), { idempotencyKey: randomUUID(), budgetId: id });
      }
      made.push(await set({ limit: 10n ** 12n }), await set({ limit: 10n ** 12n, period: 'DAY' }));
    }
    await running;
    await quiesce(api);
    const spent = await recorded();
    for (const { id } of made) expect(await read(id)).toMatchObject({ spent, held: 0n });
  });
});

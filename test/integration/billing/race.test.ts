import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { systemClock } from '../../../src/kernel/clock.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { reconcile } from '../../../src/reconciliation/reconcile.ts';
import { LineProcess } from '../../kit/line-process.ts';
import { type BillingKit, openBilling, priceBackbone } from './kit.ts';

const PROCESSES = 3;
const CLIENTS = 64;
const TOKENS = 5;
const COST = 10_000n;

const readySchema = z.object({ event: z.literal('ready') });
const doneSchema = z.object({ event: z.literal('done'), served: z.number() });

let kit: BillingKit;
let processes: LineProcess[] = [];

beforeAll(async () => {
  kit = await openBilling();
  // The processes have clocks of their own.
  kit.clock.set(systemClock.nowMs());
  await priceBackbone(kit, { outputPerMillion: 2_000_000_000n });
  processes = Array.from(
    { length: PROCESSES },
    () => new LineProcess('test/integration/billing/charge-process.ts', [kit.db.appUrl, kit.db.systemUrl]),
  );
  await Promise.all(processes.map((one) => one.next(readySchema)));
});
afterAll(async () => {
  await Promise.all(processes.map((one) => one.end()));
  await kit.close();
});

/** Lets all clients of all processes ask until they are refused; answers how many requests were served. */
async function exhaust(tenantId: Uuid): Promise<number> {
  const served = await Promise.all(
    processes.map(async (one, index) => {
      const clients = Math.floor(CLIENTS / PROCESSES) + (index < CLIENTS % PROCESSES ? 1 : 0);
      one.send({ tenantId, clients, maxTokens: TOKENS });
      return (await one.next(doneSchema)).served;
    }),
  );
  return served.reduce((sum, count) => sum + count, 0);
}

describe(`${CLIENTS} clients over ${PROCESSES} processes`, () => {
  test('spend a balance to the last request that fits, and not one more', async () => {
    const tenantId = await kit.customer(100n * COST + COST - 1n);
    expect(await exhaust(tenantId)).toBe(100);
    expect(await kit.balance(tenantId)).toMatchObject({ posted: COST - 1n, held: 0n });
  });

  test('spend a budget to the last request that fits, and not one more', async () => {
    const tenantId = await kit.customer(1_000n * COST);
    const id = newId(systemClock);
    await kit.db.admin(
      `INSERT INTO budget (id, tenant_id, scope, subject_id, period, currency, limit_nano, created_at, updated_at)
       VALUES ($1, $2, 'TENANT', '00000000-0000-0000-0000-000000000000', 'MONTH', 'USD', $3, now(), now())`,
      [id, tenantId, String(70n * COST + 1n)],
    );
    expect(await exhaust(tenantId)).toBe(70);
    const spent = await kit.db.admin<{ spent: string; held: string }>(
      'SELECT sum(spent_nano) AS spent, sum(held_nano) AS held FROM budget_period WHERE budget_id = $1',
      [id],
    );
    expect(spent).toEqual([{ spent: String(70n * COST), held: '0' }]);
    expect(await kit.balance(tenantId)).toMatchObject({ posted: 930n * COST, held: 0n });
  });

  test('leave accounts that add up to nothing, and nothing held', async () => {
    expect(await kit.db.admin('SELECT sum(amount) AS net FROM ledger_posting')).toEqual([{ net: '0' }]);
    expect(await kit.db.admin('SELECT FROM ledger_open_hold')).toEqual([]);
    expect(await kit.db.admin('SELECT sum(amount_nano)::text AS used FROM usage_record')).toEqual([
      { used: String(170n * COST) },
    ]);
    const ever = { from: new Date(0), to: new Date(4e12), tenantId: null };
    expect(await reconcile(kit.db.database, ever)).toMatchObject({
      requests: 170,
      uncounted: 0,
      differences: [],
    });
  });
});

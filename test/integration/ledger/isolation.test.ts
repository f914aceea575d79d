import { afterAll, beforeAll, expect, test } from 'vitest';
import { SQLSTATE, sqlState } from '../../../src/db/errors.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { newId } from '../../../src/kernel/ids.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { type Customer, capture, createLedger, credit, hold, type TestLedger } from './kit.ts';

let db: TestDatabase;
let ledger: TestLedger;
let alice: Customer;
let owner: Customer;
beforeAll(async () => {
  db = await createTestDatabase();
  ledger = await createLedger(db);
  alice = await ledger.customer(100n);
  owner = await ledger.beneficiary();
  await ledger.service.setCreditLimit(alice.accountId, 5n, 'limit');
  const held = hold(alice.accountId, 10n);
  await ledger.service.hold(held, 'request');
  await ledger.service.capture(
    capture(held.id, [credit(ledger.fee, 3n), credit(owner.accountId, 7n, newId(systemClock))]),
  );
  await ledger.service.hold(hold(alice.accountId, 1n), 'request');
  await ledger.sealer.run();
});
afterAll(() => db.dispose());

const TENANT_TABLES = [
  'ledger_account',
  'ledger_limit',
  'ledger_transfer',
  'ledger_posting',
  'ledger_balance',
  'ledger_fold',
  'ledger_open_hold',
];

async function seen(tenantId: string): Promise<Record<string, number>> {
  return db.database.withTenantPg(tenantId, async (client) => {
    const counts: Record<string, number> = {};
    for (const table of TENANT_TABLES) {
      const { rows } = await client.query<{ count: string }>(`SELECT count(*)::text AS count FROM ${table}`);
      counts[table] = Number(rows[0]?.count);
    }
    return counts;
  });
}

test('a customer sees their own side of a capture, a beneficiary theirs', async () => {
  expect(await seen(alice.tenantId)).toEqual({
    ledger_account: 1,
    ledger_limit: 1,
    ledger_transfer: 4,
    ledger_posting: 2,
    ledger_balance: 1,
    ledger_fold: 0,
    ledger_open_hold: 1,
  });
  expect(await seen(owner.tenantId)).toEqual({
    ledger_account: 1,
    ledger_limit: 0,
    ledger_transfer: 0,
    ledger_posting: 1,
    ledger_balance: 1,
    ledger_fold: 1,
    ledger_open_hold: 0,
  });
});

test('another tenant, and no tenant, see nothing at all', async () => {
  const stranger = await ledger.tenant();
  for (const count of Object.values(await seen(stranger))) expect(count).toBe(0);
  for (const table of TENANT_TABLES) {
    expect(await db.database.queryApp(`SELECT FROM ${table}`, [])).toEqual([]);
  }
  expect(await ledger.service.ownBalances(stranger)).toEqual([]);
  expect(await db.database.queryApp('SELECT * FROM patchbay.ledger_own_balances()', [])).toEqual([]);
});

test('a tenant reads its balances, folded or not', async () => {
  const [customer] = await ledger.service.ownBalances(alice.tenantId);
  expect(customer).toMatchObject({ posted: 90n, held: 1n, creditLimit: 5n, available: 94n });
  const [earned] = await ledger.service.ownBalances(owner.tenantId);
  expect(earned).toMatchObject({ posted: 7n, accountId: owner.accountId });
});

test('a tenant can call nothing that writes or looks across, nor read the chain', async () => {
  const refused = async (text: string): Promise<string | null> =>
    db.database.withTenantPg(alice.tenantId, (client) => client.query(text)).then(() => 'done', sqlState);
  const functions = await db.admin<{ call: string; name: string }>(
    `SELECT oid::regprocedure::text AS name,
            format('SELECT %s(%s)', oid::regproc, (SELECT string_agg('NULL::' || format_type(t, NULL), ', ')
              FROM unnest(proargtypes) t)) AS call
     FROM pg_proc WHERE proname LIKE 'ledger\\_%' AND pronamespace = 'patchbay'::regnamespace AND prorettype <> 'trigger'::regtype`,
  );
  expect(functions.length).toBeGreaterThan(10);
  for (const { name, call } of functions) {
    if (name === 'patchbay.ledger_own_balances()') continue;
    expect([name, await refused(call)]).toEqual([name, SQLSTATE.insufficientPrivilege]);
  }
  for (const table of ['ledger_batch', 'ledger_unsealed']) {
    expect(await refused(`SELECT FROM ${table}`)).toBe(SQLSTATE.insufficientPrivilege);
  }
  for (const table of TENANT_TABLES) {
    expect(await refused(`INSERT INTO ${table} DEFAULT VALUES`)).toBe(SQLSTATE.insufficientPrivilege);
    expect(await refused(`DELETE FROM ${table}`)).toBe(SQLSTATE.insufficientPrivilege);
  }
});

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SQLSTATE, sqlState } from '../../../src/db/errors.ts';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';

const ALICE = '0192f000-0000-7000-8000-00000000000a';
const BOB = '0192f000-0000-7000-8000-00000000000b';

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
  await db.database.withSystem(async (tx) => {
    for (const [id, slug] of [
      [ALICE, 'alice'],
      [BOB, 'bob'],
    ] as const) {
      await tx.tenant.create({ data: { id, name: slug, slug, createdAt: new Date(0) } });
    }
  });
  for (const tenantId of [ALICE, BOB])
    await db.database.withTenant(tenantId, (tx) => tx.auditLog.create({ data: record(tenantId) }));
});

afterAll(() => db.dispose());

function record(tenantId: string) {
  return {
    id: crypto.randomUUID(),
    tenantId,
    at: new Date(0),
    actorKind: 'SYSTEM',
    action: 'test',
    targetType: 'test',
    outcome: 'DONE' as const,
  };
}

/** The SQLSTATE that the work fails with; null when it does not fail. */
async function stateOf(work: Promise<unknown>): Promise<string | null> {
  try {
    await work;
    return null;
  } catch (error) {
    return sqlState(error) ?? `not a database error: ${error}`;
  }
}

describe('row-level security', () => {
  test('a tenant reads its own rows and no others', async () => {
    const rows = await db.database.withTenant(ALICE, (tx) => tx.auditLog.findMany());
    expect(rows.map((row) => row.tenantId)).toEqual([ALICE]);
    const tenants = await db.database.withTenant(ALICE, (tx) => tx.tenant.findMany());
    expect(tenants.map((tenant) => tenant.id)).toEqual([ALICE]);
  });

  test('writing a row of another tenant is refused with 42501, through Prisma and through pg', async () => {
    const viaPrisma = db.database.withTenant(ALICE, (tx) => tx.auditLog.create({ data: record(BOB) }));
    expect(await stateOf(viaPrisma)).toBe(SQLSTATE.insufficientPrivilege);
    const viaPg = db.database.withTenantPg(ALICE, (client) =>
      client.query(
        `INSERT INTO audit_log (id, tenant_id, at, actor_kind, action, target_type, outcome)
         VALUES (gen_random_uuid(), $1, now(), 'SYSTEM', 'x', 'x', 'DONE')`,
        [BOB],
      ),
    );
    expect(await stateOf(viaPg)).toBe(SQLSTATE.insufficientPrivilege);
  });

  test('without a tenant the app role sees nothing and writes nothing', async () => {
    expect(await db.database.queryApp('SELECT * FROM audit_log', [])).toEqual([]);
    expect(await db.database.queryApp('SELECT * FROM tenant', [])).toEqual([]);
    const write = db.database.queryApp(
      `INSERT INTO audit_log (id, tenant_id, at, actor_kind, action, target_type, outcome)
       VALUES (gen_random_uuid(), $1, now(), 'SYSTEM', 'x', 'x', 'DONE')`,
      [ALICE],
    );
    expect(await stateOf(write)).toBe(SQLSTATE.insufficientPrivilege);
  });

  test('the tenant ends with its transaction, whether that commits or fails', async () => {
    const tenantOf = () =>
      db.database.queryApp<{ tenant: string | null }>('SELECT patchbay.current_tenant() AS tenant', []);
    await db.database.withTenantPg(ALICE, (client) => client.query('SELECT 1'));
    await stateOf(db.database.withTenantPg(ALICE, (client) => client.query('SELECT 1/0')));
    for (let i = 0; i < 20; i += 1) expect(await tenantOf()).toEqual([{ tenant: null }]);
  });

  test('the app role cannot create tenants, and no role can make a tenant an operator', async () => {
    const create = db.database.withTenant(ALICE, (tx) =>
      tx.tenant.create({ data: { id: ALICE, name: 'x', slug: 'x', createdAt: new Date(0) } }),
    );
    expect(await stateOf(create)).toBe(SQLSTATE.insufficientPrivilege);
    const elevate = db.database.withTenant(ALICE, (tx) =>
      tx.apiKey.create({
        data: {
          id: crypto.randomUUID(),
          tenantId: ALICE,
          kind: 'OPERATOR',
          name: 'x',
          prefix: 'x',
          keyHash: new Uint8Array(32),
          scopes: [],
          createdAt: new Date(0),
        },
      }),
    );
    expect(await stateOf(elevate)).toBe(SQLSTATE.insufficientPrivilege);
    const asOwner = db.admin(
      `INSERT INTO api_key (id, tenant_id, kind, name, prefix, key_hash, scopes, created_at)
       VALUES (gen_random_uuid(), $1, 'OPERATOR', 'x', 'x', sha256('x'), '{}', now())`,
      [ALICE],
    );
    expect(await stateOf(asOwner)).toBe('23514');
  });

  test('the audit log refuses change, from the superuser too', async () => {
    expect(await stateOf(db.admin(`UPDATE audit_log SET action = 'y'`))).toBe(SQLSTATE.insufficientPrivilege);
    expect(await stateOf(db.admin('DELETE FROM audit_log'))).toBe(SQLSTATE.insufficientPrivilege);
    expect(await stateOf(db.admin('TRUNCATE audit_log'))).toBe(SQLSTATE.insufficientPrivilege);
    const asSystem = db.database.withSystem((tx) => tx.auditLog.deleteMany());
    expect(await stateOf(asSystem)).toBe(SQLSTATE.insufficientPrivilege);
  });

  test('a tenant scope without a valid tenant id never reaches the database', async () => {
    await expect(db.database.withTenant('', async () => 1)).rejects.toMatchObject({ code: 'INTERNAL' });
  });

  test('the platform tenant exists and is invisible to tenants', async () => {
    const read = (tenantId: string) =>
      db.database.withTenant(tenantId, (tx) => tx.tenant.findUnique({ where: { id: PLATFORM_TENANT_ID } }));
    expect(await read(ALICE)).toBeNull();
    expect(await read(PLATFORM_TENANT_ID)).toMatchObject({ slug: 'platform' });
  });
});

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';

// These tests walk the catalogue, so that a table that a later migration adds is covered without being named here.

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.dispose());

/**
 * Policies that let a tenant see rows of others on purpose, as `table.policy`. Each needs a reason here.
 */
const PUBLIC_POLICIES: readonly string[] = [];

const ROLES = ['patchbay_app', 'patchbay_system', 'patchbay_definer'];

describe('the catalogue', () => {
  test('every table with a tenant_id has row-level security enabled and forced, and the id is not null', async () => {
    const rows = await db.admin<{ name: string; safe: boolean }>(`
      SELECT c.oid::regclass::text AS name,
             c.relrowsecurity AND c.relforcerowsecurity AND a.attnotnull AND a.atttypid = 'uuid'::regtype AS safe
      FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
      WHERE c.relkind IN ('r', 'p') AND c.relnamespace IN ('public'::regnamespace, 'patchbay'::regnamespace)`);
    expect(rows.length).toBeGreaterThan(2);
    expect(rows.filter((row) => !row.safe)).toEqual([]);
  });

  test('every policy for the app role compares with the current tenant', async () => {
    const rows = await db.admin<{ name: string }>(`
      SELECT tablename || '.' || policyname AS name FROM pg_policies
      WHERE permissive = 'PERMISSIVE' AND (roles && ARRAY['patchbay_app', 'public']::name[])
        AND (coalesce(qual, 'current_tenant') NOT LIKE '%current_tenant%'
             OR coalesce(with_check, 'current_tenant') NOT LIKE '%current_tenant%')
        AND tablename IN (
          SELECT table_name FROM information_schema.columns WHERE column_name = 'tenant_id' AND table_schema = 'public')`);
    expect(rows.map((row) => row.name).filter((name) => !PUBLIC_POLICIES.includes(name))).toEqual([]);
  });

  test('no role of the program can bypass, own, or administer anything', async () => {
    const roles = await db.admin(
      `SELECT rolname FROM pg_roles WHERE rolname = ANY($1)
         AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication OR rolinherit)`,
      [ROLES],
    );
    expect(roles).toEqual([]);
    const memberships = await db.admin(
      `SELECT roleid::regrole, member::regrole FROM pg_auth_members WHERE member::regrole::text = ANY($1)`,
      [ROLES],
    );
    expect(memberships).toEqual([]);
    const tables = await db.admin(
      `SELECT oid::regclass FROM pg_class WHERE relowner::regrole::text = ANY($1)`,
      [ROLES],
    );
    expect(tables).toEqual([]);
    const functions = await db.admin(
      `SELECT oid::regprocedure FROM pg_proc WHERE proowner::regrole::text = ANY($1)
         AND NOT (proowner = 'patchbay_definer'::regrole AND prosecdef)`,
      [ROLES],
    );
    expect(functions).toEqual([]);
  });

  test('no role of the program may truncate, reference or put triggers on any table', async () => {
    const rows = await db.admin(
      `SELECT c.oid::regclass::text AS name, role, privilege
       FROM pg_class c, unnest($1::text[]) role, unnest(ARRAY['TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN']) privilege
       WHERE c.relkind IN ('r', 'p', 'v', 'm') AND c.relnamespace = 'public'::regnamespace
         AND has_table_privilege(role, c.oid, privilege)`,
      [ROLES],
    );
    expect(rows).toEqual([]);
  });

  test('PUBLIC has no right on any table, sequence, function or schema of ours', async () => {
    const tables = await db.admin(
      `SELECT c.oid::regclass::text AS name FROM pg_class c, aclexplode(c.relacl) acl
       WHERE c.relnamespace IN ('public'::regnamespace, 'patchbay'::regnamespace) AND acl.grantee = 0`,
    );
    expect(tables).toEqual([]);
    const functions = await db.admin(
      `SELECT p.oid::regprocedure::text AS name
       FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) acl
       WHERE p.pronamespace IN ('public'::regnamespace, 'patchbay'::regnamespace) AND acl.grantee = 0`,
    );
    expect(functions).toEqual([]);
    const schemas = await db.admin(
      `SELECT nspname FROM pg_namespace n, aclexplode(n.nspacl) acl
       WHERE nspname IN ('public', 'patchbay') AND acl.grantee = 0`,
    );
    expect(schemas).toEqual([]);
  });

  test('every SECURITY DEFINER function pins its search_path, and requests reach only those of the definer role', async () => {
    const rows = await db.admin<{ name: string; pinned: boolean; reachable: boolean; owner: string }>(
      `SELECT oid::regprocedure::text AS name, proowner::regrole::text AS owner,
              has_function_privilege('patchbay_app', oid, 'EXECUTE') AS reachable,
              coalesce(proconfig::text LIKE '%search_path=%', false) AS pinned
       FROM pg_proc WHERE prosecdef AND pronamespace IN ('public'::regnamespace, 'patchbay'::regnamespace)`,
    );
    expect(rows.length).toBeGreaterThan(0);
    expect(rows.filter((row) => !row.pinned || (row.reachable && row.owner !== 'patchbay_definer'))).toEqual(
      [],
    );
  });

  test('the program cannot create objects', async () => {
    const rows = await db.admin(
      `SELECT role, schema FROM unnest($1::text[]) role, unnest(ARRAY['public', 'patchbay']) schema
       WHERE has_schema_privilege(role, schema, 'CREATE')`,
      [ROLES],
    );
    expect(rows).toEqual([]);
  });
});

import { execFile } from 'node:child_process';
import { appendFileSync, cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, inject, test } from 'vitest';
import { MIGRATIONS_FOLDER, migrate } from '../../../src/db/migrate.ts';
import { openDatabase } from '../../../src/db/open.ts';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import { NO_ADAPTER } from '../../../src/metering/statements.ts';
import { createEmptyDatabase } from '../../kit/postgres.ts';

let adminUrl: string;
let dispose: () => Promise<void>;
let folder: string;

beforeEach(async () => {
  ({ adminUrl, dispose } = await createEmptyDatabase());
  folder = mkdtempSync(join(tmpdir(), 'patchbay-migrations-'));
});

afterEach(async () => {
  await dispose();
  rmSync(folder, { recursive: true, force: true });
});

function add(name: string, sql: string): void {
  mkdirSync(join(folder, name));
  writeFileSync(join(folder, name, 'migration.sql'), sql);
}

async function query(sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: adminUrl });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

const refused = (migration: string) => ({ code: 'DATABASE_MIGRATION', meta: { migration } });

describe('the migration runner', () => {
  test('eight starts at once apply every migration exactly once', async () => {
    const starts = Array.from({ length: 8 }, () => migrate({ adminUrl }));
    const applied = (await Promise.all(starts)).filter((names) => names.length > 0);
    expect(applied).toHaveLength(1);
    const rows = await query(
      'SELECT migration_name FROM _prisma_migrations ORDER BY started_at, migration_name',
    );
    expect(rows).toEqual(applied[0]?.map((name) => ({ migration_name: name })));
  });

  test('processes that open one database together agree on the roles', async () => {
    const opened = await Promise.all(
      [1, 2, 3].map(() => openDatabase({ adminUrl, secret: inject('postgres').secret })),
    );
    for (const { database } of opened) {
      expect(await database.withSystem((tx) => tx.tenant.count())).toBe(1);
      await database.close();
    }
  });

  test('an edited migration is refused by name', async () => {
    add('0001_a', 'CREATE TABLE a ()');
    await migrate({ adminUrl, folder });
    appendFileSync(join(folder, '0001_a', 'migration.sql'), '\n-- touched');
    await expect(migrate({ adminUrl, folder })).rejects.toMatchObject(refused('0001_a'));
  });

  test('a migration that fails leaves nothing, is named, and applies once it is mended', async () => {
    add('0001_a', 'CREATE TABLE a ()');
    add('0002_b', 'CREATE TABLE b (); SELECT 1/0;');
    await expect(migrate({ adminUrl, folder })).rejects.toMatchObject(refused('0002_b'));
    expect(
      await query(`SELECT to_regclass('a') IS NOT NULL AS a, to_regclass('b') IS NOT NULL AS b`),
    ).toEqual([{ a: true, b: false }]);
    writeFileSync(join(folder, '0002_b', 'migration.sql'), 'CREATE TABLE b ()');
    expect(await migrate({ adminUrl, folder })).toEqual(['0002_b']);
  });

  test('a migration that Prisma recorded as failed is refused until it is resolved', async () => {
    add('0001_a', 'CREATE TABLE a ()');
    await migrate({ adminUrl, folder });
    await query('UPDATE _prisma_migrations SET finished_at = NULL');
    await expect(migrate({ adminUrl, folder })).rejects.toMatchObject(refused('0001_a'));
  });

  test('a database that is newer than the program is refused', async () => {
    add('0001_a', 'CREATE TABLE a ()');
    add('0002_b', 'CREATE TABLE b ()');
    await migrate({ adminUrl, folder });
    rmSync(join(folder, '0002_b'), { recursive: true });
    await expect(migrate({ adminUrl, folder })).rejects.toMatchObject(refused('0002_b'));
  });

  test('a server that does not answer is DATABASE_UNAVAILABLE', async () => {
    const unreachable = new URL(adminUrl);
    unreachable.port = '1';
    await expect(migrate({ adminUrl: unreachable.href })).rejects.toMatchObject({
      code: 'DATABASE_UNAVAILABLE',
    });
  });

  test("Prisma's own command line agrees that the database is up to date", async () => {
    await migrate({ adminUrl });
    // The offline schema engine runs here too, which developers depend on.
    const run = promisify(execFile)('node_modules/.bin/prisma', ['migrate', 'status'], {
      env: { ...process.env, DATABASE_URL: adminUrl, CHECKPOINT_DISABLE: '1' },
    });
    expect((await run).stdout).toContain('Database schema is up to date');
  });

  test('a role that is no superuser can own the installation', async () => {
    await query(`DROP ROLE IF EXISTS plain_owner`);
    await query(`CREATE ROLE plain_owner LOGIN CREATEROLE PASSWORD 'x'`);
    await query(
      `GRANT patchbay_app, patchbay_system, patchbay_definer TO plain_owner WITH ADMIN TRUE, INHERIT FALSE`,
    );
    await query(
      `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO plain_owner', current_database()); END $$`,
    );
    const owner = new URL(adminUrl);
    owner.username = 'plain_owner';
    owner.password = 'x';
    cpSync(join(MIGRATIONS_FOLDER, '0001_tenancy'), join(folder, '0001_tenancy'), { recursive: true });
    expect(await migrate({ adminUrl: owner.href, folder })).toEqual(['0001_tenancy']);
    const { database } = await openDatabase({ adminUrl: owner.href, secret: inject('postgres').secret });
    expect(await database.queryApp(`SELECT * FROM patchbay.find_api_key(sha256('x'))`, [])).toEqual([]);
    await database.close();
    await query(
      `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO postgres', current_database()); END $$`,
    );
    await query('REASSIGN OWNED BY plain_owner TO postgres');
    await query('DROP OWNED BY plain_owner CASCADE');
    await query('DROP ROLE plain_owner');
  });
});

test('who made the keys that exist is taken over from the audit log, and full operator keys stay full', async () => {
  await migrateBefore('0017');
  const [root, made, successor, unknown] = [1, 2, 3, 4].map((n) => `0192f000-0000-7000-8000-00000000000${n}`);
  const full = `infer,adapters:read,adapters:write,usage:read,keys:write,billing:read,billing:write,payouts:write,members:write,audit:read`;
  for (const [id, scopes] of [
    [root, full],
    [made, 'usage:read'],
    [successor, 'usage:read'],
    [unknown, full],
  ]) {
    await query(`INSERT INTO api_key (id, tenant_id, kind, name, prefix, key_hash, scopes, created_at)
      VALUES ('${id}', '${PLATFORM_TENANT_ID}', 'OPERATOR', 'x', 'pbo_x', sha256('${id}'), '{${scopes}}', now())`);
  }
  const line = (action: string, target: string | undefined, after: string, actor: string, outcome = 'DONE') =>
    query(`INSERT INTO audit_log (id, tenant_id, at, actor_kind, actor_key_id, action, target_type, target_id, after, outcome)
      VALUES (gen_random_uuid(), '${PLATFORM_TENANT_ID}', now(), ${actor}, '${action}', 'apiKey', '${target}', '${after}', '${outcome}')`);
  await line('apiKey.create', root, '{}', `'SYSTEM', NULL`);
  await line('apiKey.create', made, '{}', `'OPERATOR', '${root}'`);
  await line('apiKey.rotate', made, `{"successor": "${successor}"}`, `'OPERATOR', '${made}'`);
  await line('apiKey.create', unknown, '{}', `'OPERATOR', '${root}'`, 'DENIED');
  await migrateBefore('0018');
  expect(
    await query(`SELECT id, created_by, 'tenants:write' = ANY (scopes) AS tenants FROM api_key ORDER BY id`),
  ).toEqual([
    { id: root, created_by: null, tenants: true },
    { id: made, created_by: root, tenants: false },
    { id: successor, created_by: made, tenants: false },
    { id: unknown, created_by: null, tenants: true },
  ]);
  expect(
    await query(
      `SELECT relname FROM pg_class WHERE relname IN ('api_key', 'audit_log') AND NOT relforcerowsecurity`,
    ),
  ).toEqual([]);
});

test('days and hours that were summed up before there were coarser sums get them', async () => {
  await migrateBefore('0021');
  const [one, two] = ['0192f000-0000-7000-8000-000000000001', '0192f000-0000-7000-8000-000000000002'];
  const usage = (
    tenant: string | undefined,
    kind: string,
    day: string,
    version: string | undefined,
    requests: number,
  ) =>
    query(`INSERT INTO usage_rollup_day VALUES
      ('${tenant}', '${kind}', '${day}', '${version}', '${version}', ${requests}, 1, 1, 1, 1, 1)`);
  await usage(one, 'owner', '2026-03-01', one, 2);
  await usage(one, 'owner', '2026-03-01', two, 3);
  await usage(two, 'owner', '2026-03-01', two, 4);
  const earned = (width: string, start: string, amount: number) =>
    query(`INSERT INTO earnings_rollup VALUES
      ('${one}', '${width}', '${start}', 'EARNED', '${two}', '${one}', ${amount}, ${amount}, 1)`);
  await earned('hour', '2026-03-31T23:00:00Z', 5);
  await earned('day', '2026-03-31', 5);
  await earned('day', '2026-03-01', 6);
  await earned('day', '2026-04-01', 7);
  await migrateBefore('0022');
  expect(
    await query(`SELECT tenant_id, kind, adapter_version_id AS version, requests::integer FROM usage_rollup_day
      WHERE kind NOT IN ('tenant', 'caller', 'owner') ORDER BY kind, version, requests`),
  ).toEqual([
    { tenant_id: PLATFORM_TENANT_ID, kind: 'all_owner', version: one, requests: 2 },
    { tenant_id: PLATFORM_TENANT_ID, kind: 'all_owner', version: two, requests: 7 },
    { tenant_id: two, kind: 'owner_sum', version: NO_ADAPTER, requests: 4 },
    { tenant_id: one, kind: 'owner_sum', version: NO_ADAPTER, requests: 5 },
  ]);
  expect(
    await query(
      `SELECT start, amount::integer, postings::integer FROM earnings_rollup WHERE width = 'month' ORDER BY start`,
    ),
  ).toEqual([
    { start: new Date('2026-03-01T00:00:00Z'), amount: 11, postings: 2 },
    { start: new Date('2026-04-01T00:00:00Z'), amount: 7, postings: 1 },
  ]);
});

/** Applies the migrations whose names come before this one. */
async function migrateBefore(first: string): Promise<void> {
  for (const name of readdirSync(MIGRATIONS_FOLDER).filter((one) => /^\d{4}_/.test(one) && one < first)) {
    cpSync(join(MIGRATIONS_FOLDER, name), join(folder, name), { recursive: true });
  }
  await migrate({ adminUrl, folder });
}

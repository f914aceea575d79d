import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Database } from '../../../src/db/client.ts';
import { listen } from '../../../src/db/listen.ts';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { waitFor } from '../../kit/wait.ts';

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.dispose());

function elsewhere(url: string): string {
  const changed = new URL(url);
  changed.port = '1';
  return changed.href;
}

/** Every way into the database, with trivial work. */
function ways(database: Database): readonly (() => Promise<unknown>)[] {
  return [
    () => database.withTenant(PLATFORM_TENANT_ID, (tx) => tx.tenant.count()),
    () => database.withTenantPg(PLATFORM_TENANT_ID, (client) => client.query('SELECT 1')),
    () => database.withSystem((tx) => tx.tenant.count()),
    () => database.withSystemPg((client) => client.query('SELECT 1')),
    () => database.queryApp('SELECT 1', []),
    () => database.querySystem('SELECT 1', []),
  ];
}

const unavailable = { code: 'DATABASE_UNAVAILABLE' };

describe('the database client', () => {
  test('a server that cannot be reached is DATABASE_UNAVAILABLE by every way', async () => {
    const database = new Database({ appUrl: elsewhere(db.appUrl), systemUrl: elsewhere(db.systemUrl) });
    for (const way of ways(database)) await expect(way()).rejects.toMatchObject(unavailable);
    await database.close();
  });

  test('a connection that the server ends fails its work as DATABASE_UNAVAILABLE, and the next work succeeds', async () => {
    const database = new Database({ appUrl: db.appUrl, systemUrl: db.systemUrl, applicationName: 'victim' });
    const end = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim-app'`;
    const viaPg = database.withTenantPg(PLATFORM_TENANT_ID, async (client) => {
      await db.admin(end);
      await client.query('SELECT 1');
    });
    await expect(viaPg).rejects.toMatchObject(unavailable);
    const viaPrisma = database.withTenant(PLATFORM_TENANT_ID, async (tx) => {
      await db.admin(end);
      await tx.tenant.count();
    });
    await expect(viaPrisma).rejects.toMatchObject(unavailable);
    for (const way of ways(database)) await way();
    await database.close();
    await database.close();
    for (const way of ways(database)) await expect(way()).rejects.toMatchObject(unavailable);
  });

  test('when all connections are busy a caller waits so long and no longer', async () => {
    const database = new Database({
      appUrl: db.appUrl,
      systemUrl: db.systemUrl,
      appConnectionsMax: 1,
      connectTimeoutMs: 1_000,
    });
    await database.withTenantPg(PLATFORM_TENANT_ID, async () => {
      await expect(database.queryApp('SELECT 1', [])).rejects.toMatchObject(unavailable);
      const work = database.withTenant(PLATFORM_TENANT_ID, (tx) => tx.tenant.count());
      await expect(work).rejects.toMatchObject(unavailable);
    });
    expect(await database.queryApp('SELECT 1 AS n', [])).toEqual([{ n: 1 }]);
    await database.close();
  });

  test('a statement that runs too long is ended', async () => {
    const database = new Database({ appUrl: db.appUrl, systemUrl: db.systemUrl, statementTimeoutMs: 50 });
    await expect(database.queryApp('SELECT pg_sleep(10)', [])).rejects.toMatchObject({ code: '57014' });
    await database.close();
  });

  test('a listener whose connection breaks listens again and says so', async () => {
    const heard: string[] = [];
    let reconnections = 0;
    const listener = await listen(
      { url: db.appUrl, channels: ['test_channel'], reconnectMs: 10 },
      {
        notified: (_channel, payload) => heard.push(payload),
        reconnected: () => {
          reconnections += 1;
        },
      },
    );
    await db.admin(`SELECT pg_notify('test_channel', 'first')`);
    await waitFor(() => heard.includes('first'));
    await db.admin(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'patchbay-listen'`,
    );
    await waitFor(() => reconnections === 1);
    await db.admin(`SELECT pg_notify('test_channel', 'second')`);
    await waitFor(() => heard.includes('second'));
    await listener.close();
  });
});

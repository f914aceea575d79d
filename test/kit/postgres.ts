import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { inject } from 'vitest';
import { Database } from '../../src/db/client.ts';
import { ensureRoles, type RoleUrls } from '../../src/db/roles.ts';
import { waitFor } from './wait.ts';

/** A database of a test file's own, migrated and empty but for the platform tenant. */
export interface TestDatabase extends RoleUrls {
  /** The superuser's URL: for what the program starts with, and for looking behind row-level security. */
  readonly adminUrl: string;
  /** The secret that openDatabase needs on this database. */
  readonly secret: string;
  /** Connected as the program is. */
  readonly database: Database;
  /** One statement as superuser. */
  admin<R extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<R[]>;
  /** Closes the connections, fails if the test left any other open, and drops the database. */
  dispose(): Promise<void>;
}

/** The same server, another database. */
export function withDatabase(url: string, name: string): string {
  const changed = new URL(url);
  changed.pathname = `/${name}`;
  return changed.href;
}

async function runOn(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

/** An empty database without any migration, for tests of the migration runner itself. */
export async function createEmptyDatabase(): Promise<{ adminUrl: string; dispose(): Promise<void> }> {
  const { adminUrl } = inject('postgres');
  const name = `empty_${randomUUID().replaceAll('-', '')}`;
  await runOn(withDatabase(adminUrl, 'postgres'), `CREATE DATABASE ${name}`);
  return {
    adminUrl: withDatabase(adminUrl, name),
    dispose: () => runOn(withDatabase(adminUrl, 'postgres'), `DROP DATABASE ${name} WITH (FORCE)`),
  };
}

/** Clones the template (about 50 ms). Call it in `beforeAll`, and {@link TestDatabase.dispose} in `afterAll`. */
export async function createTestDatabase(): Promise<TestDatabase> {
  const server = inject('postgres');
  const name = `test_${randomUUID().replaceAll('-', '')}`;
  const maintenanceUrl = withDatabase(server.adminUrl, 'postgres');
  await runOn(maintenanceUrl, `CREATE DATABASE ${name} TEMPLATE ${server.template}`);
  const adminUrl = withDatabase(server.adminUrl, name);
  const urls = await ensureRoles({ adminUrl, secret: server.secret });
  const database = new Database({ ...urls, applicationName: 'test' });
  const adminPool = new pg.Pool({ connectionString: adminUrl, max: 2, application_name: 'test-admin' });
  adminPool.on('error', () => {});
  return {
    ...urls,
    adminUrl,
    secret: server.secret,
    database,
    async admin<R extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []): Promise<R[]> {
      return (await adminPool.query<R>(text, [...values])).rows;
    },
    async dispose() {
      await database.close();
      await adminPool.end();
      const leaked = await openConnections(maintenanceUrl, name);
      await runOn(maintenanceUrl, `DROP DATABASE ${name} WITH (FORCE)`);
      if (leaked.length > 0) throw new Error(`The test left connections open: ${leaked.join(', ')}`);
    },
  };
}

/** Names of the applications still connected once the server has noticed the connections closed just now. */
async function openConnections(url: string, name: string): Promise<readonly string[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const names = async () => {
      const { rows } = await client.query<{ application_name: string }>(
        `SELECT application_name FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'`,
        [name],
      );
      return rows.map((row) => row.application_name);
    };
    await waitFor(async () => (await names()).length === 0, { timeoutMs: 2_000 }).catch(() => {});
    return await names();
  } finally {
    await client.end();
  }
}

import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/db/embedded.ts';
import { migrate } from '../../src/db/migrate.ts';
import { ensureRoles } from '../../src/db/roles.ts';

/** What every test file gets to know of the run's one database server. */
export interface PostgresForTests {
  readonly adminUrl: string;
  /** The migrated database that test databases are cloned from; nobody may stay connected to it. */
  readonly template: string;
  /** The secret that the role passwords derive from. */
  readonly secret: string;
}

declare module 'vitest' {
  interface ProvidedContext {
    postgres: PostgresForTests;
  }
}

const TEMPLATE = 'patchbay_template';
const SECRET = 'a-secret-of-thirty-two-characters-for-tests';

/** Starts the run's one Postgres in a folder of its own and migrates the template. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dataDir = mkdtempSync(join(tmpdir(), 'patchbay-test-postgres-'));
  // Under root the server runs as another user, who must be able to enter.
  chmodSync(dataDir, 0o755);
  const remove = () => rmSync(dataDir, { recursive: true, force: true });
  let server: EmbeddedPostgres | undefined;
  try {
    server = await startEmbeddedPostgres({
      dataDir,
      database: TEMPLATE,
      durable: false,
      settings: { max_connections: '200', autovacuum: 'off', log_min_messages: 'panic' },
    });
    const { adminUrl } = server;
    await migrate({ adminUrl });
    await ensureRoles({ adminUrl, secret: SECRET });
    project.provide('postgres', { adminUrl, template: TEMPLATE, secret: SECRET });
  } catch (error) {
    await server?.stop();
    remove();
    throw error;
  }
  const { stop } = server;
  return async () => {
    await stop();
    remove();
  };
}

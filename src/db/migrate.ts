import { createHash, randomUUID } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { PatchbayError } from '../kernel/errors.ts';
import { mapDatabaseError } from './errors.ts';

/** The migrations of this package: `src/db` and `dist/db` lie equally deep below its root. */
export const MIGRATIONS_FOLDER = fileURLToPath(new URL('../../prisma/migrations', import.meta.url));

/** How to migrate. */
export interface MigrateOptions {
  /** URL of a role that may create tables and roles in the database. */
  readonly adminUrl: string;
  /** Folder of `<name>/migration.sql`; the package's own by default. */
  readonly folder?: string;
  readonly log?: (line: string) => void;
}

/** A migration as it lies on disk. */
interface Migration {
  readonly name: string;
  readonly sql: string;
  readonly checksum: string;
}

interface AppliedRow {
  readonly migration_name: string;
  readonly checksum: string;
  readonly finished_at: Date | null;
}

/** The lock that `prisma migrate` takes, so that the two exclude each other too. */
const LOCK_KEY = 72_707_369;
const LOCK_TIMEOUT_MS = 120_000;

const CREATE_BOOKKEEPING = `CREATE TABLE IF NOT EXISTS public._prisma_migrations (
  id varchar(36) PRIMARY KEY NOT NULL,
  checksum varchar(64) NOT NULL,
  finished_at timestamptz,
  migration_name varchar(255) NOT NULL,
  logs text,
  rolled_back_at timestamptz,
  started_at timestamptz NOT NULL DEFAULT now(),
  applied_steps_count integer NOT NULL DEFAULT 0
)`;

/**
 * Brings the database to the schema of this program and answers the names of the migrations applied now. Processes
 * that start together take turns. Throws DATABASE_MIGRATION, naming the migration, when the database's history is
 * not a prefix of the program's: an edited, failed, missing or unknown migration.
 */
export async function migrate(options: MigrateOptions): Promise<readonly string[]> {
  const migrations = readMigrations(options.folder ?? MIGRATIONS_FOLDER);
  const client = new pg.Client({
    connectionString: options.adminUrl,
    application_name: 'patchbay-migrate',
    connectionTimeoutMillis: 10_000,
  });
  // A connection lost while idle is reported by the next query; without a listener it would end the process.
  client.on('error', () => {});
  try {
    await client.connect();
    await requireVersion(client);
    await client.query(`SET lock_timeout = ${LOCK_TIMEOUT_MS}`);
    // The lock is the session's: it goes with the connection, however this process ends.
    await client.query('SELECT pg_advisory_lock($1)', [LOCK_KEY]);
    await client.query('SET lock_timeout = 0');
    await client.query(CREATE_BOOKKEEPING);
    return await applyPending(client, migrations, options.log ?? (() => {}));
  } catch (error) {
    throw mapDatabaseError(error);
  } finally {
    await client.end().catch(() => {});
  }
}

const MINIMUM_VERSION = 160_000;

async function requireVersion(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ number: number; text: string }>(
    `SELECT current_setting('server_version_num')::int AS number, current_setting('server_version') AS text`,
  );
  const version = rows[0];
  if (version === undefined || version.number < MINIMUM_VERSION) {
    throw new PatchbayError('DATABASE_MIGRATION', `Postgres ${version?.text ?? ''} is too old.`, {
      fix: 'Use Postgres 16 or later.',
    });
  }
}

function readMigrations(folder: string): readonly Migration[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && existsSync(join(folder, entry.name, 'migration.sql')))
    .map((entry) => entry.name)
    .sort()
    .map((name) => {
      const sql = readFileSync(join(folder, name, 'migration.sql'));
      return { name, sql: sql.toString('utf8'), checksum: createHash('sha256').update(sql).digest('hex') };
    });
}

async function applyPending(
  client: pg.Client,
  migrations: readonly Migration[],
  log: (line: string) => void,
): Promise<readonly string[]> {
  const { rows } = await client.query<AppliedRow>(
    `SELECT migration_name, checksum, finished_at FROM public._prisma_migrations
     WHERE rolled_back_at IS NULL ORDER BY started_at, migration_name`,
  );
  const pending = checkHistory(rows, migrations);
  for (const migration of pending) {
    log(`Applying migration ${migration.name}.`);
    await apply(client, migration);
  }
  return pending.map((migration) => migration.name);
}

/** Compares the database's history with the program's and answers what is left to apply. */
function checkHistory(
  applied: readonly AppliedRow[],
  migrations: readonly Migration[],
): readonly Migration[] {
  const byName = new Map(migrations.map((migration) => [migration.name, migration]));
  let last = '';
  for (const row of applied) {
    const name = row.migration_name;
    const known = byName.get(name);
    if (row.finished_at === null) throw refusal(name, 'failed when it was applied and was never resolved');
    if (known === undefined) throw refusal(name, 'is in the database but unknown to this program');
    if (known.checksum !== row.checksum) throw refusal(name, 'was edited after it was applied');
    if (name > last) last = name;
  }
  const names = new Set(applied.map((row) => row.migration_name));
  const pending = migrations.filter((migration) => !names.has(migration.name));
  const skipped = pending.find((migration) => migration.name < last);
  if (skipped !== undefined) throw refusal(skipped.name, `was never applied although the later ${last} was`);
  return pending;
}

/** One transaction holds the migration and its record, so that a kill or an error leaves neither. */
async function apply(client: pg.Client, migration: Migration): Promise<void> {
  try {
    await client.query('BEGIN');
    await client.query(migration.sql);
    await client.query(
      `INSERT INTO public._prisma_migrations (id, checksum, migration_name, started_at, finished_at, applied_steps_count)
       VALUES ($1, $2, $3, now(), clock_timestamp(), 1)`,
      [randomUUID(), migration.checksum, migration.name],
    );
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {});
    const mapped = mapDatabaseError(error);
    if (mapped instanceof PatchbayError) throw mapped;
    const detail = error instanceof Error ? error.message : String(error);
    throw refusal(migration.name, `could not be applied: ${detail}`, error);
  }
}

function refusal(name: string, what: string, cause?: unknown): PatchbayError {
  return new PatchbayError('DATABASE_MIGRATION', `Migration ${name} ${what}.`, {
    meta: { migration: name },
    ...(cause === undefined ? {} : { cause }),
  });
}

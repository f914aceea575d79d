import { type Config, resolveSecret } from '../config/index.ts';
import type { Database } from '../db/client.ts';
import { PatchbayError } from '../kernel/errors.ts';

/** undefined_table, undefined_function, invalid_schema_name, and undefined_object: a role. */
const NOT_MIGRATED = new Set(['42P01', '42883', '3F000', '42704']);

/**
 * Runs work on the installation's database, beside a running server or without one. A database that has not got the
 * tables yet is an error that says so.
 */
export async function withOfflineDatabase<T>(
  data: Config['data'],
  what: string,
  work: (database: Database) => Promise<T>,
): Promise<T> {
  const { reachDatabase } = await import('../db/reach.ts');
  const { Database } = await import('../db/client.ts');
  const { ensureRoles } = await import('../db/roles.ts');
  const { sqlState } = await import('../db/errors.ts');
  const secret = await resolveSecret(data);
  const { adminUrl, release } = await reachDatabase(data);
  try {
    const urls = await ensureRoles({ adminUrl, secret });
    const database = new Database({ ...urls, applicationName: 'patchbay-cli' });
    try {
      return await work(database);
    } finally {
      await database.close();
    }
  } catch (error) {
    if (!NOT_MIGRATED.has(sqlState(error) ?? '')) throw error;
    throw new PatchbayError('DATABASE_MIGRATION', `The database has no ${what} yet.`, {
      fix: 'Start the server once: it brings the database up to date.',
      cause: error,
    });
  } finally {
    await release();
  }
}

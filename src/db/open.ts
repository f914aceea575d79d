import { Database, type DatabaseDependencies, type DatabaseOptions } from './client.ts';
import { migrate } from './migrate.ts';
import { ensureRoles, type RoleUrls } from './roles.ts';

/** How to open the database of an installation. */
export interface OpenDatabaseOptions extends Omit<DatabaseOptions, keyof RoleUrls> {
  /** URL of the role that owns the schema: the embedded database's, or DATABASE_URL. */
  readonly adminUrl: string;
  /** Secret that the roles' passwords are derived from. */
  readonly secret: string;
  /** URLs of the two roles, where an administrator created them and the owner may not set their passwords. */
  readonly roleUrls?: RoleUrls;
  readonly log?: (line: string) => void;
}

/** An opened database and the URLs that it was opened with. */
export interface OpenedDatabase {
  readonly database: Database;
  readonly roleUrls: RoleUrls;
  /** Names of the migrations that were applied now. */
  readonly applied: readonly string[];
}

/** Applies pending migrations, makes the roles usable and connects. Safe when several processes start together. */
export async function openDatabase(
  options: OpenDatabaseOptions,
  dependencies: DatabaseDependencies = {},
): Promise<OpenedDatabase> {
  const { adminUrl, secret, roleUrls, log, ...limits } = options;
  const applied = await migrate({ adminUrl, ...(log === undefined ? {} : { log }) });
  const urls = roleUrls ?? (await ensureRoles({ adminUrl, secret }));
  return { database: new Database({ ...limits, ...urls }, dependencies), roleUrls: urls, applied };
}

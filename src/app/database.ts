import type { AppDeps, StartReport } from '../cli/app-port.ts';
import type { Config } from '../config/index.ts';
import type { Database } from '../db/client.ts';
import { startEmbeddedPostgres } from '../db/embedded.ts';
import { openDatabase } from '../db/open.ts';
import type { RoleUrls } from '../db/roles.ts';
import { withProgress } from '../observability/progress.ts';
import type { Lifecycle } from './lifecycle.ts';

/** An open database and what the start reports of it. */
export interface AppDatabase {
  readonly database: Database;
  readonly roleUrls: RoleUrls;
  readonly report: StartReport['database'];
}

/** Starts the embedded Postgres unless DATABASE_URL names another, applies migrations and connects. */
export async function openAppDatabase(
  config: Config,
  secret: string,
  deps: AppDeps,
  lifecycle: Lifecycle,
): Promise<AppDatabase> {
  const log = (line: string): void => deps.logger.debug(line);
  let adminUrl = config.data.databaseUrl;
  let report: StartReport['database'];
  if (adminUrl === null) {
    const postgres = await withProgress(deps.progress, 'Starting the embedded Postgres', () =>
      startEmbeddedPostgres({ dataDir: config.data.dir, log }),
    );
    let stopping = false;
    lifecycle.add('embedded Postgres', () => {
      stopping = true;
      return postgres.stop();
    });
    void postgres.exited.then(() => {
      if (!stopping) deps.onFatal(new Error('the embedded Postgres ended'));
    });
    adminUrl = postgres.adminUrl;
    report = { kind: 'embedded', location: postgres.location };
  } else {
    const { host, pathname } = new URL(adminUrl);
    report = { kind: 'external', location: host + pathname };
  }
  const url = adminUrl;
  const opened = await withProgress(deps.progress, 'Preparing the database', () =>
    openDatabase(
      { adminUrl: url, secret, log, appConnectionsMax: config.data.databasePoolSize },
      { onConnectionError: (err) => deps.logger.warn({ err }, 'A database connection broke') },
    ),
  );
  lifecycle.add('database connections', () => opened.database.close());
  return { database: opened.database, roleUrls: opened.roleUrls, report };
}

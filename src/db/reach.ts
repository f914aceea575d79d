import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PatchbayError } from '../kernel/errors.ts';
import { chooseHome } from './embedded/home.ts';
import { startEmbeddedPostgres } from './embedded.ts';

/** A database that a command works on. */
export interface ReachedDatabase {
  /** URL of the role that owns the schema. Secret. */
  readonly adminUrl: string;
  /** Stops what was started for the command. */
  release(): Promise<void>;
}

/**
 * The database of an installation, for a command beside the server: DATABASE_URL; else the embedded one that the server
 * of the data folder runs; else the embedded one, started for as long as the command takes.
 */
export async function reachDatabase(
  data: { readonly dir: string; readonly databaseUrl: string | null },
  log: (line: string) => void = () => {},
): Promise<ReachedDatabase> {
  if (data.databaseUrl !== null) return { adminUrl: data.databaseUrl, release: async () => {} };
  try {
    const server = await startEmbeddedPostgres({ dataDir: data.dir, log });
    return { adminUrl: server.adminUrl, release: () => server.stop() };
  } catch (error) {
    if (!(error instanceof PatchbayError && error.code === 'DATA_FOLDER_LOCKED')) throw error;
    return { adminUrl: urlOfRunning(data.dir), release: async () => {} };
  }
}

function urlOfRunning(dataDir: string): string {
  const { home } = chooseHome(dataDir);
  const password = readFileSync(home.passwordFile, 'utf8').trim();
  const port = Number.parseInt(readFileSync(join(home.folder, 'port'), 'utf8'), 10);
  return `postgresql://postgres:${password}@127.0.0.1:${port}/patchbay`;
}

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { PatchbayError } from '../kernel/errors.ts';
import { type Account, spawnAs } from './embedded/account.ts';
import { type Binaries, prepareBinaries } from './embedded/binaries.ts';
import { chooseHome, type Home } from './embedded/home.ts';
import { lockHome } from './embedded/lock.ts';
import { endOrphan, PROGRAM_ENV, startPostmaster } from './embedded/postmaster.ts';

/** How to run the embedded database. */
export interface EmbeddedPostgresOptions {
  /** The data folder (`.patchbay/`); the database lives in its subfolder `postgres`. */
  readonly dataDir: string;
  /** Receives one plain line for each slow or surprising step. */
  readonly log?: (line: string) => void;
  /** Name of the database to have; created when missing. */
  readonly database?: string;
  /** False trades safety at a power failure for speed: for tests only. */
  readonly durable?: boolean;
  /** Further server settings, as in postgresql.conf. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** A running embedded database. */
export interface EmbeddedPostgres {
  /** Connection URL of the superuser, who owns the database. Secret. */
  readonly adminUrl: string;
  /** The folder that holds the database. */
  readonly location: string;
  /** True when the database could not live in the data folder (see {@link location}). */
  readonly relocated: boolean;
  /** Process id of the server. */
  readonly pid: number;
  /** Settles when the server has ended, asked to or not. */
  readonly exited: Promise<void>;
  /** Fast shutdown; returns when no process and no lock is left. May be called again. */
  stop(): Promise<void>;
}

const SUPERUSER = 'postgres';
const STAGING = 'initdb-';
const NOT_DURABLE = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' };

/**
 * Starts the real Postgres from npm on a data folder: creates the cluster the first time, reuses it later. Throws
 * DATA_FOLDER_LOCKED when another process runs one on the folder, and cleans up after one that was killed.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  if (process.platform === 'win32') {
    throw new PatchbayError('DATABASE_UNAVAILABLE', 'The embedded database does not run on Windows.', {
      fix: 'Set DATABASE_URL, or run under WSL.',
    });
  }
  const log = options.log ?? (() => {});
  const database = options.database ?? 'patchbay';
  const durable = options.durable ?? true;
  const { home, account } = chooseHome(options.dataDir);
  const lock = await lockHome(home);
  try {
    const binaries = prepareBinaries(account, log);
    await endOrphan(home, log);
    if (!existsSync(join(home.cluster, 'PG_VERSION'))) {
      log(`Creating the database in ${home.folder}.`);
      await initialise(home, account, binaries, durable);
    }
    const password = readFileSync(home.passwordFile, 'utf8').trim();
    const server = await startPostmaster(
      { settings: { ...(durable ? {} : NOT_DURABLE), ...options.settings }, preferredPort: readPort(home) },
      { home, account, binaries },
    );
    const stop = once(async () => {
      await server.stop();
      await lock.release();
    });
    try {
      writeFileSync(portFile(home), `${server.port}\n`);
      const url = (name: string) =>
        `postgresql://${SUPERUSER}:${password}@127.0.0.1:${server.port}/${encodeURIComponent(name)}`;
      await createDatabase(url('postgres'), database);
      return {
        adminUrl: url(database),
        location: home.folder,
        relocated: home.relocated,
        pid: server.pid,
        exited: server.exited,
        stop,
      };
    } catch (error) {
      await server.stop();
      throw error;
    }
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** Creates the cluster beside its place and renames it, so that a killed first start leaves no half of one. */
async function initialise(home: Home, account: Account, binaries: Binaries, durable: boolean): Promise<void> {
  rmSync(home.cluster, { recursive: true, force: true });
  for (const name of readdirSync(home.folder)) {
    // What a first start that was killed had begun.
    if (name.startsWith(STAGING)) rmSync(join(home.folder, name), { recursive: true, force: true });
  }
  const staging = mkdtempSync(join(home.folder, STAGING));
  mkdirSync(join(staging, 'cluster'), { mode: 0o700 });
  writeFileSync(home.passwordFile, `${randomBytes(24).toString('base64url')}\n`, { mode: 0o600 });
  if (account.switched) {
    for (const path of [staging, join(staging, 'cluster'), home.passwordFile]) {
      chownSync(path, account.uid, account.gid);
    }
  }
  const args = [
    `--pgdata=${join(staging, 'cluster')}`,
    `--username=${SUPERUSER}`,
    `--pwfile=${home.passwordFile}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale=C',
    '--data-checksums',
    '--no-instructions',
    ...(durable ? [] : ['--no-sync']),
  ];
  try {
    await run(binaries.initdb, args, account);
    renameSync(join(staging, 'cluster'), home.cluster);
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}

function run(program: string, args: readonly string[], account: Account): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      ...spawnAs(account),
      cwd: '/',
      env: PROGRAM_ENV,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    const collect = (chunk: Buffer) => {
      output = (output + chunk.toString('utf8')).slice(-4000);
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    child.once('error', reject);
    child.once('close', (code) =>
      code === 0
        ? resolve()
        : reject(new PatchbayError('DATABASE_UNAVAILABLE', `${program} failed (${code}): ${output.trim()}`)),
    );
  });
}

async function createDatabase(url: string, name: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const found = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [name]);
    if (found.rowCount === 0) await client.query(`CREATE DATABASE ${pg.escapeIdentifier(name)}`);
  } finally {
    await client.end();
  }
}

function portFile(home: Home): string {
  return join(home.folder, 'port');
}

/** The port of the last start is tried first, so that a `psql` command line keeps working. */
function readPort(home: Home): number | null {
  if (!existsSync(portFile(home))) return null;
  const port = Number.parseInt(readFileSync(portFile(home), 'utf8'), 10);
  return port > 0 && port < 65_536 ? port : null;
}

function once(action: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  return () => {
    running ??= action();
    return running;
  };
}

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { PatchbayError } from '../../kernel/errors.ts';
import { type Account, spawnAs } from './account.ts';
import type { Binaries } from './binaries.ts';
import type { Home } from './home.ts';

/** The environment of every database program: nothing of ours, so that no PG* variable changes what they do. */
export const PROGRAM_ENV = { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };

const POLL_MS = 15;
const START_TIMEOUT_MS = 120_000;
const STOP_TIMEOUT_MS = 30_000;
const LINGER_MS = 5_000;

/**
 * Runs the server under a shell that keeps our pipe open and asks for a fast shutdown when the pipe closes: on
 * {@link Postmaster.stop}, and equally when this process is killed, so that no server outlives its process.
 */
const SUPERVISOR = `
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
( read -r _ <&3; kill -INT "$server" ) >/dev/null 2>&1 &
watcher=$!
exec 3<&-
wait "$server"
code=$?
kill "$watcher" 2>/dev/null
exit "$code"
`;

/** A running server process. */
export interface Postmaster {
  readonly pid: number;
  readonly port: number;
  /** Settles when the server has ended, for whatever reason. */
  readonly exited: Promise<void>;
  stop(): Promise<void>;
}

/** What Postgres writes into postmaster.pid. */
interface PidFile {
  readonly pid: number;
  readonly startedAt: string;
  readonly status: string;
}

function readPidFile(home: Home): PidFile | null {
  try {
    const lines = readFileSync(join(home.cluster, 'postmaster.pid'), 'utf8').split('\n');
    const pid = Number.parseInt(lines[0] ?? '', 10);
    return Number.isNaN(pid) ? null : { pid, startedAt: lines[2] ?? '', status: (lines[7] ?? '').trim() };
  } catch {
    return null;
  }
}

/** Whether the process exists and is the server of this cluster. A pid alone proves nothing: pids are reused. */
function serves(pid: number, home: Home): boolean {
  if (process.platform === 'linux') return worksIn(String(pid), home);
  try {
    return execFileSync('ps', ['-o', 'command=', '-p', String(pid)], { encoding: 'utf8' }).includes(
      home.cluster,
    );
  } catch {
    return false;
  }
}

/** On Linux: whether it is a Postgres process in this cluster; all of them work in the data directory. */
function worksIn(pid: string, home: Home): boolean {
  try {
    const isPostgres = readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'postgres';
    return isPostgres && readlinkSync(`/proc/${pid}/cwd`) === home.cluster;
  } catch {
    return false;
  }
}

function processesIn(home: Home): readonly string[] {
  if (process.platform !== 'linux') return [];
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && worksIn(name, home));
}

/**
 * Ends a server that a killed process left behind (its supervisor is normally already doing so), and removes the
 * pid file of one that died with it. The caller holds the folder's lock, so nobody living owns that server.
 */
export async function endOrphan(home: Home, log: (line: string) => void): Promise<void> {
  const found = readPidFile(home);
  if (found === null) return;
  if (serves(found.pid, home)) {
    log(`Stopping the database server ${found.pid} that an earlier process left behind.`);
    await endServer(found.pid, home);
  }
  // A killed server's children may still write for a moment. The pid file is what protects from starting beside
  // them, so it goes only when they are gone.
  if (!(await poll(() => processesIn(home).length === 0, LINGER_MS))) {
    for (const pid of processesIn(home)) signal(Number(pid), 'SIGKILL');
    await poll(() => processesIn(home).length === 0, LINGER_MS);
  }
  // Afterwards its number may belong to an unrelated process of the same user, which Postgres would respect.
  if (signal(found.pid, 0) || process.platform === 'linux') {
    rmSync(join(home.cluster, 'postmaster.pid'), { force: true });
  }
}

/** Whether the process was there to be signalled. */
function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}

async function endServer(pid: number, home: Home): Promise<void> {
  // Fast shutdown first; immediate shutdown, which the write-ahead log makes safe, if that hangs.
  for (const name of ['SIGINT', 'SIGQUIT', 'SIGKILL'] as const) {
    if (!signal(pid, name)) return;
    if (await poll(() => !serves(pid, home), STOP_TIMEOUT_MS)) return;
  }
}

async function poll(condition: () => boolean, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) return false;
    await delay(POLL_MS);
  }
  return true;
}

/** How to run the server. */
export interface PostmasterOptions {
  readonly settings: Readonly<Record<string, string>>;
  readonly preferredPort: number | null;
}

/** Starts the server on a free port of 127.0.0.1 and returns when it accepts connections. */
export async function startPostmaster(
  options: PostmasterOptions,
  dependencies: { readonly home: Home; readonly account: Account; readonly binaries: Binaries },
): Promise<Postmaster> {
  let preferred = options.preferredPort;
  for (let attempt = 0; attempt < 5; attempt += 1) {
    const port = await freePort(preferred);
    const started = await tryStart(port, options, dependencies);
    if (started !== null) return started;
    // Somebody took the port between our probe and the server's own bind, or a killed server's children linger.
    preferred = null;
    await delay(200 * attempt);
  }
  throw startFailure(dependencies.home, 'found no free port');
}

async function tryStart(
  port: number,
  options: PostmasterOptions,
  { home, account, binaries }: { home: Home; account: Account; binaries: Binaries },
): Promise<Postmaster | null> {
  const settings = {
    listen_addresses: '127.0.0.1',
    // TCP alone: a socket's path is limited to about 100 bytes, and a data folder's is not.
    unix_socket_directories: '',
    port: String(port),
    ...options.settings,
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const logSize = prepareLog(home, account);
  const log = openSync(home.logFile, 'a');
  const child = spawn('/bin/sh', ['-c', SUPERVISOR, 'sh', binaries.postgres, '-D', home.cluster, ...flags], {
    ...spawnAs(account),
    cwd: '/',
    env: PROGRAM_ENV,
    // A process group of its own: Ctrl-C in the terminal must not stop the database before we have drained.
    detached: true,
    stdio: ['pipe', log, log],
  });
  closeSync(log);
  let ended = false;
  const exited = new Promise<void>((resolve) => {
    const end = () => {
      ended = true;
      resolve();
    };
    child.once('exit', end);
    child.once('error', end);
  });
  const ready = () => readPidFile(home)?.status === 'ready';
  await poll(() => ended || ready(), START_TIMEOUT_MS);
  const pid = readPidFile(home)?.pid;
  if (ended || pid === undefined || !ready()) {
    child.stdin?.destroy();
    await exited;
    if (/could not bind|pre-existing shared memory/.test(newLog(home, logSize))) return null;
    throw startFailure(home, newLog(home, logSize).split('\n').slice(-6).join('\n'));
  }
  unref(child);
  return { pid, port, exited, stop: () => stopChild(child, exited, pid, home) };
}

/** A forgotten database must not keep the process alive: when the process ends, the pipe closes and so does it. */
function unref(child: ChildProcess): void {
  child.unref();
  if (child.stdin !== null && 'unref' in child.stdin && typeof child.stdin.unref === 'function') {
    child.stdin.unref();
  }
}

async function stopChild(child: ChildProcess, exited: Promise<void>, pid: number, home: Home): Promise<void> {
  child.ref();
  child.stdin?.destroy();
  const patience = new AbortController();
  const late = delay(STOP_TIMEOUT_MS, true, { signal: patience.signal }).catch(() => false);
  const timedOut = await Promise.race([exited.then(() => false), late]);
  patience.abort();
  if (timedOut) await endServer(pid, home);
  await exited;
}

const LOG_BYTES_MAX = 8 * 1024 * 1024;

/** Creates the log or, when it has grown large, empties it; answers its size. */
function prepareLog(home: Home, account: Account): number {
  const size = statSync(home.logFile, { throwIfNoEntry: false })?.size ?? 0;
  closeSync(openSync(home.logFile, size > LOG_BYTES_MAX ? 'w' : 'a'));
  chmodSync(home.logFile, 0o600);
  if (account.switched) chownSync(home.logFile, account.uid, account.gid);
  return size > LOG_BYTES_MAX ? 0 : size;
}

function newLog(home: Home, offset: number): string {
  return readFileSync(home.logFile).subarray(offset).toString('utf8').trim();
}

function startFailure(home: Home, detail: string): PatchbayError {
  return new PatchbayError('DATABASE_UNAVAILABLE', `The embedded database did not start: ${detail}`, {
    fix: `Read ${home.logFile}, or set DATABASE_URL.`,
  });
}

function freePort(preferred: number | null): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error) => {
      if (preferred === null) reject(error);
      else freePort(null).then(resolve, reject);
    });
    server.listen({ host: '127.0.0.1', port: preferred ?? 0, exclusive: true }, () => {
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

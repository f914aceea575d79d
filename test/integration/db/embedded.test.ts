import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { startEmbeddedPostgres } from '../../../src/db/embedded.ts';
import { waitFor } from '../../kit/wait.ts';

const report = z.discriminatedUnion('event', [
  z.object({
    event: z.literal('started'),
    adminUrl: z.string(),
    location: z.string(),
    relocated: z.boolean(),
    pid: z.number(),
    ms: z.number(),
  }),
  z.object({ event: z.literal('stopped') }),
  z.object({
    event: z.literal('failed'),
    code: z.string(),
    message: z.string(),
    meta: z.object({ pid: z.number().optional() }),
    detail: z.string(),
  }),
]);
type Report = z.infer<typeof report>;

const isRoot = process.getuid?.() === 0;
let base: string;
let dataDir: string;
let holders: Holder[];

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'patchbay embedded '));
  chmodSync(base, 0o755);
  dataDir = join(base, 'data folder');
  holders = [];
});

afterEach(async () => {
  for (const holder of holders) await holder.kill();
  rmSync(base, { recursive: true, force: true });
});

/** A process that runs an embedded database. */
class Holder {
  readonly child: ChildProcess;
  readonly reports: Report[] = [];
  private readonly exited: Promise<void>;
  private ended = false;

  constructor(folder: string, as: { uid?: number; gid?: number } = {}) {
    this.child = spawn(
      process.execPath,
      ['test/kit/run-ts.mjs', 'test/integration/db/embedded-holder.ts', folder],
      {
        ...as,
        // A group of its own stands for a terminal's.
        detached: true,
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    this.exited = new Promise((resolve) => this.child.once('exit', () => resolve()));
    // Its last lines may arrive after its exit, but before its streams close.
    this.child.once('close', () => {
      this.ended = true;
    });
    if (this.child.stdout !== null) {
      createInterface({ input: this.child.stdout }).on('line', (line) => {
        this.reports.push(report.parse(JSON.parse(line)));
      });
    }
    holders.push(this);
  }

  async next<E extends Report['event']>(event: E): Promise<Extract<Report, { event: E }>> {
    const find = () =>
      this.reports.find((item): item is Extract<Report, { event: E }> => item.event === event);
    const over = () => this.ended || this.reports.some((item) => item.event === 'failed');
    await waitFor(() => find() !== undefined || over(), { timeoutMs: 55_000, what: event });
    const found = find();
    if (found === undefined) throw new Error(`No ${event}, but ${JSON.stringify(this.reports)}.`);
    return found;
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exited;
  }

  async interruptGroup(): Promise<void> {
    if (this.child.pid !== undefined) process.kill(-this.child.pid, 'SIGINT');
    await this.next('stopped');
    await this.exited;
  }
}

async function run(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

/** The state letter and parent of a process, from /proc; null when there is none. */
function processInfo(pid: number): { state: string; parent: number } | null {
  try {
    const [state = '', parent = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    return { state, parent: Number(parent) };
  } catch {
    return null;
  }
}

/** Whether the process runs; one that has ended but that nobody has reaped does not. */
function isAlive(pid: number): boolean {
  if (existsSync('/proc/self')) return ![undefined, 'Z', 'X'].includes(processInfo(pid)?.state);
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

function childrenOf(parent: number): readonly number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && processInfo(pid)?.parent === parent);
}

describe('embedded Postgres', () => {
  test('starts in a path with spaces, keeps its data, and starts again on the same cluster', async () => {
    const first = await startEmbeddedPostgres({ dataDir, durable: false });
    expect(first).toMatchObject({ relocated: false, location: join(dataDir, 'postgres') });
    await run(first.adminUrl, 'CREATE TABLE kept AS SELECT 42 AS n');
    const settings = await run(
      first.adminUrl,
      `SELECT current_setting('server_encoding') AS e, current_setting('lc_collate', true) AS l, current_setting('data_checksums') AS c`,
    );
    expect(settings).toMatchObject([{ e: 'UTF8', c: 'on' }]);
    const identity = 'SELECT system_identifier::text FROM pg_control_system()';
    const cluster = await run(first.adminUrl, identity);
    expect(statSync(join(first.location, 'password')).mode & 0o777).toBe(0o600);
    await first.stop();
    await first.stop();
    expect(isAlive(first.pid)).toBe(false);
    const second = await startEmbeddedPostgres({ dataDir, durable: false });
    expect(await run(second.adminUrl, identity)).toEqual(cluster);
    expect(await run(second.adminUrl, 'SELECT n FROM kept')).toEqual([{ n: 42 }]);
    // The port is kept, so that a psql command line keeps working.
    expect(second.adminUrl).toBe(first.adminUrl);
    await second.stop();
    expect(existsSync(join(second.location, 'cluster/postmaster.pid'))).toBe(false);
    expect(existsSync(join(second.location, 'holder.json'))).toBe(false);
  });

  test('a second database on the same data folder is refused, naming the process', async () => {
    const holder = new Holder(dataDir);
    await holder.next('started');
    await expect(startEmbeddedPostgres({ dataDir, durable: false })).rejects.toMatchObject({
      code: 'DATA_FOLDER_LOCKED',
      meta: { pid: holder.child.pid },
    });
    const other = new Holder(dataDir);
    await expect(other.next('started')).rejects.toThrow('DATA_FOLDER_LOCKED');
  });

  test('Ctrl-C in the terminal does not stop the database before the process has drained', async () => {
    const holder = new Holder(dataDir);
    const { pid } = await holder.next('started');
    await holder.interruptGroup();
    expect(isAlive(pid)).toBe(false);
  });

  test('after kill -9 the server ends by itself, and the next start finds everything committed', async () => {
    const holder = new Holder(dataDir);
    const { adminUrl, pid } = await holder.next('started');
    await run(adminUrl, 'CREATE TABLE kept AS SELECT 7 AS n');
    await holder.kill();
    const next = await startEmbeddedPostgres({ dataDir, durable: false });
    expect(await run(next.adminUrl, 'SELECT n FROM kept')).toEqual([{ n: 7 }]);
    expect(isAlive(pid)).toBe(false);
    await next.stop();
    const another = new Holder(dataDir);
    const started = await another.next('started');
    await another.kill();
    await waitFor(() => !isAlive(started.pid), { what: 'the orphan to end without a next start' });
  });

  test.runIf(existsSync('/proc/self'))(
    'a server whose supervisor was killed too is ended by the next start',
    async () => {
      const holder = new Holder(dataDir);
      const { pid } = await holder.next('started');
      const supervisor = processInfo(pid)?.parent ?? 0;
      expect(supervisor).toBeGreaterThan(1);
      for (const child of childrenOf(supervisor)) if (child !== pid) process.kill(child, 'SIGKILL');
      process.kill(supervisor, 'SIGKILL');
      await holder.kill();
      expect(isAlive(pid)).toBe(true);
      const lines: string[] = [];
      const next = await startEmbeddedPostgres({ dataDir, durable: false, log: (line) => lines.push(line) });
      expect(lines.join('\n')).toContain(`Stopping the database server ${pid}`);
      expect(isAlive(pid)).toBe(false);
      await next.stop();
    },
  );

  test('a server that is killed is noticed, and a crashed cluster starts again', async () => {
    const server = await startEmbeddedPostgres({ dataDir, durable: false });
    process.kill(server.pid, 'SIGKILL');
    await server.exited;
    await server.stop();
    const next = await startEmbeddedPostgres({ dataDir, durable: false });
    expect(await run(next.adminUrl, 'SELECT 1 AS n')).toEqual([{ n: 1 }]);
    await next.stop();
  });

  test.runIf(isRoot)(
    'under root, a folder that the database user cannot enter moves the database and says so',
    async () => {
      chmodSync(base, 0o700);
      const first = await startEmbeddedPostgres({ dataDir, durable: false });
      try {
        expect(first.relocated).toBe(true);
        expect(first.location).toMatch(/^\/var\/lib\/patchbay-[0-9a-f]{12}$/);
        await run(first.adminUrl, 'CREATE TABLE kept AS SELECT 1 AS n');
        await expect(startEmbeddedPostgres({ dataDir })).rejects.toMatchObject({
          code: 'DATA_FOLDER_LOCKED',
        });
        await first.stop();
        const second = await startEmbeddedPostgres({ dataDir, durable: false });
        expect(second.location).toBe(first.location);
        expect(await run(second.adminUrl, 'SELECT n FROM kept')).toEqual([{ n: 1 }]);
        await second.stop();
      } finally {
        await first.stop();
        rmSync(first.location, { recursive: true, force: true });
      }
    },
  );

  test('a remembered folder that is gone is refused; without the note the database begins empty', async () => {
    const note = join(dataDir, 'postgres.location');
    const gone = join(base, 'gone');
    mkdirSync(dataDir);
    writeFileSync(note, `${gone}\n`);
    await expect(startEmbeddedPostgres({ dataDir, durable: false })).rejects.toMatchObject({
      code: 'DATABASE_UNAVAILABLE',
      message: expect.stringContaining(gone),
      fix: `Restore the folder, or delete ${note} to begin with an empty database.`,
    });
    expect(readdirSync(dataDir)).toEqual(['postgres.location']);
    rmSync(note);
    const server = await startEmbeddedPostgres({ dataDir, durable: false });
    expect(server.relocated).toBe(false);
    await server.stop();
  });

  test.runIf(isRoot)('a user who is not root runs it as themselves, and root then as the owner', async () => {
    const [uid = 0, gid = 0] = ['-u', '-g'].map((flag) =>
      Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' })),
    );
    mkdirSync(dataDir);
    chownSync(dataDir, uid, gid);
    const holder = new Holder(dataDir, { uid, gid });
    const { location } = await holder.next('started');
    expect(statSync(join(location, 'cluster')).uid).toBe(uid);
    await holder.interruptGroup();
    const asRoot = await startEmbeddedPostgres({ dataDir, durable: false });
    expect(asRoot.relocated).toBe(false);
    await asRoot.stop();
    const again = new Holder(dataDir, { uid, gid });
    await again.next('started');
    await again.interruptGroup();
  });
});

import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { exportPath } from '../../../src/exports/files.ts';
import { ExportQueue, type ExportQueueOptions, type RunExport } from '../../../src/exports/queue.ts';
import type { ExportDatabase } from '../../../src/exports/read.ts';
import type { ExportModel } from '../../../src/exports/rows.ts';
import { ExportService } from '../../../src/exports/service.ts';
import { SOURCE_NAMES, SOURCES } from '../../../src/exports/sources.ts';
import { sweepExports } from '../../../src/exports/sweep.ts';
import { writeExport } from '../../../src/exports/write.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { waitFor } from '../../kit/wait.ts';
import { actorOf, ManualClock, OPERATOR } from '../pricing/kit.ts';
import { DAY, type ExportKit, of, openExportKit, SMALL, sha256 } from './kit.ts';

let kit: ExportKit;
let tenantId: Uuid;
let service: ExportService;
const clock = new ManualClock();
const queues: ExportQueue[] = [];
const processes: ChildProcess[] = [];

beforeAll(async () => {
  kit = await openExportKit();
  tenantId = await kit.tenant();
  await kit.requests(tenantId, 200);
  service = new ExportService(
    { activeMax: 3, keptMax: 5, urlTtlMs: 60_000, secret: 's', baseUrl: () => 'http://h/exports' },
    { database: kit.db.database, clock },
  );
});
afterAll(async () => {
  for (const child of processes) child.kill('SIGKILL');
  await Promise.all(queues.map((queue) => queue.close()));
  await kit.dispose();
});

const run: RunExport = ({ source, format, reach, from, until }, path, how) =>
  writeExport(
    kit.db.database,
    { source: SOURCES[source], reach, from, until },
    { path, format, ...how, ...SMALL },
  );

/** Comes to no end of its own. It may be told to stop before it has begun. */
const untilAborted: RunExport = (_spec, _path, { signal }) =>
  new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason));
  });

const errors: unknown[] = [];
function startQueue(options: Partial<ExportQueueOptions> = {}, how: RunExport = run): ExportQueue {
  const queue = new ExportQueue(
    {
      instanceId: newId(clock),
      folder: kit.folder,
      concurrency: 1,
      leaseMs: 2_000,
      maxAttempts: 3,
      pollMs: 20,
      keepMs: 3_600_000,
      ...options,
    },
    { database: kit.db.database, clock, run: how, onError: (error) => errors.push(error) },
  );
  queues.push(queue);
  queue.start();
  return queue;
}

const input = (more: object = {}) => ({
  idempotencyKey: randomUUID(),
  source: 'usage',
  format: 'csv',
  from: DAY.from,
  to: DAY.until,
  tenantId: null,
  ...more,
});

async function reload(id: Uuid): Promise<ExportModel> {
  const found = await service.get(actorOf(tenantId), id);
  if (found === null) throw new Error('The export is gone.');
  return found;
}

async function ended(id: Uuid): Promise<ExportModel> {
  await waitFor(async () => !['QUEUED', 'RUNNING'].includes((await reload(id)).state));
  return reload(id);
}

const pathOf = ({ id, claims, format }: ExportModel): string =>
  exportPath(kit.folder, { exportId: id, claim: claims, ending: format });

/** Removes what earlier tests left, so that nothing of it counts. */
const clear = () => kit.db.admin('DELETE FROM data_export');

test('an export is written, and says how many rows it has under which checksum', async () => {
  const queue = startQueue();
  const created = await service.create(actorOf(tenantId), input());
  expect(created).toMatchObject({ state: 'QUEUED', rowsDone: 0n, rowsExpected: null, sha256: null, ...DAY });
  const ready = await ended(created.id);
  const content = readFileSync(pathOf(ready));
  expect(ready).toMatchObject({
    state: 'READY',
    rowsDone: 200n,
    rowsExpected: 200n,
    byteCount: BigInt(content.byteLength),
    sha256: sha256(content),
    failure: null,
    expiresAt: new Date(clock.nowMs() + 3_600_000),
  });
  await queue.close();
});

/** How far the file of an export is known to be on the disk; null when nothing is. */
async function reached(id: Uuid): Promise<number | null> {
  const [row] = await kit.db.admin<{ rows: number | null }>(
    'SELECT checkpoint_rows::integer AS rows FROM data_export WHERE id = $1',
    [id],
  );
  return row?.rows ?? null;
}

/** Writes, and takes down with how many rows each writing began. */
const noting =
  (begun: bigint[], inner: RunExport = run): RunExport =>
  (spec, path, how) => {
    let first = true;
    return inner(spec, path, {
      ...how,
      onProgress: (progress) => {
        if (first) begun.push(progress.rows);
        first = false;
        how.onProgress(progress);
      },
    });
  };

/** Reads a page, then waits until it is told to stop. */
const stopsAfter =
  (rows: bigint): RunExport =>
  (spec, path, how) => {
    let done = 0n;
    const paused: ExportDatabase = {
      withSystemPg: kit.db.database.withSystemPg.bind(kit.db.database),
      withTenantPg: async (id, work) => {
        if (done >= rows) await untilAborted(spec, path, how);
        return kit.db.database.withTenantPg(id, work);
      },
    };
    const { source, format, reach, from, until } = spec;
    const onProgress: typeof how.onProgress = (progress) => {
      done = progress.rows;
      how.onProgress(progress);
    };
    const extract = { source: SOURCES[source], reach, from, until };
    return writeExport(paused, extract, { path, format, ...how, ...SMALL, onProgress });
  };

test.each(['csv', 'parquet'] as const)(
  'a process that is killed in the middle costs little: another goes on to the same bytes of %s',
  async (format) => {
    await clear();
    const expected = await kit.write('usage', format, of(tenantId), SMALL);
    const { id } = await service.create(actorOf(tenantId), input({ format }));
    const script = fileURLToPath(new URL('../../kit/run-ts.mjs', import.meta.url));
    const writer = fileURLToPath(new URL('./writer-process.ts', import.meta.url));
    const child = spawn(process.execPath, [script, writer, kit.db.appUrl, kit.db.systemUrl, kit.folder], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    processes.push(child);
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    await waitFor(async () => /rows [1-9]\d/.test(said) && (await reached(id)) !== null, {
      timeoutMs: 15_000,
    });
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect((await reload(id)).state).toBe('RUNNING');
    expect(readdirSync(kit.folder)).toContain(`${id}.1.part`);
    const kept = await reached(id);

    const begun: bigint[] = [];
    const queue = startQueue({}, noting(begun));
    const ready = await ended(id);
    await queue.close();
    expect(begun).toEqual([BigInt(kept ?? -1)]);
    expect(ready).toMatchObject({ state: 'READY', attempts: 2, rowsDone: 200n, sha256: expected.sha256 });
    expect(readFileSync(pathOf(ready)).equals(expected.content)).toBe(true);
    expect(await reached(id)).toBeNull();
    await sweepExports({ database: kit.db.database, clock, folder: kit.folder });
    const left = readdirSync(kit.folder).filter((name) => name.startsWith(id));
    expect(left).toEqual([`${id}.2.${format}`]);
  },
);

test('a server that stops gives its export back, and neither an attempt nor what it wrote is lost', async () => {
  await clear();
  const first = startQueue({}, stopsAfter(65n));
  const { id } = await service.create(actorOf(tenantId), input());
  await waitFor(async () => (await reload(id)).rowsDone >= 65n);
  await first.close();
  expect(await reload(id)).toMatchObject({ state: 'QUEUED', attempts: 0, claims: 1 });
  expect(await reached(id)).toBe(60);
  // What another is to go on with is swept by nobody.
  await sweepExports({ database: kit.db.database, clock, folder: kit.folder });
  const begun: bigint[] = [];
  const second = startQueue({}, noting(begun));
  const ready = await ended(id);
  await second.close();
  expect(ready).toMatchObject({ state: 'READY', attempts: 1, claims: 2 });
  expect(begun).toEqual([60n]);
  const expected = await kit.write('usage', 'csv', of(tenantId));
  expect(readFileSync(pathOf(ready)).equals(expected.content)).toBe(true);
});

test('a writing that failed by itself is begun anew, because what it wrote may be why', async () => {
  await clear();
  const begun: bigint[] = [];
  let failed = false;
  const failsOnce: RunExport = async (spec, path, how) => {
    if (failed) return run(spec, path, how);
    failed = true;
    const stop = new AbortController();
    const onProgress: typeof how.onProgress = (progress) => {
      how.onProgress(progress);
      if (progress.rows >= 50n) stop.abort(new Error('a disk that is full'));
    };
    return run(spec, path, { ...how, onProgress, signal: stop.signal });
  };
  const queue = startQueue({}, noting(begun, failsOnce));
  const { id } = await service.create(actorOf(tenantId), input());
  expect(await ended(id)).toMatchObject({ state: 'READY', attempts: 2 });
  expect(begun).toEqual([0n, 0n]);
  await queue.close();
});

test('a writing that never succeeds ends, and says what to do', async () => {
  await clear();
  const queue = startQueue({}, () => Promise.reject(new Error('a disk that is full')));
  const { id } = await service.create(actorOf(tenantId), input());
  const failed = await ended(id);
  await queue.close();
  expect(failed).toMatchObject({ state: 'FAILED', attempts: 3, failure: { code: 'INTERNAL' } });
  expect(JSON.stringify(failed.failure)).not.toContain('disk');
  expect(service.link(failed)).toBeNull();

  const unsettled = startQueue({}, () =>
    Promise.reject(new PatchbayError('EXPORT_UNSETTLED', 'They changed.')),
  );
  const second = await service.create(actorOf(tenantId), input());
  expect(await ended(second.id)).toMatchObject({ state: 'FAILED', failure: { code: 'EXPORT_UNSETTLED' } });
  await unsettled.close();
});

test('who lost the claim writes nothing, neither a row nor a file', async () => {
  await clear();
  const { id } = await service.create(actorOf(tenantId), input());
  let finish: (() => void) | undefined;
  const slow: RunExport = async (spec, path, how) => {
    const written = await run(spec, path, how);
    await new Promise<void>((resolve) => {
      finish = resolve;
    });
    return written;
  };
  const queue = startQueue({}, slow);
  await waitFor(() => finish !== undefined);
  await kit.db.admin(`UPDATE data_export SET attempts = attempts + 1, lease_owner = $1`, [randomUUID()]);
  finish?.();
  await queue.close();
  expect(await reload(id)).toMatchObject({ state: 'RUNNING', attempts: 2, sha256: null });
  expect(readdirSync(kit.folder).filter((name) => name.startsWith(id))).toEqual([]);
});

describe('an export that is not wanted any more', () => {
  test('is ended while it is written', async () => {
    await clear();
    let aborted = false;
    const stuck: RunExport = (spec, path, how) =>
      untilAborted(spec, path, how).finally(() => {
        aborted = true;
      });
    const queue = startQueue({ leaseMs: 150 }, stuck);
    const { id } = await service.create(actorOf(tenantId), input());
    await waitFor(async () => (await reload(id)).state === 'RUNNING');
    expect((await service.delete(actorOf(tenantId), id)).state).toBe('DELETED');
    await waitFor(() => aborted);
    await queue.close();
    expect(await reload(id)).toMatchObject({ state: 'DELETED' });
    // Again changes nothing.
    expect((await service.delete(actorOf(tenantId), id)).state).toBe('DELETED');
  });

  test('loses its file when it is deleted or when its time has come, and its row a month later', async () => {
    await clear();
    const queue = startQueue();
    const sweep = () => sweepExports({ database: kit.db.database, clock, folder: kit.folder });
    const ids: Uuid[] = [];
    for (const format of ['csv', 'jsonl']) {
      const { id } = await service.create(actorOf(tenantId), input({ format }));
      expect((await ended(id)).state).toBe('READY');
      ids.push(id);
    }
    await queue.close();
    const [deleted = '', kept = ''] = ids;
    await service.delete(actorOf(tenantId), deleted);
    await sweep();
    const names = readdirSync(kit.folder);
    expect(names.some((name) => name.startsWith(deleted))).toBe(false);
    expect(names).toContain(`${kept}.1.jsonl`);
    expect(service.link(await reload(kept))).not.toBeNull();

    clock.advance(3_600_000);
    expect(service.link(await reload(kept))).toBeNull();
    await sweep();
    expect((await reload(kept)).state).toBe('EXPIRED');
    expect(readdirSync(kit.folder)).not.toContain(`${kept}.1.jsonl`);
    clock.advance(31 * 86_400_000);
    await sweep();
    expect(await service.get(actorOf(tenantId), kept)).toBeNull();
  });
});

describe('asking for exports', () => {
  test('is bounded for each tenant, also when many ask at once', async () => {
    await clear();
    const asked = await Promise.allSettled(
      Array.from({ length: 8 }, () => service.create(actorOf(tenantId), input())),
    );
    const codes = asked.map((one) => (one.status === 'rejected' ? one.reason.code : 'CREATED')).sort();
    expect(codes).toEqual([...new Array(3).fill('CREATED'), ...new Array(5).fill('EXPORT_LIMIT')]);
    const other = await kit.tenant();
    expect((await service.create(actorOf(other), input())).state).toBe('QUEUED');

    await kit.db.admin(
      `UPDATE data_export SET state = 'READY', byte_count = 0, sha256 = repeat('0', 64), finished_at = now(),
         expires_at = now() WHERE tenant_id = $1`,
      [tenantId],
    );
    await service.create(actorOf(tenantId), input());
    await service.create(actorOf(tenantId), input());
    await expect(service.create(actorOf(tenantId), input())).rejects.toMatchObject({ code: 'EXPORT_LIMIT' });
  });

  test('is idempotent, and refuses another question under the same key', async () => {
    await clear();
    const first = input();
    const { id } = await service.create(actorOf(tenantId), first);
    expect((await service.create(actorOf(tenantId), first)).id).toBe(id);
    await expect(service.create(actorOf(tenantId), { ...first, format: 'jsonl' })).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
    });
  });

  test.each([
    [
      { source: 'users' },
      { code: 'BAD_INPUT', field: 'source', fix: `Use one of ${SOURCE_NAMES.join(', ')}.` },
    ],
    [{ format: 'xlsx' }, { code: 'BAD_INPUT', field: 'format', fix: 'Use one of csv, jsonl, parquet.' }],
    [{ to: DAY.from }, { code: 'BAD_INPUT', field: 'to' }],
    [{ tenantId: randomUUID() }, { code: 'NOT_FOUND', field: 'tenant' }],
  ])('with %j is refused with a fix', async (wrong, error) => {
    await expect(service.create(actorOf(tenantId), input(wrong))).rejects.toMatchObject(error);
  });

  test('needs the scope of what is asked for, to ask and to see', async () => {
    await clear();
    const usageOnly = actorOf(tenantId, ['usage:read']);
    await expect(service.create(usageOnly, input({ source: 'ledger' }))).rejects.toMatchObject({
      code: 'FORBIDDEN',
      meta: { scope: 'billing:read' },
    });
    const { id } = await service.create(actorOf(tenantId), input({ source: 'ledger' }));
    expect(await service.get(usageOnly, id)).toBeNull();
    expect((await service.list(usageOnly, { first: 10, after: null })).items).toEqual([]);
    await expect(service.delete(usageOnly, id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await service.get(actorOf(tenantId, ['billing:read']), id)).toMatchObject({ id });
    await expect(service.get(actorOf(tenantId, ['infer']), id)).rejects.toMatchObject({ code: 'FORBIDDEN' });
  });

  test('is for operators of any tenant or of all; a tenant neither asks for nor sees theirs', async () => {
    await clear();
    const one = await service.create(OPERATOR, input({ tenantId }));
    const all = await service.create(OPERATOR, input());
    expect(one.reach).toEqual(of(tenantId));
    expect(all.reach).toEqual({ kind: 'ALL' });
    expect(await service.get(actorOf(tenantId), one.id)).toBeNull();
    await expect(service.create(OPERATOR, input({ tenantId: randomUUID() }))).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    const other = await kit.tenant();
    await expect(service.create(actorOf(other), input({ tenantId }))).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    const listed = await service.list(OPERATOR, { first: 10, after: null });
    expect(listed.items.map(({ id }) => id)).toEqual([one.id, all.id].sort());

    const audited = await kit.db.admin<{ tenant_id: Uuid; target_id: Uuid }>(
      `SELECT tenant_id, target_id FROM audit_log WHERE action = 'export.create' AND actor_kind = 'OPERATOR'`,
    );
    expect(audited).toHaveLength(2);
    expect(audited).toContainEqual({ tenant_id: tenantId, target_id: one.id });
    expect(audited).toContainEqual({ tenant_id: OPERATOR.tenantId, target_id: all.id });
    // The database holds to it whatever the program does.
    await expect(
      kit.db.database.withTenantPg(other, (client) =>
        client.query(
          `INSERT INTO data_export (id, tenant_id, of_tenant_id, source, format, range_from, range_until, created_at)
           VALUES ($1, $2, $3, 'usage', 'csv', now(), now() + interval '1 hour', now())`,
          [randomUUID(), other, tenantId],
        ),
      ),
    ).rejects.toMatchObject({ constraint: 'data_export_of_itself' });
  });
});

test('files of nobody are left alone', async () => {
  writeFileSync(join(kit.folder, 'notes.txt'), 'x');
  await sweepExports({ database: kit.db.database, clock, folder: kit.folder });
  expect(readdirSync(kit.folder)).toContain('notes.txt');
});

import { createHash, randomUUID } from 'node:crypto';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { layoutOf } from '../../src/exports/checkpoint.ts';
import { exportPath } from '../../src/exports/files.ts';
import { SOURCES } from '../../src/exports/sources.ts';
import { toGlobalId } from '../../src/graphql/ids.ts';
import { systemClock } from '../../src/kernel/clock.ts';
import { newId } from '../../src/kernel/ids.ts';
import { createTestDatabase, type TestDatabase } from '../kit/postgres.ts';
import { waitFor } from '../kit/wait.ts';
import { graphql } from './client.ts';
import { type RunningServer, startServer } from './server.ts';

const BACKBONE = fileURLToPath(new URL('../fixtures/golden/llama-tied', import.meta.url));
/** More than a page. */
const ROWS = 6_000;
const FIELDS = 'id state rowsDone rowsExpected sha256 byteCount url';
const CREATE = `mutation ($input: CreateExportInput!) {
  createExport(input: $input) { export { ${FIELDS} } userErrors { code } }
}`;
const EXPORT = `query ($id: ID!) { export(id: $id) { ${FIELDS} } }`;
const exportSchema = z.object({
  id: z.string(),
  state: z.string(),
  rowsDone: z.string(),
  sha256: z.string().nullable(),
  url: z.string().nullable(),
});
const createdSchema = z.object({
  createExport: z.object({ export: exportSchema.nullable(), userErrors: z.array(z.unknown()) }),
});
const foundSchema = z.object({ export: exportSchema });

let database: TestDatabase;
let dataDir: string;
let server: RunningServer;
const start = () =>
  startServer({
    dataDir,
    env: {
      DATABASE_URL: database.adminUrl,
      PATCHBAY_SECRET: database.secret,
      PATCHBAY_BACKBONE: BACKBONE,
      PATCHBAY_MAX_BATCH: '1',
      PATCHBAY_INTRA_OP_THREADS: '1',
    },
  });

beforeAll(async () => {
  database = await createTestDatabase();
  dataDir = await mkdtemp(join(tmpdir(), 'patchbay-export-'));
  server = await start();
  await database.admin(
    `INSERT INTO usage_record (
       id, tenant_id, key_id, instance_id, backbone_digest, prompt_tokens, cached_prompt_tokens, completion_tokens,
       priority_class, queue_us, prefill_us, decode_us, compute_us, bytes_loaded, finish_reason, admitted_at, ended_at,
       settled_by, prompt_commitment, output_commitment)
     SELECT (left(patchbay.uuidv7_floor(at)::text, 14) || '7000-8000-' || substr(md5(i::text), 1, 12))::uuid, t.id, t.id,
            t.id, sha256('b'), 10, 0, 5, 'STANDARD', i, i, i, i, 0, 'stop', at, at, 'engine', sha256('p'), sha256('o')
     FROM tenant t, (SELECT i, timestamptz '2026-01-05' + i * interval '1 second' AS at
                     FROM generate_series(1, $1::integer) i) r
     WHERE t.slug = 'demo'`,
    [ROWS],
  );
}, 120_000);
afterAll(async () => {
  await server.stop();
  await rm(dataDir, { recursive: true, force: true });
  await database.dispose();
});

async function create(format: string): Promise<string> {
  const input = {
    idempotencyKey: randomUUID(),
    source: 'USAGE',
    format,
    from: '2026-01-01T00:00:00Z',
    to: '2026-02-01T00:00:00Z',
  };
  const { createExport } = await graphql(server.graphqlUrl, server.demoKey, CREATE, { input }, createdSchema);
  expect(createExport.userErrors).toEqual([]);
  return createExport.export?.id ?? '';
}

async function read(id: string) {
  return (await graphql(server.graphqlUrl, server.demoKey, EXPORT, { id }, foundSchema)).export;
}

async function ready(id: string) {
  await waitFor(async () => (await read(id)).state === 'READY', { timeoutMs: 30_000, what: 'the export' });
  return read(id);
}

/** The file behind the address of an export. */
async function load({ url }: { readonly url: string | null }): Promise<Buffer> {
  return Buffer.from(await (await fetch(url ?? '')).arrayBuffer());
}

const sha256 = (content: Uint8Array): string => createHash('sha256').update(content).digest('hex');
const exportsFolder = () => join(dataDir, 'exports');

test('a server that is killed while it writes costs nothing but time, and the file is the same', async () => {
  const holder = new pg.Client({ connectionString: database.adminUrl });
  await holder.connect();
  // Whoever reads the rows waits, so that the server cannot be done before it is killed.
  await holder.query('BEGIN; LOCK TABLE usage_record IN ACCESS EXCLUSIVE MODE');
  const id = await create('PARQUET');
  await waitFor(async () => (await read(id)).state === 'RUNNING');
  await server.kill();
  await holder.query('ROLLBACK');
  await holder.end();
  const [left] = await database.admin<{ state: string }>('SELECT state FROM data_export');
  expect(left?.state).toBe('RUNNING');
  // Its lease would end by itself.
  await database.admin('UPDATE data_export SET lease_until = now()');
  server = await start();
  const first = await ready(id);
  const second = await ready(await create('PARQUET'));
  expect(first).toMatchObject({ rowsDone: String(ROWS), sha256: second.sha256 });
  expect(sha256(await load(first))).toBe(first.sha256);
  expect((await readdir(exportsFolder())).filter((name) => name.endsWith('.parquet'))).toHaveLength(2);
}, 120_000);

test('a server goes on with the part that a dead one vouched for, and writes none of it again', async () => {
  const whole = (await load(await ready(await create('CSV')))).toString();
  const lines = whole.split('\r\n');
  const done = 2_500;
  const [lastId = ''] = lines[done]?.split(',') ?? [];
  const rest = lines.slice(done + 1).join('\r\n');
  // Not what the rows say, so that it is seen where it comes from.
  const part = Buffer.from(
    `${lines.slice(0, done + 1).join('\r\n')}\r\n`.replace(',STANDARD,', ',standard,'),
  );
  const exportId = newId(systemClock);
  await writeFile(exportPath(exportsFolder(), { exportId, claim: 1, ending: 'part' }), part);
  const [row] = await database.admin<{ tenant_id: string; range_from: Date; range_until: Date }>(
    `SELECT tenant_id, range_from, range_until FROM data_export WHERE format = 'csv'`,
  );
  if (row === undefined) throw new Error('There is an export.');
  const { tenant_id: tenantId, range_from: from, range_until: until } = row;
  const extract = { source: SOURCES.usage, reach: { kind: 'TENANT' as const, tenantId }, from, until };
  await database.admin(
    `INSERT INTO data_export (id, tenant_id, of_tenant_id, source, format, range_from, range_until, created_at, claims,
       checkpoint_claim, checkpoint_row_id, checkpoint_row_line, checkpoint_rows, checkpoint_bytes, checkpoint_sha256,
       checkpoint_layout, checkpoint_encoder)
     VALUES ($1, $2, $2, 'usage', 'csv', $3, $4, now(), 1, 1, $5, 0, $6, $7, $8, $9, '')`,
    [exportId, tenantId, from, until, lastId, done, part.byteLength, sha256(part), layoutOf(extract, 'csv')],
  );
  // One that is asked for wakes the server.
  await create('JSONL');
  const written = await ready(toGlobalId('Export', exportId));
  expect(written.rowsDone).toBe(String(ROWS));
  const content = await load(written);
  expect(content.toString()).toBe(`${part.toString()}${rest}`);
  expect(sha256(content)).toBe(written.sha256);
}, 120_000);

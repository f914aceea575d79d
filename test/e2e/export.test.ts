import { createHash, randomUUID } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { createTestDatabase, type TestDatabase } from '../kit/postgres.ts';
import { waitFor } from '../kit/wait.ts';
import { graphql } from './client.ts';
import { type RunningServer, startServer } from './server.ts';

const ROWS = 30_000;
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
  startServer({ dataDir, env: { DATABASE_URL: database.adminUrl, PATCHBAY_SECRET: database.secret } });

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

async function create(): Promise<string> {
  const input = {
    idempotencyKey: randomUUID(),
    source: 'USAGE',
    format: 'PARQUET',
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

test('a server that is killed while it writes costs nothing but time, and the file is the same', async () => {
  const id = await create();
  await waitFor(async () => (await read(id)).state === 'RUNNING');
  await server.kill();
  const [left] = await database.admin<{ state: string }>('SELECT state FROM data_export');
  expect(left?.state).toBe('RUNNING');
  // Its lease would end by itself.
  await database.admin('UPDATE data_export SET lease_until = now()');
  server = await start();
  const first = await ready(id);
  const second = await ready(await create());
  expect(first).toMatchObject({ rowsDone: String(ROWS), sha256: second.sha256 });

  const response = await fetch(first.url ?? '');
  const content = Buffer.from(await response.arrayBuffer());
  expect(createHash('sha256').update(content).digest('hex')).toBe(first.sha256);
  expect((await readdir(join(dataDir, 'exports'))).filter((name) => name.endsWith('.parquet'))).toHaveLength(
    2,
  );
}, 120_000);

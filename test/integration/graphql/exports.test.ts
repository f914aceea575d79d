import { createHash, randomUUID } from 'node:crypto';
import { get } from 'node:http';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { signedUrl } from '../../../src/exports/url.ts';
import { toGlobalId } from '../../../src/graphql/ids.ts';
import type { TestKey } from '../../kit/tenancy.ts';
import { waitFor } from '../../kit/wait.ts';
import { EXPORT_SECRET, openStack, type Stack } from './stack.ts';

const FIELDS = `id source format state from until rowsDone rowsExpected byteCount sha256 url urlExpiresAt
  expiresAt finishedAt ofTenant { slug } failure { code message fix }`;
const CREATE = `mutation ($input: CreateExportInput!) {
  createExport(input: $input) { export { ${FIELDS} } userErrors { code field message fix } }
}`;
const EXPORT = `query ($id: ID!) { export(id: $id) { ${FIELDS} } }`;
const DELETE = `mutation ($input: DeleteExportInput!) {
  deleteExport(input: $input) { export { state url } userErrors { code field } }
}`;

let stack: Stack;
let operator: TestKey;
let tenantId: string;
let key: TestKey;
beforeAll(async () => {
  stack = await openStack();
  operator = await stack.tenancy.createOperatorKey();
  tenantId = (await stack.tenancy.createTenant('exporter')).id;
  key = await stack.tenancy.createKey(tenantId);
  for (let i = 0; i < 3; i += 1) {
    const input = { prompt: 'abc', plainBackbone: true, maxTokens: 2, idempotencyKey: randomUUID() };
    await stack.inference.generate(key.principal, input);
  }
  // As if it had been a while ago, and settled since.
  await stack.registry.db.admin(`BEGIN; SET LOCAL session_replication_role = replica;
    UPDATE usage_record SET ended_at = ended_at - interval '1 minute'; COMMIT`);
});
afterAll(() => stack.close());

/** The one value below a path of an answer. */
function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>(
    (found, name) => (typeof found === 'object' && found !== null ? Reflect.get(found, name) : undefined),
    value,
  );
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '');
const input = (more: object = {}) => ({
  idempotencyKey: randomUUID(),
  source: 'USAGE',
  format: 'CSV',
  from: '2026-01-01T00:00:00Z',
  to: '2100-01-01T00:00:00Z',
  ...more,
});
const create = (who: TestKey, more: object = {}) => stack.query(who.header, CREATE, { input: input(more) });

/** Creates an export and follows it to its end, as a client would. */
async function exported(who: TestKey, more: object = {}): Promise<unknown> {
  const created = await create(who, more);
  expect(at(created.data, 'createExport', 'userErrors'), JSON.stringify(created)).toEqual([]);
  const id = at(created.data, 'createExport', 'export', 'id');
  let found: unknown;
  await waitFor(async () => {
    found = at((await stack.query(who.header, EXPORT, { id })).data, 'export');
    return !['QUEUED', 'RUNNING'].includes(text(at(found, 'state')));
  });
  return found;
}

test('bills and payouts are asked for like everything else', async () => {
  for (const source of ['INVOICES', 'CREDIT_NOTES', 'PAYOUTS']) {
    const found = await exported(key, { source });
    expect(found).toMatchObject({ state: 'READY', source, rowsDone: '0', failure: null });
  }
});

test('createExport leads by way of progress to a signed address, and the file is what it says', async () => {
  const found = await exported(key);
  expect(found).toMatchObject({
    state: 'READY',
    source: 'USAGE',
    format: 'CSV',
    rowsDone: '3',
    rowsExpected: '3',
    ofTenant: { slug: 'exporter' },
    failure: null,
    from: '2026-01-01T00:00:00.000Z',
  });
  // It ends where it is closed, which the year 2100 is not.
  expect(Date.parse(text(at(found, 'until')))).toBeLessThan(Date.now());
  const response = await fetch(text(at(found, 'url')));
  const content = Buffer.from(await response.arrayBuffer());
  expect(response.status).toBe(200);
  expect(createHash('sha256').update(content).digest('hex')).toBe(at(found, 'sha256'));
  expect(String(content.byteLength)).toBe(at(found, 'byteCount'));
  expect(content.toString().split('\r\n')).toHaveLength(5);
  expect(Object.fromEntries(response.headers)).toMatchObject({
    'content-type': 'text/csv; charset=utf-8; header=present',
    'content-disposition': expect.stringMatching(
      /^attachment; filename="usage_2026-01-01_\d{4}-\d\d-\d\d\.csv"$/,
    ),
    'content-security-policy': "default-src 'none'; sandbox",
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'cache-control': expect.stringContaining('private'),
    'accept-ranges': 'bytes',
    etag: `"${at(found, 'sha256')}"`,
  });
});

test('a download goes on where it was interrupted', async () => {
  const found = await exported(key, { format: 'JSONL' });
  const url = text(at(found, 'url'));
  const whole = Buffer.from(await (await fetch(url)).arrayBuffer());
  const size = whole.byteLength;
  const etag = `"${at(found, 'sha256')}"`;
  // The first part: the connection is cut after some bytes.
  const first = await new Promise<Buffer>((resolve, reject) => {
    const request = get(url, (response) => {
      response.once('data', (chunk: Buffer) => {
        request.destroy();
        resolve(chunk.subarray(0, 100));
      });
    });
    request.on('error', reject);
  });
  const rest = await fetch(url, { headers: { range: `bytes=${first.byteLength}-`, 'if-range': etag } });
  expect(rest.status).toBe(206);
  expect(rest.headers.get('content-range')).toBe(`bytes ${first.byteLength}-${size - 1}/${size}`);
  expect(Buffer.concat([first, Buffer.from(await rest.arrayBuffer())]).equals(whole)).toBe(true);

  // A file that changed would be sent whole; beyond the end there is nothing; what is there already is not sent again.
  const changed = await fetch(url, { headers: { range: 'bytes=5-', 'if-range': '"another"' } });
  expect(changed.status).toBe(200);
  const beyond = await fetch(url, { headers: { range: `bytes=${size}-` } });
  expect(beyond.status).toBe(416);
  expect(beyond.headers.get('content-range')).toBe(`bytes */${size}`);
  expect((await fetch(url, { headers: { 'if-none-match': etag } })).status).toBe(304);
  const head = await fetch(url, { method: 'HEAD' });
  expect(head.status).toBe(200);
  expect(head.headers.get('content-length')).toBe(String(size));
  expect((await fetch(url, { method: 'POST' })).status).toBe(404);
});

test('an address opens one file, for a while, and tells nobody anything else', async () => {
  const found = await exported(key);
  const url = new URL(text(at(found, 'url')));
  const other = await exported(key, { format: 'PARQUET' });
  const refusals: unknown[] = [];
  const ask = async (change: (changed: URL) => void) => {
    const changed = new URL(url);
    change(changed);
    const response = await fetch(changed);
    expect(response.status).toBe(404);
    const { requestId, ...error } = JSON.parse(await response.text()).error;
    expect(requestId).not.toBe('');
    refusals.push(error);
  };
  await ask((changed) => changed.searchParams.set('signature', 'x'));
  await ask((changed) => changed.searchParams.delete('signature'));
  await ask((changed) => changed.searchParams.set('expires', '9999999999'));
  await ask((changed) => {
    changed.pathname = new URL(text(at(other, 'url'))).pathname;
  });
  await ask((changed) => {
    changed.pathname = '/exports/..%2f..%2fetc%2fpasswd';
  });
  const grant = (exportId: string, expires: number) => (changed: URL) => {
    changed.href = signedUrl(EXPORT_SECRET, `${url.origin}/exports`, { exportId, expires });
  };
  const soon = Math.floor(Date.now() / 1_000) + 60;
  await ask(grant(url.pathname.slice('/exports/'.length), soon - 120));
  await ask(grant(randomUUID(), soon));
  expect(new Set(refusals.map((error) => JSON.stringify(error))).size).toBe(1);
  expect(refusals[0]).toMatchObject({ code: 'EXPORT_NOT_FOUND', fix: expect.any(String) });

  const deleted = await stack.query(key.header, DELETE, { input: { id: at(found, 'id') } });
  expect(deleted.data).toEqual({ deleteExport: { export: { state: 'DELETED', url: null }, userErrors: [] } });
  await ask(() => {});
});

test('wrong input is answered with what to do', async () => {
  const errors = async (more: object) => at((await create(key, more)).data, 'createExport', 'userErrors');
  expect(await errors({ to: '2026-01-01T00:00:00Z' })).toMatchObject([
    { code: 'BAD_INPUT', field: 'input.to', fix: expect.stringContaining('later') },
  ]);
  expect(await errors({ from: '2099-01-01T00:00:00Z' })).toMatchObject([
    { code: 'BAD_INPUT', field: 'input.from', fix: expect.stringMatching(/before \d{4}-/) },
  ]);
  const unknown = await create(key, { source: 'USERS' });
  expect(unknown.errors?.[0]).toMatchObject({
    message: expect.stringContaining('USERS'),
    extensions: { code: 'BAD_INPUT', fix: expect.any(String) },
  });
});

test('a key needs the scope of what it asks for; a tenant has nothing of another', async () => {
  const weak = await stack.tenancy.createKey(tenantId, ['usage:read']);
  const refused = await create(weak, { source: 'LEDGER' });
  expect(refused.errors?.[0]?.extensions).toMatchObject({ code: 'FORBIDDEN' });
  const mine = await exported(key, { source: 'CHARGES' });
  const id = at(mine, 'id');
  expect((await stack.query(weak.header, EXPORT, { id })).data).toEqual({ export: null });

  const stranger = await stack.tenant('export-stranger');
  expect((await stack.query(stranger.key.header, EXPORT, { id })).data).toEqual({ export: null });
  const stolen = await create(stranger.key, { tenant: toGlobalId('Tenant', tenantId) });
  expect(at(stolen.data, 'createExport')).toMatchObject({
    export: null,
    userErrors: [{ code: 'NOT_FOUND', field: 'input.tenant' }],
  });
  const listed = await stack.query(stranger.key.header, '{ exports(first: 5) { edges { node { id } } } }');
  expect(listed.data).toEqual({ exports: { edges: [] } });
});

test('an operator exports one tenant or all of them', async () => {
  const one = await exported(operator, { tenant: toGlobalId('Tenant', tenantId), format: 'JSONL' });
  expect(one).toMatchObject({ state: 'READY', rowsDone: '3', ofTenant: { slug: 'exporter' } });
  const all = await exported(operator, { format: 'JSONL' });
  expect(all).toMatchObject({ state: 'READY', ofTenant: null });
  const body = await (await fetch(text(at(all, 'url')))).text();
  expect(body).toContain(tenantId);
});

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hex } from '../../../src/proofs/log/documents.ts';
import { registerLogRoutes } from '../../../src/proofs/log/routes.ts';
import { verifiesConsistency, verifiesInclusion } from '../../../src/proofs/merkle/verify.ts';
import { LOG_ID } from '../../kit/log.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { OPERATOR_TOKEN, TOKEN } from '../../unit/graphql/fakes.ts';
import { startServer } from '../../unit/graphql/server.ts';
import { isSigned, leafOf, queue, testLog } from './kit.ts';

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
  await queue(db, 0, 700);
  await testLog(db, { leavesMax: 300 }).appender.run();
});
afterAll(() => db.dispose());

async function serve(log: ReturnType<typeof testLog>['service'] | null) {
  const server = await startServer({
    services: { proofs: log === null ? null : { log, ...NO_RECEIPTS } },
    deps: { routes: [(app) => registerLogRoutes(app, { log, keys: null, epochs: null })] },
  });
  return {
    ...server,
    /** Without a key. */
    async get(path: string) {
      const response = await fetch(`${server.url}/log/v1/${path}`);
      const cached = response.headers.get('cache-control');
      return { status: response.status, cached, body: JSON.parse(await response.text()) };
    },
  };
}

/** Of which nothing is asked here. */
const missing = () => Promise.reject(new Error('not asked'));
const NO_RECEIPTS = {
  receipts: { find: missing, numbered: missing },
  keys: { list: missing },
  epochs: { find: missing, document: missing, list: missing, statement: missing, quarantine: missing },
  erasure: { erase: missing },
};
const bytes = (text: string) => Buffer.from(text, 'hex');
const FOR_EVER = 'public, max-age=31536000, immutable';

describe('over REST, without a key', () => {
  test('heads, the latest for a moment and those of a size for ever', async () => {
    const { get } = await serve(testLog(db).service);
    const latest = await get('head');
    expect(latest).toMatchObject({
      status: 200,
      cached: 'public, max-age=1',
      body: { head: { size: '700' } },
    });
    expect(latest.body).toEqual({
      format: 'patchbay-head/1',
      log: hex(LOG_ID),
      head: {
        root: expect.stringMatching(/^[0-9a-f]{64}$/),
        size: '700',
        signedAt: String(Date.UTC(2026, 3, 4)),
        signature: expect.stringMatching(/^0x[0-9a-f]{130}$/),
      },
    });
    const { address } = await testLog(db).service.head(700);
    const { root, signature } = latest.body.head;
    expect(
      isSigned({ address, signature, root: bytes(root), size: 700, signedAtMs: Date.UTC(2026, 3, 4) }),
    ).toBe(true);
    const named = await get('head?size=300');
    expect(named).toMatchObject({ status: 200, cached: FOR_EVER, body: { head: { size: '300' } } });
  });

  test('inclusion of a leaf by its hash and its index', async () => {
    const { get } = await serve(testLog(db).service);
    const leaf = leafOf(123).toString('hex');
    const { status, cached, body } = await get(`proof/inclusion?leaf=${leaf}&size=600`);
    expect({ status, cached }).toEqual({ status: 200, cached: FOR_EVER });
    expect(body).toMatchObject({ leaf, index: '123', head: { size: '600' } });
    const path = body.path.map(bytes);
    const root = bytes(body.head.root);
    expect(verifiesInclusion({ leaf: leafOf(123), index: 123, size: 600, root, path })).toBe(true);
    const byIndex = await get('proof/inclusion?index=123&size=600');
    expect(byIndex.body).toEqual(body);
    const latest = await get('proof/inclusion?index=699');
    expect(latest).toMatchObject({
      status: 200,
      cached: 'public, max-age=1',
      body: { head: { size: '700' } },
    });
  });

  test('consistency of two heads', async () => {
    const { get } = await serve(testLog(db).service);
    const { status, cached, body } = await get('proof/consistency?first=300&second=600');
    expect({ status, cached }).toEqual({ status: 200, cached: FOR_EVER });
    const claim = {
      ...{ first: 300, firstRoot: bytes(body.firstHead.root) },
      ...{ second: 600, secondRoot: bytes(body.secondHead.root) },
      path: body.path.map(bytes),
    };
    expect(verifiesConsistency(claim)).toBe(true);
    expect(Object.keys(body).sort()).toEqual([
      'first',
      'firstHead',
      'format',
      'log',
      'path',
      'second',
      'secondHead',
    ]);
    expect(body).toMatchObject({
      format: 'patchbay-consistency/1',
      log: hex(LOG_ID),
      first: '300',
      second: '600',
    });
    const toLatest = await get('proof/consistency?first=700');
    expect(toLatest.body).toMatchObject({ first: '700', second: '700', path: [] });
  });

  test.each([
    ['head?size=301', 404, 'NOT_FOUND', 'size'],
    ['head?size=01', 400, 'BAD_INPUT', 'size'],
    ['head?size=-1', 400, 'BAD_INPUT', 'size'],
    ['head?size=9999999999999999', 400, 'BAD_INPUT', 'size'],
    ['head?size=300&size=300', 400, 'BAD_INPUT', 'size'],
    ['head?sise=300', 400, 'BAD_INPUT', 'sise'],
    ['proof/inclusion', 400, 'BAD_INPUT', 'leaf'],
    [`proof/inclusion?index=1&leaf=${'0'.repeat(64)}`, 400, 'BAD_INPUT', 'leaf'],
    ['proof/inclusion?leaf=xyz', 400, 'BAD_INPUT', 'leaf'],
    [`proof/inclusion?leaf=${'0'.repeat(64)}`, 404, 'NOT_FOUND', 'leaf'],
    ['proof/inclusion?index=650&size=600', 404, 'NOT_FOUND', 'index'],
    ['proof/inclusion?entry=0192f000-0000-7000-8000-000000000001', 400, 'BAD_INPUT', 'entry'],
    ['proof/consistency', 400, 'BAD_INPUT', 'first'],
    ['proof/consistency?first=600&second=300', 400, 'BAD_INPUT', 'first'],
    ['proof/consistency?first=0', 400, 'BAD_INPUT', 'first'],
    ['head?size=0', 400, 'BAD_INPUT', 'size'],
    ['proof/consistency?first=301', 404, 'NOT_FOUND', 'first'],
  ])(
    '%s is refused with a code, a fix and the field, and nobody keeps that',
    async (path, status, code, field) => {
      const { get } = await serve(testLog(db).service);
      expect(await get(path)).toMatchObject({
        ...{ status, cached: 'no-store' },
        body: { error: { code, field, fix: expect.stringMatching(/\w/) } },
      });
    },
  );

  test('where proofs are switched off, everything says so', async () => {
    const { get } = await serve(null);
    for (const path of ['head', 'proof/inclusion?index=0', 'proof/consistency?first=1']) {
      expect(await get(path)).toMatchObject({
        ...{ status: 404, cached: 'no-store' },
        body: { error: { code: 'PROOFS_DISABLED' } },
      });
    }
  });
});

describe('over GraphQL, with a key', () => {
  const HEADS = `{ logHead { log root size signedAt address signature } earlier: logHead(size: "300") { size }
    logConsistency(first: "300") { first { root size } second { root size } path } }`;

  test.each([TOKEN, OPERATOR_TOKEN])('heads and consistency (%s)', async (authorization) => {
    const { query, get } = await serve(testLog(db).service);
    const { body } = await query({ query: HEADS }, { authorization });
    const head = await get('head');
    const proof = await get('proof/consistency?first=300&second=700');
    const { root, size, signedAt, signature } = head.body.head;
    const { address } = await testLog(db).service.head(700);
    const [first, second] = [proof.body.firstHead, proof.body.secondHead];
    expect(body).toEqual({
      data: {
        logHead: { log: hex(LOG_ID), root, size, signedAt, address, signature },
        earlier: { size: '300' },
        logConsistency: {
          first: { root: first.root, size: first.size },
          second: { root: second.root, size: second.size },
          path: proof.body.path,
        },
      },
    });
  });

  test('not without one, and not where proofs are switched off', async () => {
    const server = await serve(testLog(db).service);
    const nobody = await server.query({ query: '{ logHead { size } }' }, { authorization: '' });
    expect(nobody.body.errors?.[0]?.extensions['code']).toBe('UNAUTHENTICATED');
    const off = await serve(null);
    for (const query of ['{ logHead { size } }', '{ logConsistency(first: "1") { path } }']) {
      const { body } = await off.query({ query }, { authorization: TOKEN });
      expect(body.errors?.[0]?.extensions).toMatchObject({
        code: 'PROOFS_DISABLED',
        fix: expect.any(String),
      });
    }
  });

  test('sizes that are none are refused', async () => {
    const { query } = await serve(testLog(db).service);
    for (const size of ['-1', '99999999999999999999']) {
      const { body } = await query(
        { query: `{ logHead(size: "${size}") { size } }` },
        { authorization: TOKEN },
      );
      expect(body.errors?.[0]?.extensions).toMatchObject({ code: 'BAD_INPUT', field: 'size' });
    }
  });
});

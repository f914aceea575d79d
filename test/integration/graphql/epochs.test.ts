import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { toGlobalId } from '../../../src/graphql/ids.ts';
import type { TestKey } from '../../kit/tenancy.ts';
import { sampleFiles } from '../adapter/kit.ts';
import { openStack, type Stack } from './stack.ts';

let stack: Stack;
let operator: TestKey;
let key: TestKey;
let tenant: string;
let version: { readonly id: string; readonly adapterId: string };
let requests: readonly string[];

beforeAll(async () => {
  stack = await openStack();
  operator = await stack.tenancy.createOperatorKey();
  const made = await stack.tenant('keeper');
  tenant = made.tenant.id;
  key = made.key;
  version = await stack.registry.ready(tenant, 'kept', sampleFiles(0.51));
  const ask = async () => {
    const adapters = [{ adapter: version.adapterId }];
    const input = { prompt: 'abc', adapters, maxTokens: 2, idempotencyKey: randomUUID() };
    const { requestId, receipt } = await stack.inference.generate(key.principal, input);
    // Signed, so that the log can have it.
    expect(await receipt?.()).toBeTypeOf('string');
    return requestId;
  };
  const first = await ask();
  await stack.proofs.appender.run();
  await stack.proofs.closer.run();
  const second = await ask();
  await stack.proofs.appender.run();
  await stack.registry.db.admin(`BEGIN; SET LOCAL session_replication_role = replica;
    UPDATE usage_record SET engine_prompt_tokens = engine_prompt_tokens + 1 WHERE id = '${second}'; COMMIT`);
  await stack.proofs.closer.run();
  requests = [first, second];
});
afterAll(() => stack.close());

const EPOCH = '{ number firstSize size digest closedAt receipts quarantined released document }';
/** What an answer has there. */
const at = (value: unknown, ...path: readonly string[]): unknown =>
  path.reduce((of, name) => z.record(z.string(), z.unknown()).parse(of)[name], value);
const parse = (document: unknown) =>
  z.record(z.string(), z.unknown()).parse(JSON.parse(z.string().parse(document)));
const ask = async (query: string, variables: Record<string, unknown> = {}, who = key) => {
  const { data, errors } = await stack.query(who.header, query, variables);
  return { data, errors };
};
async function get(path: string) {
  const response = await fetch(`${stack.url}/log/v1/epoch${path}`);
  const { status, headers } = response;
  return {
    status,
    cached: headers.get('cache-control'),
    type: headers.get('content-type'),
    text: await response.text(),
  };
}

describe('epochs', () => {
  test('are told to everybody who has a key, one by one and in pages', async () => {
    const { data } = await ask(
      `{ epoch ${EPOCH} first: epoch(number: "1") { number document } none: epoch(number: "9") { number } }`,
    );
    expect(data).toMatchObject({
      epoch: { number: '2', firstSize: '1', size: '2', receipts: '0', quarantined: 1, released: 0 },
      first: { number: '1' },
      none: null,
    });
    expect(parse(at(data, 'epoch', 'document'))).toMatchObject({
      format: 'patchbay-epoch/1',
      epoch: { number: '2' },
    });
    const PAGE = `query ($after: String) { epochs(first: 1, after: $after) {
      edges { cursor node { number digest } } pageInfo { hasNextPage endCursor } } }`;
    const one = (await ask(PAGE)).data;
    expect(one).toMatchObject({
      epochs: { edges: [{ node: { number: '1' } }], pageInfo: { hasNextPage: true } },
    });
    const two = (await ask(PAGE, { after: at(one, 'epochs', 'pageInfo', 'endCursor') })).data;
    expect(two).toMatchObject({
      epochs: { edges: [{ node: { number: '2' } }], pageInfo: { hasNextPage: false } },
    });
    for (const after of ['x', Buffer.from('after:-1').toString('base64url')])
      expect((await ask(PAGE, { after })).errors).toMatchObject([
        { extensions: { code: 'BAD_INPUT', field: 'after' } },
      ]);
    expect((await ask('{ epoch(number: "0") { number } }')).errors).toMatchObject([
      { extensions: { code: 'BAD_INPUT', field: 'number' } },
    ]);
  });

  test('are served without a key, as they were signed', async () => {
    const latest = await get('');
    const { data } = await ask('{ epoch { document } }');
    expect(latest).toEqual({
      ...{ status: 200, cached: 'public, max-age=1', type: 'application/json; charset=utf-8' },
      text: at(data, 'epoch', 'document'),
    });
    const named = await get('?number=1');
    expect(named).toMatchObject({ status: 200, cached: 'public, max-age=31536000, immutable' });
    expect(parse(named.text)).toMatchObject({ epoch: { number: '1', receipts: '1' } });
    const codes = ['?number=3', '?number=0', '?number=01', '?numbers=1'].map(async (query) => {
      const { status, cached, text } = await get(query);
      expect(cached).toBe('no-store');
      return [status, JSON.parse(text).error.code, JSON.parse(text).error.field];
    });
    expect(await Promise.all(codes)).toEqual([
      [404, 'NOT_FOUND', 'number'],
      [400, 'BAD_INPUT', 'number'],
      [400, 'BAD_INPUT', 'number'],
      [400, 'BAD_INPUT', 'numbers'],
    ]);
  });
});

describe('statements', () => {
  const STATEMENT = `query ($number: BigInt!, $adapterVersion: ID) {
    epochStatement(number: $number, adapterVersion: $adapterVersion) { document } }`;
  const read = async (variables: Record<string, unknown>, who = key) => {
    const { data, errors } = await ask(STATEMENT, variables, who);
    return { statement: data == null ? null : parse(at(data, 'epochStatement', 'document')), errors };
  };

  test('are the caller’s own, and those of its versions', async () => {
    const own = await read({ number: '1' });
    expect(own.statement).toMatchObject({
      ...{ format: 'patchbay-statement/1', epoch: '1', kind: 'tenant', subject: tenant, absent: null },
      present: { account: { receipts: '1', promptTokens: '3' } },
    });
    const adapterVersion = toGlobalId('AdapterVersion', version.id);
    expect((await read({ number: '1', adapterVersion })).statement).toMatchObject({
      ...{ kind: 'version', subject: version.id },
      present: { account: { owner: tenant, receipts: '1' } },
    });
    expect((await read({ number: '2' })).statement).toMatchObject({
      present: { account: { receipts: '0' } },
    });
  });

  test('prove to others that there is nothing of them, and refuse what is not theirs', async () => {
    const { key: stranger, tenant: other } = await stack.tenant('stranger');
    expect((await read({ number: '1' }, stranger)).statement).toMatchObject({
      subject: other.id,
      present: null,
    });
    const adapterVersion = toGlobalId('AdapterVersion', version.id);
    const refused = [
      [{ number: '1', adapterVersion }, stranger, 'NOT_FOUND'],
      [{ number: '7' }, key, 'NOT_FOUND'],
      [{ number: '0' }, key, 'BAD_INPUT'],
      [{ number: '1' }, await stack.tenancy.createKey(tenant, ['infer']), 'FORBIDDEN'],
    ] as const;
    for (const [variables, who, code] of refused)
      expect((await read(variables, who)).errors).toMatchObject([{ extensions: { code } }]);
  });
});

test('what is quarantined is told to operators', async () => {
  const QUARANTINE = `{ quarantine { edges { node { requestId reason leaf epoch releasedIn } } pageInfo { hasNextPage } } }`;
  expect((await ask(QUARANTINE)).errors).toMatchObject([{ extensions: { code: 'FORBIDDEN' } }]);
  expect((await ask(QUARANTINE, {}, operator)).data).toEqual({
    quarantine: {
      edges: [
        {
          node: {
            ...{ requestId: requests[1], reason: 'ENGINE_DIFFERS', epoch: '2', releasedIn: null },
            leaf: expect.stringMatching(/^[0-9a-f]{64}$/),
          },
        },
      ],
      pageInfo: { hasNextPage: false },
    },
  });
});

test('an operator erases a tenant’s proofs', async () => {
  const ERASE =
    'mutation ($input: EraseProofsInput!) { eraseProofs(input: $input) { receipts salts accounts userErrors { code field } } }';
  const input = { idempotencyKey: randomUUID(), tenant: toGlobalId('Tenant', tenant) };
  expect((await ask(ERASE, { input })).errors).toMatchObject([{ extensions: { code: 'FORBIDDEN' } }]);
  const missing = { ...input, tenant: toGlobalId('Tenant', randomUUID()) };
  expect((await ask(ERASE, { input: missing }, operator)).data).toEqual({
    eraseProofs: {
      receipts: null,
      salts: null,
      accounts: null,
      userErrors: [{ code: 'NOT_FOUND', field: 'input.tenant' }],
    },
  });
  expect((await ask(ERASE, { input }, operator)).data).toEqual({
    eraseProofs: { receipts: '2', salts: '2', accounts: '4', userErrors: [] },
  });
  expect(
    (await ask('query ($id: UUID!) { receipt(requestId: $id) { leaf } }', { id: requests[0] })).data,
  ).toEqual({
    receipt: null,
  });
});

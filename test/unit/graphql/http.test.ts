import { describe, expect, test } from 'vitest';
import { requireFreePort } from '../../../src/http/server.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { fakeServices, PRINCIPAL, TENANT_ID, TOKEN } from './fakes.ts';
import { startServer } from './server.ts';

const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-/;
const ME = { query: '{ me { isOperator scopes tenant { name slug } } }' };

describe('request ids', () => {
  test('every response has a fresh uuidv7, refusals and unknown paths included', async () => {
    const { url, query } = await startServer();
    const ids = [
      (await query(ME)).headers.get('x-request-id'),
      (await query('{')).headers.get('x-request-id'),
      (await fetch(`${url}/nowhere`)).headers.get('x-request-id'),
      (await fetch(`${url}/healthz`)).headers.get('x-request-id'),
    ];
    for (const id of ids) expect(id).toMatch(UUID_V7);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test('a well-formed id of the caller is kept, and is in the extensions of each error', async () => {
    const { query } = await startServer();
    const answer = await query({ query: '{ engine { steps } a: nope }' }, { 'x-request-id': 'trace-0001' });
    expect(answer.headers.get('x-request-id')).toBe('trace-0001');
    expect(answer.body.errors?.map((error) => error.extensions.requestId)).toEqual(['trace-0001']);
  });

  test.each(['short', 'has space here', 'x'.repeat(65), 'quote"quote"'])(
    'an id like %j is replaced',
    async (given) => {
      const { query } = await startServer();
      const answer = await query(ME, { 'x-request-id': given });
      expect(answer.headers.get('x-request-id')).toMatch(UUID_V7);
    },
  );
});

describe('who is calling', () => {
  test('the key of the bearer header decides', async () => {
    const { query } = await startServer();
    const { body } = await query(ME);
    expect(body).toEqual({
      data: { me: { isOperator: false, scopes: ['infer'], tenant: { name: 'Demo', slug: 'demo' } } },
    });
  });

  test('a wrong key refuses the whole request with 401', async () => {
    const { query } = await startServer();
    const { status, body } = await query(ME, { authorization: 'Bearer nonsense' });
    expect(status).toBe(401);
    expect(body.data).toBeUndefined();
    expect(body.errors?.[0]?.extensions).toMatchObject({ code: 'UNAUTHENTICATED', fix: expect.any(String) });
  });

  test('without a key only public fields answer', async () => {
    const { graphqlUrl } = await startServer();
    const ask = async (query: string) => {
      const url = `${graphqlUrl}?query=${encodeURIComponent(query)}`;
      const response = await fetch(url, { headers: { accept: 'application/graphql-response+json' } });
      return { status: response.status, body: JSON.parse(await response.text()) };
    };
    expect((await ask('{ health { ready version } }')).body).toEqual({
      data: { health: { ready: true, version: '0.0.0-test' } },
    });
    const refused = await ask('{ me { isOperator } }');
    expect(refused.status).toBe(401);
    expect(refused.body.errors[0].extensions.code).toBe('UNAUTHENTICATED');
  });
});

describe('errors', () => {
  test('an unknown failure is masked, and logged with the request id', async () => {
    const services = {
      tenants: {
        ...fakeServices().tenants,
        getMany: async () => {
          throw new Error('password of the database is hunter2');
        },
      },
    };
    const { query, logs } = await startServer({ services });
    const answer = await query(ME, { 'x-request-id': 'trace-0002' });
    expect(JSON.stringify(answer.body)).not.toContain('hunter2');
    expect(answer.body.errors).toEqual([
      {
        message: 'An unexpected error happened.',
        locations: [{ line: 1, column: 26 }],
        path: ['me', 'tenant'],
        extensions: { code: 'INTERNAL', fix: expect.any(String), requestId: 'trace-0002' },
      },
    ]);
    expect(JSON.stringify(logs.filter((line) => line.requestId === 'trace-0002'))).toContain('hunter2');
  });

  test('a domain error keeps its code, fix, field and facts', async () => {
    const usage = {
      ...fakeServices().usage,
      summary: async () => {
        throw new PatchbayError('FORBIDDEN', 'Not yours.', {
          field: 'tenant',
          meta: { scope: 'usage:read' },
        });
      },
    };
    const { query } = await startServer({ services: { usage } });
    const { body } = await query({
      query: '{ usage(from: "2026-01-01T00:00:00Z", to: "2026-01-02T00:00:00Z") { from } }',
    });
    expect(body.errors?.[0]?.extensions).toEqual({
      code: 'FORBIDDEN',
      fix: 'Use a key with the needed scope.',
      field: 'tenant',
      meta: { scope: 'usage:read' },
      requestId: expect.any(String),
    });
  });

  test.each([
    ['{', 'GRAPHQL_SYNTAX'],
    ['{ nope }', 'GRAPHQL_INVALID'],
    ['query A { health { ready } } query B { health { ready } }', 'GRAPHQL_INVALID'],
    ['query ($id: ID!) { node(id: $id) { id } }', 'BAD_INPUT'],
    ['{ request(id: "not a uuid") { id } }', 'GRAPHQL_INVALID'],
    ['{ tenants(first: 101) { pageInfo { endCursor } } }', 'BAD_INPUT'],
    ['{ tenants(after: "!") { pageInfo { endCursor } } }', 'BAD_INPUT'],
    ['subscription { adapterVersionState(upload: "x") { state } }', 'BAD_INPUT'],
  ])('%s is answered with %s and a fix', async (text, code) => {
    const { query } = await startServer();
    const { body } = await query({ query: text });
    expect(body.errors?.[0]?.extensions).toMatchObject({ code, fix: expect.any(String) });
  });

  test('the media type decides between a plain 200 and a telling status', async () => {
    const { query } = await startServer();
    const telling = { accept: 'application/graphql-response+json' };
    expect((await query({ query: '{ nope }' })).status).toBe(200);
    expect((await query({ query: '{ nope }' }, telling)).status).toBe(400);
    expect((await query(ME, telling)).status).toBe(200);
  });
});

describe('limits', () => {
  const deep = `{ adapter(name: "a") { ${'latestVersion { adapter { '.repeat(8)} id ${'} }'.repeat(8)} } }`;
  const wide = `{ ${Array.from({ length: 25 }, (_, index) => `a${index}: health { ready }`).join(' ')} }`;
  const directives = `{ health { ready ${'@include(if: true) '.repeat(1)} } ${Array.from({ length: 22 }, () => 'health { ready @include(if: true) }').join(' ')} }`;
  const tokens = `{ ${'health { ready } '.repeat(1_000)} }`;
  const cost = `{ adapters(first: 100) { edges { node { versions(first: 100) { edges { node { id uuid } } } } } } }`;

  test.each([
    ['depth', deep],
    ['aliases', wide],
    ['directives', directives],
    ['tokens', tokens],
    ['cost', cost],
  ])('%s is bounded', async (_what, text) => {
    const { query } = await startServer();
    const { body } = await query({ query: text });
    expect(body.data).toBeUndefined();
    expect(body.errors?.[0]?.extensions).toMatchObject({
      code: 'QUERY_TOO_COMPLEX',
      fix: 'Ask for less in one operation.',
    });
  });

  test('a page size in a variable counts like one in the text', async () => {
    const { query } = await startServer();
    const text = `query ($n: Int) { adapters(first: $n) { edges { node { versions(first: $n) { edges { node { id } } } } } } }`;
    const small = await query({ query: text, variables: { n: 2 } });
    expect(small.body.errors).toBeUndefined();
    const large = await query({ query: text, variables: { n: 100 } });
    expect(large.body.errors?.[0]?.extensions.code).toBe('QUERY_TOO_COMPLEX');
  });

  test('the length of the document and of the variables is bounded', async () => {
    const { query } = await startServer({ options: { operations: { variablesCharsMax: 100 } } });
    const long = await query({ query: `# ${'x'.repeat(40_000)}\n{ health { ready } }` });
    expect(long.body.errors?.[0]?.extensions.code).toBe('QUERY_TOO_COMPLEX');
    const variables = await query({ ...ME, variables: { a: 'x'.repeat(100) } });
    expect(variables.body.errors?.[0]?.extensions.code).toBe('QUERY_TOO_COMPLEX');
  });

  test('a body over the limit is a 413 in the shape of GraphQL', async () => {
    const { query } = await startServer({ options: { bodyBytesMax: 1_000 } });
    const { status, body } = await query({ query: '{ health { ready } }', pad: 'x'.repeat(1_000) });
    expect(status).toBe(413);
    expect(body.errors?.[0]?.extensions).toMatchObject({
      code: 'REQUEST_TOO_LARGE',
      requestId: expect.stringMatching(UUID_V7),
    });
  });

  test('batches are refused', async () => {
    const { query } = await startServer();
    const { status, body } = await query([
      { query: '{ health { ready } }' },
      { query: '{ health { ready } }' },
    ]);
    expect(status).toBe(400);
    expect(body.errors?.[0]?.extensions.code).toBe('BAD_INPUT');
  });

  test('anything but JSON is a 415, so that no form or plain text of another site is taken', async () => {
    const { query } = await startServer();
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
    ]) {
      const { status, body } = await query('{"query":"{ health { ready } }"}', { 'content-type': type });
      expect(status).toBe(415);
      expect(body.errors?.[0]?.extensions.code).toBe('BAD_INPUT');
    }
  });

  test('mutations by GET are refused', async () => {
    const { graphqlUrl } = await startServer();
    const text = 'mutation { revokeApiKey(input: { id: "x" }) { userErrors { code } } }';
    const response = await fetch(`${graphqlUrl}?query=${encodeURIComponent(text)}`, {
      headers: { authorization: TOKEN },
    });
    expect(response.status).toBe(405);
  });
});

describe('introspection', () => {
  const INTROSPECT = { query: '{ __schema { queryType { name } } }' };

  test('is on by default', async () => {
    const { query } = await startServer();
    expect((await query(INTROSPECT)).body.data).toEqual({ __schema: { queryType: { name: 'Query' } } });
  });

  test('can be off, and then no error suggests a field', async () => {
    const { query } = await startServer({ options: { introspection: 'off' } });
    expect((await query(INTROSPECT)).body.errors?.[0]?.extensions.code).toBe('GRAPHQL_INVALID');
    const misspelt = await query({ query: '{ healt { ready } }' });
    expect(misspelt.body.errors?.[0]?.message).toBe('Cannot query field "healt" on type "Query".');
  });
});

describe('the server', () => {
  test('tells liveness and readiness apart, and is not ready while it drains', async () => {
    let healthy = false;
    const { url, server } = await startServer({ deps: { ready: () => healthy } });
    const status = async (path: string) => (await fetch(url + path)).status;
    expect(await status('/healthz')).toBe(200);
    expect(await status('/readyz')).toBe(503);
    healthy = true;
    expect(await status('/readyz')).toBe(200);
    server.drain();
    expect(await status('/readyz')).toBe(503);
    expect(await status('/healthz')).toBe(200);
  });

  test('names the port when it is taken', async () => {
    const first = await startServer();
    const port = Number(new URL(first.url).port);
    await expect(startServer({ options: { port } })).rejects.toMatchObject({
      code: 'PORT_IN_USE',
      meta: { port },
    });
    await expect(requireFreePort({ host: '127.0.0.1', port })).rejects.toMatchObject({ code: 'PORT_IN_USE' });
    await first.server.close();
    await expect(requireFreePort({ host: '127.0.0.1', port })).resolves.toBeUndefined();
  });

  test('loads each tenant once for an operation', async () => {
    let reads = 0;
    const tenants = {
      ...fakeServices().tenants,
      getMany: async (principal: unknown, ids: readonly string[]) => {
        reads += 1;
        expect(principal).toBe(PRINCIPAL);
        expect(ids).toEqual([TENANT_ID]);
        return [];
      },
    };
    const { query } = await startServer({ services: { tenants } });
    await query({ query: '{ me { tenant { id } } b: me { tenant { id } } }' });
    expect(reads).toBe(1);
  });
});

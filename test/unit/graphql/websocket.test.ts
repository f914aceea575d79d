import { describe, expect, test } from 'vitest';
import { DEFAULT_WEBSOCKET_LIMITS } from '../../../src/http/websocket.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { FakeKeys, KEY_ID, OPERATOR_TOKEN, TOKEN } from './fakes.ts';
import { INFER, inferInput, startServer, WireClient } from './server.ts';

const HEALTH = '{ health { ready } }';

describe('a connection', () => {
  test('is authenticated by its connection_init', async () => {
    const { graphqlUrl } = await startServer();
    const client = await new WireClient(graphqlUrl).init();
    client.subscribe('1', '{ me { isOperator } }');
    expect(await client.next('1')).toMatchObject({
      type: 'next',
      payload: { data: { me: { isOperator: false } }, extensions: { requestId: expect.any(String) } },
    });
    expect(await client.next('1')).toEqual({ id: '1', type: 'complete' });
  });

  test('is authenticated by its HTTP header when connection_init carries no key', async () => {
    const { graphqlUrl } = await startServer();
    const client = new WireClient(graphqlUrl, { headers: { authorization: OPERATOR_TOKEN } });
    await client.open();
    client.send({ type: 'connection_init' });
    await client.take(({ type }) => type === 'connection_ack');
    client.subscribe('1', '{ me { isOperator } }');
    expect((await client.next('1')).payload?.data).toEqual({ me: { isOperator: true } });
  });

  test.each(['Bearer nonsense', ''])('is closed with 4401 when its key is %j', async (authorization) => {
    const { graphqlUrl } = await startServer();
    const client = await new WireClient(graphqlUrl).open();
    client.send({ type: 'connection_init', payload: { authorization } });
    expect(await client.closed).toEqual({ code: 4401, reason: 'Unauthorized' });
  });

  test('is closed with 4401 when it subscribes before it is acknowledged', async () => {
    const { graphqlUrl } = await startServer();
    const client = await new WireClient(graphqlUrl).open();
    client.subscribe('1', HEALTH);
    expect((await client.closed).code).toBe(4401);
  });

  test('is closed with 4408 when connection_init does not come in time', async () => {
    const { graphqlUrl } = await startServer({ options: { websocket: { initMsMax: 30 } } });
    const client = await new WireClient(graphqlUrl).open();
    expect((await client.closed).code).toBe(4408);
  });

  test('is refused without the subprotocol', async () => {
    const { graphqlUrl } = await startServer();
    const client = new WireClient(graphqlUrl, { protocol: 'graphql-ws' });
    await expect(client.open()).rejects.toThrow(/subprotocol/i);
  });

  test('is closed with 1009 when a message is too large', async () => {
    const { graphqlUrl } = await startServer({ options: { websocket: { messageBytesMax: 1_000 } } });
    const client = await new WireClient(graphqlUrl).init();
    client.subscribe('1', HEALTH, { pad: 'x'.repeat(1_000) });
    expect((await client.closed).code).toBe(1009);
  });

  test('is closed with 4452 when nothing runs on it for long, but not while something does', async () => {
    const time = { ms: 0 };
    const { graphqlUrl, inference } = await startServer({
      options: { websocket: { idleMsMax: 1_000, pingIntervalMs: 200 } },
      deps: { clock: { nowMs: () => Date.now(), monotonicMs: () => time.ms } },
    });
    const idle = await new WireClient(graphqlUrl).init();
    const busy = await new WireClient(graphqlUrl).init();
    busy.subscribe('1', INFER, inferInput());
    await expect.poll(() => inference.runs.length).toBe(1);
    time.ms += 1_000;
    expect((await idle.closed).code).toBe(4452);
    inference.last.end();
    expect((await busy.next('1')).type).toBe('complete');
    time.ms += 1_000;
    expect((await busy.closed).code).toBe(4452);
  });

  test('is cut when its peer answers no ping', async () => {
    const { graphqlUrl, server, inference } = await startServer({
      options: { websocket: { pingIntervalMs: 300 } },
    });
    const client = await new WireClient(graphqlUrl).init();
    client.subscribe('1', INFER, inferInput());
    await expect.poll(() => inference.runs.length).toBe(1);
    client.socket.pause();
    await inference.last.returned;
    expect(server.socketCount).toBe(0);
  });

  test('is refused by HTTP when there are as many sockets as there may be, and on other paths', async () => {
    const { graphqlUrl, url } = await startServer({ options: { websocket: { socketsMax: 1 } } });
    await new WireClient(graphqlUrl).init();
    await expect(new WireClient(graphqlUrl).open()).rejects.toThrow('503');
    await expect(new WireClient(`${url}/elsewhere`).open()).rejects.toThrow('404');
  });
});

describe('a key that is no longer valid', () => {
  test('closes its sockets at once with 4451 and ends their streams, and leaves other keys alone', async () => {
    const { graphqlUrl, inference, revoke } = await startServer();
    const client = await new WireClient(graphqlUrl).init();
    const other = await new WireClient(graphqlUrl).init(OPERATOR_TOKEN);
    client.subscribe('1', INFER, inferInput());
    await expect.poll(() => inference.runs.length).toBe(1);
    revoke(KEY_ID);
    await inference.last.returned;
    expect((await client.closed).code).toBe(4451);
    other.subscribe('1', HEALTH);
    expect((await other.next('1')).type).toBe('next');
  });

  test('is found out without notice, within a second', async () => {
    const { graphqlUrl, keys } = await startServer();
    const client = await new WireClient(graphqlUrl).init();
    const other = await new WireClient(graphqlUrl).init(OPERATOR_TOKEN);
    keys.revoked.add(TOKEN);
    expect((await client.closed).code).toBe(4451);
    expect(DEFAULT_WEBSOCKET_LIMITS.revalidateMs).toBeLessThanOrEqual(500);
    other.subscribe('1', HEALTH);
    expect((await other.next('1')).type).toBe('next');
  });

  test('is asked about at once when a notification may have been missed', async () => {
    const { graphqlUrl, keys, missRevocations } = await startServer({
      options: { websocket: { revalidateMs: 1_000_000 } },
    });
    const client = await new WireClient(graphqlUrl).init();
    const other = await new WireClient(graphqlUrl).init(OPERATOR_TOKEN);
    keys.revoked.add(TOKEN);
    missRevocations();
    expect((await client.closed).code).toBe(4451);
    other.subscribe('1', HEALTH);
    expect((await other.next('1')).type).toBe('next');
  });

  test('is not assumed when the database does not answer', async () => {
    const keys = new FakeKeys();
    let failures = 0;
    const authenticate = async (authorization: string | undefined) => {
      const principal = await keys.authenticate(authorization);
      // The first call opens the connection; the others are the checks.
      if (keys.calls === 1) return principal;
      failures += 1;
      throw new PatchbayError('DATABASE_UNAVAILABLE', 'No answer.');
    };
    const { graphqlUrl } = await startServer({
      options: { websocket: { revalidateMs: 5 } },
      deps: { authenticate },
    });
    const client = await new WireClient(graphqlUrl).init();
    await expect.poll(() => failures).toBeGreaterThan(3);
    client.subscribe('1', HEALTH);
    expect((await client.next('1')).type).toBe('next');
  });
});

describe('the limits', () => {
  const deep = `{ adapter(name: "a") { ${'latestVersion { adapter { '.repeat(8)} id ${'} }'.repeat(8)} } }`;
  const wide = `{ ${Array.from({ length: 25 }, (_, index) => `a${index}: health { ready }`).join(' ')} }`;
  const directives = `{ ${Array.from({ length: 22 }, () => 'health { ready @include(if: true) }').join(' ')} }`;
  const tokens = `{ ${'health { ready } '.repeat(1_000)} }`;
  const cost = `{ adapters(first: 100) { edges { node { versions(first: 100) { edges { node { id uuid } } } } } } }`;

  test.each([
    ['depth', deep, {}],
    ['aliases', wide, {}],
    ['directives', directives, {}],
    ['tokens', tokens, {}],
    ['cost', cost, {}],
    ['document length', `# ${'x'.repeat(40_000)}\n${HEALTH}`, {}],
    ['variables length', HEALTH, { pad: 'x'.repeat(600_000) }],
  ])('of %s is that of HTTP', async (_what, text, variables) => {
    const { graphqlUrl } = await startServer();
    const client = await new WireClient(graphqlUrl).init();
    client.subscribe('1', text, variables);
    expect(await client.next('1')).toMatchObject({
      type: 'error',
      payload: [{ extensions: { code: 'QUERY_TOO_COMPLEX', requestId: expect.any(String) } }],
    });
    client.subscribe('2', HEALTH);
    expect((await client.next('2')).type).toBe('next');
  });

  test.each([
    ['{', 'GRAPHQL_SYNTAX'],
    ['{ nope }', 'GRAPHQL_INVALID'],
    ['query A { health { ready } } query B { health { ready } }', 'GRAPHQL_INVALID'],
  ])('a document like %s is answered with %s', async (text, code) => {
    const { graphqlUrl } = await startServer();
    const client = await new WireClient(graphqlUrl).init();
    client.subscribe('1', text);
    expect(await client.next('1')).toMatchObject({ type: 'error', payload: [{ extensions: { code } }] });
  });

  test('introspection follows the policy', async () => {
    const { graphqlUrl } = await startServer({ options: { introspection: 'off' } });
    const client = await new WireClient(graphqlUrl).init();
    client.subscribe('1', '{ __schema { queryType { name } } }');
    expect((await client.next('1')).payload?.[0]?.extensions.code).toBe('GRAPHQL_INVALID');
  });

  test('operations on one socket are bounded, and an ended one makes room', async () => {
    const { graphqlUrl, inference } = await startServer({
      options: { websocket: { operationsPerSocketMax: 2 } },
    });
    const client = await new WireClient(graphqlUrl).init();
    client.subscribe('1', INFER, inferInput());
    client.subscribe('2', INFER, inferInput());
    client.subscribe('3', INFER, inferInput());
    expect(await client.next('3')).toMatchObject({
      type: 'error',
      payload: [{ extensions: { code: 'TOO_MANY_OPERATIONS' } }],
    });
    await expect.poll(() => inference.runs.length).toBe(2);
    inference.last.end();
    await client.take(({ type }) => type === 'complete');
    client.subscribe('4', HEALTH);
    expect((await client.next('4')).type).toBe('next');
  });
});

describe('draining', () => {
  test('closes idle sockets, lets streams end, and admits nothing', async () => {
    const { graphqlUrl, server, inference } = await startServer();
    const idle = await new WireClient(graphqlUrl).init();
    const busy = await new WireClient(graphqlUrl).init();
    busy.subscribe('1', INFER, inferInput());
    await expect.poll(() => inference.runs.length).toBe(1);
    server.drain();
    expect((await idle.closed).code).toBe(1001);
    await expect(new WireClient(graphqlUrl).open()).rejects.toThrow('503');
    busy.subscribe('2', HEALTH);
    expect((await busy.next('2')).payload?.[0]?.extensions.code).toBe('SHUTTING_DOWN');
    inference.last.end();
    expect((await busy.next('1')).type).toBe('complete');
    expect((await busy.closed).code).toBe(1001);
  });

  test('closing ends the streams that are left', async () => {
    const { graphqlUrl, server, inference } = await startServer();
    const client = await new WireClient(graphqlUrl).init();
    client.subscribe('1', INFER, inferInput());
    await expect.poll(() => inference.runs.length).toBe(1);
    const closing = server.close();
    await inference.last.returned;
    expect((await client.closed).code).toBe(1001);
    await closing;
    expect(server.socketCount).toBe(0);
  });
});

import { request } from 'node:http';
import { describe, expect, test } from 'vitest';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { endEvent, KEY_ID, REQUEST_ID, startedEvent, TOKEN, tokensEvent } from './fakes.ts';
import { INFER, inferInput, startServer, type TestServer } from './server.ts';

const HEADERS = { 'content-type': 'application/json', accept: 'text/event-stream', authorization: TOKEN };

/** Posts an operation and gives its answer as soon as it begins. */
async function post(server: TestServer, body: object, headers: Record<string, string> = {}) {
  const abort = new AbortController();
  const response = await fetch(server.graphqlUrl, {
    method: 'POST',
    headers: { ...HEADERS, ...headers },
    body: JSON.stringify(body),
    signal: abort.signal,
  });
  return { response, abort };
}

const infer = { query: INFER, variables: inferInput() };

describe('a stream over plain HTTP', () => {
  test('is the events of the subscription, then complete', async () => {
    const server = await startServer();
    server.inference.onRun = (run) => {
      run.push(startedEvent(), tokensEvent(0, 'hé'), endEvent());
      run.end();
    };
    const { response } = await post(server, infer, { 'x-request-id': 'trace-0003' });
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    expect(response.headers.get('x-request-id')).toBe('trace-0003');
    const events = (await response.text()).trim().split('\n\n');
    expect(events.map((event) => event.split('\n')[0])).toEqual([
      'event: next',
      'event: next',
      'event: next',
      'event: complete',
    ]);
    const data = events
      .slice(0, 3)
      .map((event) => JSON.parse(event.split('\n')[1]?.slice(6) ?? '').data.infer);
    expect(data).toMatchObject([{ requestId: REQUEST_ID }, { text: 'hé' }, { finishReason: 'STOP' }]);
    expect(server.inference.last.acknowledged).toBe(3);
  });

  test('is cancelled when the client leaves, although the engine is silent', async () => {
    const server = await startServer();
    server.inference.onRun = (run) => run.push(startedEvent());
    const { abort } = await post(server, infer);
    abort.abort();
    await server.inference.last.returned;
  });

  test('is cut when its key is revoked', async () => {
    const server = await startServer();
    server.inference.onRun = (run) => run.push(startedEvent());
    const { response } = await post(server, infer);
    server.revoke(KEY_ID);
    await server.inference.last.returned;
    await expect(response.text()).rejects.toThrow();
  });

  test('is not pulled by a client that does not read, and is cut when it does not drain', async () => {
    const server = await startServer({ options: { websocket: { drainMsMax: 200 } } });
    const pushed = 2_000;
    server.inference.onRun = (run) => {
      run.push(startedEvent());
      for (let seq = 0; seq < pushed; seq += 1) run.push(tokensEvent(seq, 'x'.repeat(65_536)));
    };
    const client = request(server.graphqlUrl, { method: 'POST', headers: HEADERS });
    client.on('error', () => {});
    const answered = new Promise((resolve) => client.once('response', resolve));
    client.end(JSON.stringify(infer));
    await answered;
    await server.inference.last.returned;
    expect(server.inference.last.acknowledged).toBeLessThan(pushed / 2);
    await expect.poll(() => server.server.socketCount).toBe(0);
    client.destroy();
  });

  test('carries queries and mutations too', async () => {
    const { response } = await post(await startServer(), { query: '{ health { ready } }' });
    expect(await response.text()).toBe(
      'event: next\ndata: {"data":{"health":{"ready":true}}}\n\nevent: complete\ndata: \n\n',
    );
  });

  test.each([
    [{ query: '{ nope }' }, {}, 400, 'GRAPHQL_INVALID'],
    [{ query: `{ ${'health { ready } '.repeat(1_000)} }` }, {}, 400, 'QUERY_TOO_COMPLEX'],
    [{ query: 5 }, {}, 400, 'BAD_INPUT'],
    [{ query: INFER, variables: {} }, {}, 400, 'BAD_INPUT'],
    [infer, { authorization: 'Bearer nonsense' }, 401, 'UNAUTHENTICATED'],
  ])('%j is refused in JSON before it begins', async (body, headers, status, code) => {
    const { response } = await post(await startServer(), body, headers);
    expect(response.status).toBe(status);
    expect(JSON.parse(await response.text())).toMatchObject({
      errors: [{ extensions: { code, requestId: response.headers.get('x-request-id') } }],
    });
  });

  test('that the service refuses is answered in JSON with its status', async () => {
    const server = await startServer();
    server.inference.refusal = new PatchbayError('ENGINE_FULL', 'Full.');
    const { response } = await post(server, infer);
    expect(response.status).toBe(429);
    expect(JSON.parse(await response.text()).errors[0].extensions.code).toBe('ENGINE_FULL');
  });

  test('that breaks ends with a masked error and no complete', async () => {
    const server = await startServer();
    const { response } = await post(server, infer);
    server.inference.last.fail(new Error('secret detail'));
    const text = await response.text();
    expect(text).toContain('"code":"INTERNAL"');
    expect(text).not.toContain('secret detail');
    expect(text).not.toContain('event: complete');
  });
});

import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { formatPlace } from '../../../src/events/place.ts';
import { purgeEvents } from '../../../src/events/purge.ts';
import { toCursor } from '../../../src/graphql/connections.ts';
import { toGlobalId } from '../../../src/graphql/ids.ts';
import type { TestKey } from '../../kit/tenancy.ts';
import { waitFor } from '../../kit/wait.ts';
import { WireClient } from '../../unit/graphql/server.ts';
import { sampleFiles } from '../adapter/kit.ts';
import { openStack, type Stack } from './stack.ts';

const FOLLOW = `subscription ($after: String, $kinds: [String!]) {
  events(after: $after, kinds: $kinds) { uuid cursor kind subject payload createdAt }
}`;
const LOOK = `query ($first: Int, $after: String, $kinds: [String!], $tenant: ID) {
  events(first: $first, after: $after, kinds: $kinds, tenant: $tenant) {
    edges { cursor node { uuid cursor kind subject payload } } pageInfo { hasNextPage endCursor }
  }
}`;

let stack: Stack;
beforeAll(async () => {
  stack = await openStack();
});
afterAll(() => stack.close());
// Those who followed in the test before have left, so that nobody's leaving is taken for somebody's absence.
beforeEach(() => waitFor(() => stack.events.watchers === 0, { what: 'earlier followers to leave' }));

/** The one value below a path of an answer. */
function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>(
    (found, name) => (typeof found === 'object' && found !== null ? Reflect.get(found, name) : undefined),
    value,
  );
}

async function tenant(scopes?: readonly string[]): Promise<{ id: string; key: TestKey }> {
  const { id } = await stack.tenancy.createTenant(`t-${randomUUID().slice(0, 8)}`);
  return { id, key: await stack.tenancy.createKey(id, scopes) };
}

const emit = (tenantId: string, n: number, kind = 'budget.threshold', subject: string | null = null) =>
  stack.registry.db.database.querySystem(`SELECT patchbay.emit_event($1, $2, $3, $4)`, [
    tenantId,
    kind,
    subject,
    JSON.stringify({ n, limitNano: '9007199254740993' }),
  ]);

/** Follows events and waits until it has begun, so that what is written from now on comes. */
async function follow(key: TestKey, variables: Record<string, unknown> = {}) {
  const client = await new WireClient(stack.graphqlUrl).init(key.header);
  const others = stack.events.watchers;
  client.subscribe('e', FOLLOW, variables);
  await waitFor(() => stack.events.watchers > others, { what: 'the subscription' });
  const next = async (): Promise<Record<string, unknown> | undefined> =>
    (await client.next('e')).payload?.data?.events;
  return { client, next };
}

const seen = async (key: TestKey, variables: Record<string, unknown> = {}) => {
  const { data } = await stack.query(key.header, LOOK, variables);
  const edges = at(data, 'events', 'edges');
  return Array.isArray(edges) ? edges.map((edge) => at(edge, 'node', 'payload', 'n')) : edges;
};

describe('over a websocket', () => {
  test('a tenant follows its own events, resumes behind any of them, and never sees another’s', async () => {
    const [one, other] = [await tenant(), await tenant()];
    const { client, next } = await follow(one.key);
    const subject = randomUUID();
    await emit(other.id, 100);
    await emit(one.id, 1, 'budget.threshold', subject);
    await emit(other.id, 101);
    await emit(one.id, 2);
    const first = await next();
    expect(first).toEqual({
      uuid: expect.any(String),
      cursor: expect.any(String),
      kind: 'budget.threshold',
      subject,
      payload: { n: 1, limitNano: '9007199254740993' },
      createdAt: expect.stringMatching(/Z$/),
    });
    expect(at(await next(), 'payload', 'n')).toBe(2);
    client.socket.terminate();
    await emit(one.id, 3);
    const resumed = await follow(one.key, { after: first?.['cursor'] });
    expect([at(await resumed.next(), 'payload', 'n'), at(await resumed.next(), 'payload', 'n')]).toEqual([
      2, 3,
    ]);
    // A cursor of another tenant's is one of an event that is not there.
    const thief = await new WireClient(stack.graphqlUrl).init(other.key.header);
    thief.subscribe('e', FOLLOW, { after: first?.['cursor'] });
    const { payload } = await thief.next('e');
    expect(JSON.stringify(payload)).toContain('EVENTS_EXPIRED');
    expect(await seen(other.key)).toEqual([101, 100]);
    expect(await seen(one.key)).toEqual([3, 2, 1]);
  });

  test('kinds are chosen, and each needs its scope', async () => {
    const one = await tenant();
    const reader = await stack.tenancy.createKey(one.id, ['adapters:read']);
    const billing = await stack.tenancy.createKey(one.id, ['billing:read']);
    const { next } = await follow(one.key, { kinds: ['invoice.finalised'] });
    const adapters = await follow(reader);
    await emit(one.id, 1);
    await emit(one.id, 2, 'adapter.state');
    await emit(one.id, 3, 'invoice.finalised');
    expect(at(await next(), 'payload', 'n')).toBe(3);
    expect(at(await adapters.next(), 'payload', 'n')).toBe(2);
    await waitFor(async () => JSON.stringify(await seen(one.key)) === '[3,2,1]', { what: 'all events' });
    expect(await seen(billing)).toEqual([3, 1]);
    expect(await seen(reader)).toEqual([2]);
    for (const [key, kinds] of [
      [reader, ['budget.threshold']],
      [billing, ['budget.threshold', 'adapter.state']],
      [await stack.tenancy.createKey(one.id, ['infer']), null],
    ] as const) {
      const refused = await stack.query(key.header, LOOK, { kinds });
      expect(refused.errors?.[0]?.extensions['code']).toBe('FORBIDDEN');
      const client = await new WireClient(stack.graphqlUrl).init(key.header);
      client.subscribe('e', FOLLOW, { kinds });
      expect(JSON.stringify(await client.next('e'))).toContain('FORBIDDEN');
    }
    const unknown = await stack.query(one.key.header, LOOK, { kinds: ['budget.treshold'] });
    expect(unknown.errors?.[0]?.extensions).toMatchObject({ code: 'BAD_INPUT', field: 'kinds.0' });
  });

  test('an adapter that becomes ready tells its owner so', async () => {
    const one = await tenant();
    const { next } = await follow(one.key);
    const version = await stack.registry.ready(one.id, 'told', sampleFiles(0.21));
    const states = [await next(), await next()];
    expect(states).toMatchObject([
      {
        kind: 'adapter.state',
        subject: version.id,
        payload: { state: 'VALIDATING', adapterId: version.adapterId },
      },
      { kind: 'adapter.state', subject: version.id, payload: { state: 'READY', number: 1 } },
    ]);
  });

  test('a client that leaves is not waited for, and nobody is asked for after the last one', async () => {
    const one = await tenant();
    const { client } = await follow(one.key);
    expect(stack.events.isPolling).toBe(true);
    client.send({ id: 'e', type: 'complete' });
    await waitFor(() => !stack.events.isPolling, { what: 'the end of polling' });
  });
});

describe('over an event stream', () => {
  test('the same events come', async () => {
    const one = await tenant();
    await emit(one.id, 1);
    await waitFor(async () => JSON.stringify(await seen(one.key)) === '[1]', { what: 'the event' });
    const { data } = await stack.query(one.key.header, LOOK);
    const controller = new AbortController();
    const response = await fetch(stack.graphqlUrl, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'text/event-stream',
        authorization: one.key.header,
      },
      body: JSON.stringify({ query: FOLLOW, variables: { after: at(data, 'events', 'edges', 0, 'cursor') } }),
      signal: controller.signal,
    });
    expect(response.headers.get('content-type')).toContain('text/event-stream');
    await emit(one.id, 2);
    let text = '';
    for await (const chunk of response.body ?? []) {
      text += Buffer.from(chunk).toString('utf8');
      if (text.includes('"n":2')) break;
    }
    expect(text).not.toContain('"n":1');
    controller.abort();
  });

  test('what is refused is said at once', async () => {
    const one = await tenant();
    const gone = toCursor(formatPlace({ transaction: 1n, position: 1n }));
    for (const [after, code, status] of [
      [gone, 'EVENTS_EXPIRED', 410],
      ['nonsense', 'BAD_INPUT', 400],
      [toCursor('1-x'), 'BAD_INPUT', 400],
    ] as const) {
      const response = await fetch(stack.graphqlUrl, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          accept: 'text/event-stream',
          authorization: one.key.header,
        },
        body: JSON.stringify({ query: FOLLOW, variables: { after } }),
      });
      expect(response.status).toBe(status);
      expect(JSON.parse(await response.text())).toMatchObject({
        errors: [{ extensions: { code, field: 'after' } }],
      });
    }
  });
});

describe('looking back', () => {
  test('pages from the newest on; a cursor is good for both directions until its event is removed', async () => {
    const one = await tenant();
    for (let n = 1; n <= 5; n += 1) await emit(one.id, n);
    await waitFor(async () => JSON.stringify(await seen(one.key)) === '[5,4,3,2,1]', { what: 'all events' });
    const { data } = await stack.query(one.key.header, LOOK, { first: 2 });
    expect(at(data, 'events', 'pageInfo', 'hasNextPage')).toBe(true);
    const after = at(data, 'events', 'pageInfo', 'endCursor');
    expect(after).toBe(at(data, 'events', 'edges', 1, 'node', 'cursor'));
    expect(await seen(one.key, { after })).toEqual([3, 2, 1]);
    const { next } = await follow(one.key, { after });
    expect(at(await next(), 'payload', 'n')).toBe(5);
    const operator = await stack.tenancy.createOperatorKey();
    expect(await seen(operator, { tenant: toGlobalId('Tenant', one.id) })).toEqual([5, 4, 3, 2, 1]);
    const other = await tenant();
    const refused = await stack.query(other.key.header, LOOK, { tenant: toGlobalId('Tenant', one.id) });
    expect(refused.errors?.[0]?.extensions).toMatchObject({ code: 'NOT_FOUND', field: 'tenant' });

    await purgeEvents(stack.registry.db.database, Date.now() + 3_600_000);
    expect(await seen(one.key)).toEqual([]);
    const client = await new WireClient(stack.graphqlUrl).init(one.key.header);
    client.subscribe('e', FOLLOW, { after });
    expect(JSON.stringify(await client.next('e'))).toContain('EVENTS_EXPIRED');
  });
});

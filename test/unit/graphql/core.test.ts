import { describe, expect, test, vi } from 'vitest';
import { UsageAccess } from '../../../src/graphql/access/usage.ts';
import { toConnection, toPageRequest } from '../../../src/graphql/connections.ts';
import { operationCost } from '../../../src/graphql/cost.ts';
import { formatGraphqlError, withUserErrors } from '../../../src/graphql/errors.ts';
import { buildSchema, GraphQLError, parse } from '../../../src/graphql/graphql-js.ts';
import { NODE_TYPES, parseGlobalId, requireGlobalId, toGlobalId } from '../../../src/graphql/ids.ts';
import { SCALARS } from '../../../src/graphql/scalars.ts';
import { readSdl } from '../../../src/graphql/schema.ts';
import { mapStream } from '../../../src/graphql/stream.ts';
import { isErrorCode } from '../../../src/kernel/codes.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { UsageService } from '../../../src/usage/service.ts';
import { PRINCIPAL } from './fakes.ts';

const UUID = '018f3c5e-7b1a-7c4e-9d2f-3a5b6c7d8e9f';

describe('a global id', () => {
  test('comes back as what it was made from', () => {
    for (const type of NODE_TYPES) {
      const key = type === 'Backbone' ? 'ab'.repeat(32) : UUID;
      expect(parseGlobalId(toGlobalId(type, key))).toEqual({ type, key });
    }
  });

  test.each([
    '',
    'x',
    UUID,
    'demo/sentiment',
    'sentiment',
    Buffer.from(`Nothing:${UUID}`).toString('base64url'),
    Buffer.from('Tenant:not-a-uuid').toString('base64url'),
    Buffer.from(`Tenant:${UUID.toUpperCase()}`).toString('base64url'),
    `${toGlobalId('Tenant', UUID)}=`,
    'x'.repeat(10_000),
  ])('is not %j', (text) => {
    expect(parseGlobalId(text)).toBeUndefined();
  });

  test('of another type is refused by the name of the argument', () => {
    expect(() => requireGlobalId('Tenant', toGlobalId('Adapter', UUID), 'tenant')).toThrow(
      expect.objectContaining({ code: 'BAD_INPUT', field: 'tenant' }),
    );
  });
});

describe('scalars', () => {
  const parseValue = (name: string, value: unknown) => SCALARS[name]?.parseValue(value);
  const serialize = (name: string, value: unknown) => SCALARS[name]?.serialize(value);

  test('big integers keep every digit both ways', () => {
    for (const value of [0n, -1n, 9_007_199_254_740_993n, 10n ** 60n]) {
      expect(serialize('BigInt', value)).toBe(value.toString());
      expect(parseValue('BigInt', value.toString())).toBe(value);
    }
    expect(parseValue('Money', 5)).toBe(5n);
  });

  test.each([2 ** 53, 1.5, '1.0', '1e3', '', ' 1', '0x10', '9'.repeat(100), null, true])(
    'a big integer is not %j',
    (value) => {
      expect(() => parseValue('BigInt', value)).toThrow(GraphQLError);
    },
  );

  test('times are UTC on the way out, and need an offset on the way in', () => {
    expect(serialize('DateTime', new Date('2026-01-31T13:00:00+01:00'))).toBe('2026-01-31T12:00:00.000Z');
    expect(parseValue('DateTime', '2026-01-31T13:00:00+01:00')).toEqual(new Date('2026-01-31T12:00:00Z'));
    for (const value of ['2026-01-31', '2026-01-31T13:00:00', '2026-02-31T99:00:00Z', 5, 'now']) {
      expect(() => parseValue('DateTime', value)).toThrow(GraphQLError);
    }
    expect(() => serialize('DateTime', new Date(Number.NaN))).toThrow(GraphQLError);
  });
});

describe('a connection', () => {
  test('hands its end cursor back as the next page', () => {
    const request = toPageRequest({ first: 2 });
    const connection = toConnection(
      { items: ['a', 'b'], hasNextPage: true },
      request,
      (item) => `key-${item}`,
    );
    expect(connection.pageInfo).toMatchObject({ hasNextPage: true, hasPreviousPage: false });
    expect(toPageRequest({ after: connection.pageInfo.endCursor })).toEqual({ first: 20, after: 'key-b' });
  });

  test.each([{ first: 0 }, { first: 101 }, { first: -1 }, { after: 'x' }, { after: '' }])(
    'refuses %j',
    (args) => {
      expect(() => toPageRequest(args)).toThrow(expect.objectContaining({ code: 'BAD_INPUT' }));
    },
  );
});

describe('the cost of an operation', () => {
  const schema = buildSchema(`
    type Query { items(first: Int = 20): ItemConnection! tags: [Tag!]! one: Item }
    type ItemConnection { edges: [ItemEdge!]! }
    type ItemEdge { node: Item! }
    type Item { id: ID! items(first: Int = 20): ItemConnection! }
    type Tag { name: String! }
  `);
  const summaries = buildSchema(readSdl());
  const usageCost = (text: string, variables = {}) => operationCost(summaries, parse(text), null, variables);
  const cost = (text: string, variables = {}) => operationCost(schema, parse(text), null, variables);

  test.each([
    ['{ one { id } }', 2],
    ['{ tags { name } }', 6],
    ['{ items(first: 3) { edges { node { id } } } }', 1 + 3 * 3],
    ['{ items { edges { node { id } } } }', 1 + 20 * 3],
    [
      '{ items(first: 2) { edges { node { items(first: 5) { edges { node { id } } } } } } }',
      1 + 2 * (2 + 16),
    ],
    ['query ($n: Int = 4) { items(first: $n) { edges { node { id } } } }', 1 + 4 * 3],
    ['query ($n: Int) { items(first: $n) { edges { node { id } } } }', 1 + 20 * 3],
    ['{ a: one { ...F } b: one { ...F } } fragment F on Item { id }', 4],
    ['{ one { ... on Item { id } ... { id } } }', 3],
  ])('of %s is %d', (text, expected) => {
    expect(cost(text)).toBe(expected);
  });

  test('counts a page size that comes in a variable', () => {
    expect(cost('query ($n: Int) { items(first: $n) { edges { node { id } } } }', { n: 50 })).toBe(151);
  });

  test('counts a fragment with long lists and with short ones for what it is each time', () => {
    const usage = (days: number) =>
      `usage(from: "2026-01-01T00:00:00Z", to: "2026-01-${days + 1}T00:00:00Z") { ...F }`;
    const fragment = 'fragment F on UsageSummary { rows { start } }';
    expect(usageCost(`{ a: ${usage(20)} b: ${usage(10)} } ${fragment}`)).toBe(2 + (1 + 20) + (1 + 10));
  });

  test.each([
    ['bucket: DAY', 31],
    ['', 31],
    ['bucket: HOUR', 30 * 24 + 1],
    ['bucket: HOUR, groupBy: ADAPTER', (30 * 24 + 1) * 5],
    ['groupBy: TENANT', 31 * 5],
  ])('of a summary by (%s) is that of its buckets and groups', (args, rows) => {
    const period = 'from: "2026-01-01T00:00:00Z", to: "2026-01-31T00:30:00Z"';
    const rowsOf = '{ rows { start totals { requests } } }';
    expect(usageCost(`{ usage(${period}, ${args}) ${rowsOf} }`)).toBe(2 + rows * 3);
    const names = 'query ($from: DateTime!, $to: DateTime!, $bucket: UsageBucket, $groupBy: UsageGroup)';
    const variables = {
      from: '2026-01-01T00:00:00Z',
      to: '2026-01-31T00:30:00Z',
      ...Object.fromEntries(args.split(', ').flatMap((arg) => (arg === '' ? [] : [arg.split(': ')]))),
    };
    const call = 'usage(from: $from, to: $to, bucket: $bucket, groupBy: $groupBy)';
    expect(usageCost(`${names} { ${call} ${rowsOf} }`, variables)).toBe(2 + rows * 3);
  });

  test('cannot be lowered below one by a page size', () => {
    for (const n of [0, -5]) expect(cost(`{ items(first: ${n}) { edges { node { id } } } }`)).toBe(4);
  });
});

test('a summary of more rows than may be answered says how to ask for fewer', async () => {
  const unread = () => Promise.reject(new Error('not read'));
  const usage = new UsageService({ database: { withTenantPg: unread, querySystem: unread } });
  const totals = {
    requests: 1n,
    promptTokens: 0n,
    cachedPromptTokens: 0n,
    completionTokens: 0n,
    computeUs: 0n,
  };
  const sums = (count: number) =>
    Array.from({ length: count }, (_, index) => ({
      ...totals,
      start: new Date(0),
      adapterId: `adapter-${index}`,
      versionId: null,
      tenantId: PRINCIPAL.tenantId,
    }));
  const read = vi.spyOn(usage, 'sums');
  const summary = (count: number, groupBy: 'ADAPTER' | null) => {
    read.mockResolvedValue(sums(count));
    return new UsageAccess({ usage }).summary(
      { ...PRINCIPAL, scopes: ['usage:read'] },
      {
        from: new Date(0),
        to: new Date(86_400_000),
        bucket: 'day',
        perspective: 'OWNER',
        groupBy,
        adapterId: null,
        tenantId: null,
      },
    );
  };
  expect((await summary(5_000, 'ADAPTER')).rows).toHaveLength(5_000);
  await expect(summary(5_001, 'ADAPTER')).rejects.toMatchObject({
    code: 'QUERY_TOO_COMPLEX',
    fix: expect.stringContaining('shorter period'),
  });
  // The database adds up, and gives no more than tells that there are too many.
  expect(read.mock.lastCall?.[3]).toEqual({ by: 'adapter', most: 5_001 });
  expect((await summary(1, null)).rows).toHaveLength(1);
  expect(read.mock.lastCall?.[3]).toEqual({ by: 'time', most: 5_001 });
});

test.each(['toString', '__proto__', 'constructor', '', undefined, 7])(
  '%j is no code of an error',
  (value) => {
    expect(isErrorCode(value)).toBe(false);
  },
);

describe('a mapped stream', () => {
  test('pulls only when it is pulled', async () => {
    let pulls = 0;
    const source = {
      [Symbol.asyncIterator]: () => ({
        next: async () => {
          pulls += 1;
          return { done: false as const, value: pulls };
        },
      }),
    };
    const mapped = mapStream(source, (value) => value * 10);
    expect(pulls).toBe(0);
    expect(await mapped.next()).toEqual({ done: false, value: 10 });
    expect(pulls).toBe(1);
  });

  test('passes return on in the same tick, although a pull is pending, and lets that pull go', async () => {
    let returned = 0;
    const source = {
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise<IteratorResult<number>>(() => {}),
        return: async () => {
          returned += 1;
          return { done: true as const, value: undefined };
        },
      }),
    };
    const mapped = mapStream(source, (value) => value);
    const pending = mapped.next();
    void mapped.return?.();
    expect(returned).toBe(1);
    expect(await pending).toEqual({ done: true, value: undefined });
    await mapped.return?.();
    expect(returned).toBe(1);
    expect(await mapped.next()).toEqual({ done: true, value: undefined });
  });

  test('fails as its source does', async () => {
    const source = {
      [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(new Error('broken')) }),
    };
    await expect(mapStream(source, (value) => value).next()).rejects.toThrow('broken');
  });
});

describe('errors', () => {
  const lines: object[] = [];
  const scope = {
    requestId: 'r-1',
    log: { error: (fields: object) => void lines.push(fields) },
    hideSuggestions: false,
  };

  test('anything unknown is masked and logged, whatever it is wrapped in', () => {
    const secret = new Error('secret');
    const wrapped = new GraphQLError('secret too', { originalError: secret, path: ['a'] });
    for (const thrown of [secret, wrapped, 'secret', new GraphQLError('secret', { path: ['a'] })]) {
      const shown = formatGraphqlError(thrown, scope);
      expect(JSON.stringify(shown)).not.toContain('secret');
      expect(shown.extensions).toMatchObject({ code: 'INTERNAL', requestId: 'r-1' });
    }
    expect(lines).toHaveLength(4);
  });

  test('expected failures of a mutation become user errors; access and bugs do not', async () => {
    const fail = (error: Error) => withUserErrors(() => Promise.reject(error));
    expect(await fail(new PatchbayError('BLEND_INVALID', 'Bad.', { field: 'adapters' }))).toMatchObject({
      userErrors: [{ code: 'BLEND_INVALID', field: 'input.adapters', meta: null }],
    });
    for (const code of ['UNAUTHENTICATED', 'FORBIDDEN', 'INTERNAL', 'DATABASE_UNAVAILABLE'] as const) {
      await expect(fail(new PatchbayError(code, 'No.'))).rejects.toMatchObject({ code });
    }
    await expect(fail(new Error('bug'))).rejects.toThrow('bug');
  });
});

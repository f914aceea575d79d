import { describe, expect, test } from 'vitest';
import { toConnection, toPageRequest } from '../../../src/graphql/connections.ts';
import { operationCost } from '../../../src/graphql/cost.ts';
import { formatGraphqlError, withUserErrors } from '../../../src/graphql/errors.ts';
import { buildSchema, GraphQLError, parse } from '../../../src/graphql/graphql-js.ts';
import { NODE_TYPES, parseGlobalId, requireGlobalId, toGlobalId } from '../../../src/graphql/ids.ts';
import { SCALARS } from '../../../src/graphql/scalars.ts';
import { mapStream } from '../../../src/graphql/stream.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';

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

  test('cannot be lowered below one by a page size', () => {
    for (const n of [0, -5]) expect(cost(`{ items(first: ${n}) { edges { node { id } } } }`)).toBe(4);
  });
});

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

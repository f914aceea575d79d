import { hash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { Accounts, accountDocument, addTo, royaltiesOf } from '../../../src/proofs/epochs/accounts.ts';
import { statementText } from '../../../src/proofs/epochs/documents.ts';
import { joinRanges, rangeText } from '../../../src/proofs/epochs/ranges.ts';
import { accountPath, treeOf } from '../../../src/proofs/epochs/tree.ts';
import { verifiesInclusion } from '../../../src/proofs/merkle/verify.ts';
import { LOG_ID } from '../../kit/log.ts';

const SUBJECT = '0192f000-0000-7000-8000-0000000000ab';
const OWNER = '0192f000-0000-7000-8000-0000000000ac';

describe('ranges of numbers', () => {
  test('are written as the specification has them', () => {
    const ranges = [21n, 15n, 13n, 14n, 16n].map((number) => ({ first: number, last: number }));
    const joined = joinRanges([...ranges, { first: 17n, last: 19n }]);
    expect(joined.map(rangeText)).toEqual(['13-19', '21']);
    expect(joinRanges([])).toEqual([]);
  });
});

describe('an account', () => {
  test('of a tenant has what is not zero, in order', () => {
    const account = new Accounts().of('tenant', SUBJECT, SUBJECT);
    account.receipts = 2n;
    account.numbers.set(3, [
      { first: 4n, last: 4n },
      { first: 1n, last: 3n },
    ]);
    for (const [currency, amount] of [
      ['USD', 5n],
      ['EUR', 7n],
      ['GBP', 0n],
      ['USD', 1n],
    ] as const)
      addTo(account.charged, currency, amount);
    for (const digest of ['bb', 'aa', 'bb']) account.documents.add(digest);
    const lanes = [
      { lane: 11, last: 2n },
      { lane: 3, last: 9n },
    ];
    expect(accountDocument(account, lanes)).toEqual({
      ...{ kind: 'tenant', subject: SUBJECT, receipts: '2' },
      ...{ promptTokens: '0', cachedPromptTokens: '0', completionTokens: '0' },
      lanes: [
        { lane: '3', last: '9', numbers: ['1-4'] },
        { lane: '11', last: '2', numbers: [] },
      ],
      charged: [
        { currency: 'EUR', amount: '7' },
        { currency: 'USD', amount: '6' },
      ],
      documents: ['aa', 'bb'],
    });
  });

  test('of a version has who earned what', () => {
    const accounts = new Accounts();
    const account = accounts.of('version', SUBJECT, OWNER);
    expect(accounts.of('version', SUBJECT, OWNER)).toBe(account);
    royaltiesOf(account, 'EUR');
    const royalties = royaltiesOf(account, 'USD');
    royalties.royalty += 10n;
    royalties.fee += 1n;
    for (const [tenant, amount] of [
      [SUBJECT, 4n],
      [OWNER, 5n],
      ['0', 0n],
    ] as const)
      addTo(royalties.earned, tenant, amount);
    expect(accountDocument(account, [])).toMatchObject({
      owner: OWNER,
      royalties: [
        {
          ...{ currency: 'USD', royalty: '10', fee: '1' },
          earned: [SUBJECT, OWNER]
            .sort()
            .map((tenant) => ({ tenant, amount: tenant === SUBJECT ? '4' : '5' })),
        },
      ],
    });
  });
});

describe('the tree of accounts', () => {
  test('proves every account of trees of every kind of size', async () => {
    for (const size of [1, 2, 3, 255, 256, 257, 700]) {
      const leaves = Array.from({ length: size }, (_, index) => hash('sha256', `leaf ${index}`, 'buffer'));
      const { root, tiles } = treeOf(leaves);
      const query = (_text: string, values: readonly unknown[]) => {
        const [, levels, indexes] = values;
        if (!Array.isArray(levels) || !Array.isArray(indexes)) throw new Error('It asks for tiles.');
        const rows = levels.map((level, place) => ({
          hashes: tiles.find((tile) => tile.level === level && tile.index === indexes[place])?.hashes,
        }));
        return Promise.resolve(JSON.parse(JSON.stringify(rows), toBuffer));
      };
      for (const index of new Set([0, 1, Math.floor(size / 2), size - 1].filter((one) => one < size))) {
        const path = await accountPath(query, 7n, index, size);
        const leaf = leaves[index] ?? new Uint8Array();
        expect(verifiesInclusion({ leaf, index, size, root, path })).toBe(true);
      }
    }
  });

  test('of nobody has the root of nothing', () => {
    expect(treeOf([])).toEqual({ root: hash('sha256', '', 'buffer'), tiles: [] });
  });
});

/** Buffers as they were. */
function toBuffer(_name: string, value: unknown): unknown {
  return typeof value === 'object' &&
    value !== null &&
    'type' in value &&
    'data' in value &&
    Array.isArray(value.data)
    ? Buffer.from(value.data)
    : value;
}

test('a statement of no account has both neighbours, or neither', () => {
  const facts = { logId: LOG_ID, epoch: 2n, kind: 'tenant', subject: SUBJECT } as const;
  expect(JSON.parse(statementText({ ...facts, absent: { before: null, after: null } }))).toEqual({
    ...{ format: 'patchbay-statement/1', log: Buffer.from(LOG_ID).toString('hex'), epoch: '2' },
    ...{ kind: 'tenant', subject: SUBJECT, present: null, absent: { before: null, after: null } },
  });
});

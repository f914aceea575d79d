import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { EMPTY_ROOT, leafHash, nodeHash } from '../../../src/proofs/merkle/hash.ts';
import { consistencyPath, inclusionPath, rootOf } from '../../../src/proofs/merkle/prove.ts';
import { splitOf, subtreesOf } from '../../../src/proofs/merkle/ranges.ts';
import { verifiesConsistency, verifiesInclusion } from '../../../src/proofs/merkle/verify.ts';
import { Definition } from './rfc6962.ts';
import { entriesOf, LeafTree } from './tree.ts';

const hex = (hash: Uint8Array | undefined) => Buffer.from(hash ?? []).toString('hex');
const bytes = (text: string) => Buffer.from(text, 'hex');

describe('against the definition of RFC 6962', () => {
  const most = 130;
  const entries = entriesOf(most);
  const tree = new LeafTree(entries);
  const defined = new Definition(entries);
  const isSame = (one: readonly Uint8Array[], other: readonly Uint8Array[]) =>
    one.length === other.length && Buffer.concat(one).equals(Buffer.concat(other));

  test('roots of all sizes from 0', async () => {
    for (let size = 0; size <= most; size += 1) {
      expect(hex(await rootOf(tree, size)), `${size}`).toBe(hex(defined.mth(size)));
    }
  });

  test('audit paths of all leaves in all sizes, which verify', async () => {
    const wrong: string[] = [];
    let checked = 0;
    for (let size = 1; size <= most; size += 1) {
      for (let index = 0; index < size; index += 1) {
        const path = await inclusionPath(tree, index, size);
        const leaf = tree.leaves[index] ?? EMPTY_ROOT;
        const claim = { leaf, index, size, root: defined.mth(size), path };
        const isRight = isSame(path, defined.path(index, size)) && verifiesInclusion(claim);
        if (!isRight) wrong.push(`${index} of ${size}`);
        checked += 1;
      }
    }
    expect(wrong).toEqual([]);
    expect(checked).toBe((most * (most + 1)) / 2);
  });

  test('consistency proofs of all pairs of sizes, which verify', async () => {
    const wrong: string[] = [];
    let checked = 0;
    for (let second = 1; second <= most; second += 1) {
      for (let first = 1; first <= second; first += 1) {
        const path = await consistencyPath(tree, first, second);
        const roots = { firstRoot: defined.mth(first), secondRoot: defined.mth(second) };
        const isRight =
          isSame(path, defined.proof(first, second)) &&
          verifiesConsistency({ first, second, ...roots, path });
        if (!isRight) wrong.push(`${first}, ${second}`);
        checked += 1;
      }
    }
    expect(wrong).toEqual([]);
    expect(checked).toBe((most * (most + 1)) / 2);
  });

  test('nothing is made for leaves and sizes that are not there', () => {
    for (const [index, size] of [
      [0, 0],
      [3, 3],
      [-1, 3],
      [Number.NaN, 3],
    ] as const) {
      expect(() => inclusionPath(tree, index, size)).toThrow(RangeError);
    }
    expect(() => consistencyPath(tree, 4, 3)).toThrow(RangeError);
    expect(() => consistencyPath(tree, -1, 3)).toThrow(RangeError);
  });
});

describe('the reference tree of certificate transparency', () => {
  const entries = [
    ...['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f'],
  ].map(bytes);
  const tree = new LeafTree(entries);
  const roots = [
    'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
    '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
    'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
    'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
    'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
    '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
    'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
    '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
  ];

  test('has the published roots', async () => {
    for (const [size, root] of roots.entries()) expect(hex(await rootOf(tree, size))).toBe(root);
  });

  test.each([
    // Index and size.
    [0, 1, []],
    [
      ...([0, 8] as const),
      [
        '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
        '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
        '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
      ],
    ],
    [
      ...([5, 8] as const),
      [
        'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
        'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
        'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
      ],
    ],
    [2, 3, ['fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125']],
    [
      ...([1, 5] as const),
      [
        '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
        '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
        'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
      ],
    ],
  ])('has the published path of leaf %i in %i', async (index, size, published) => {
    const made = await inclusionPath(tree, index, size);
    expect(made.map(hex)).toEqual(published);
    const leaf = leafHash(entries[index] ?? Buffer.of());
    const root = bytes(roots[size] ?? '');
    expect(verifiesInclusion({ leaf, index, size, root, path: published.map(bytes) })).toBe(true);
  });

  test.each([
    [1, 1, []],
    [
      ...([1, 8] as const),
      [
        '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
        '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
        '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
      ],
    ],
    [
      ...([6, 8] as const),
      [
        '0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a',
        'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
        'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
      ],
    ],
    [
      ...([2, 5] as const),
      [
        '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
        'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
      ],
    ],
  ])('has the published consistency proof from %i to %i', async (first, second, published) => {
    const made = await consistencyPath(tree, first, second);
    expect(made.map(hex)).toEqual(published);
    const firstRoot = bytes(roots[first] ?? '');
    const secondRoot = bytes(roots[second] ?? '');
    const claim = { first, firstRoot, second, secondRoot, path: published.map(bytes) };
    expect(verifiesConsistency(claim)).toBe(true);
  });
});

describe('subtrees', () => {
  test('splits are the largest powers of two below, past 32 bits too', () => {
    expect([2, 3, 4, 5, 8, 9].map(splitOf)).toEqual([1, 2, 2, 4, 4, 8]);
    expect(splitOf(2 ** 52 + 1)).toBe(2 ** 52);
    expect(splitOf(2 ** 53 - 1)).toBe(2 ** 52);
  });

  test('a range of billions of leaves is as many subtrees as its length has ones', () => {
    const size = 2 ** 40 + 2 ** 33 + 1;
    expect(subtreesOf({ start: 0, end: size })).toEqual([
      { level: 40, index: 0 },
      { level: 33, index: 2 ** 7 },
      { level: 0, index: 2 ** 40 + 2 ** 33 },
    ]);
  });

  test('a proof reads no more of a tree than a few subtrees for each of its rows', async () => {
    const size = 1_000;
    const tree = new LeafTree(entriesOf(size));
    await inclusionPath(tree, 123, size);
    expect(tree.reads).toBeLessThanOrEqual(2 * Math.ceil(Math.log2(size)));
  });
});

test('entries and nodes are hashed apart, as plain SHA-256 says', () => {
  const sha256 = (text: string) => createHash('sha256').update(bytes(text)).digest('hex');
  expect(hex(leafHash(bytes('abcd')))).toBe(sha256('00abcd'));
  const [left, right] = ['11'.repeat(32), '22'.repeat(32)];
  expect(hex(nodeHash(bytes(left), bytes(right)))).toBe(sha256(`01${left}${right}`));
});

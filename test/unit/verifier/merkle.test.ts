import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { EMPTY_ROOT, isConsistent, rootFromInclusion } from '../../../src/verifier/hashing/merkle.ts';

// A reference of its own: the definitions of RFC 6962, section 2.1, word for word.
const sha = (...parts: readonly (Buffer | string)[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};
const splitAt = (n: number): number => 2 ** Math.floor(Math.log2(n - 1));
function root(leaves: readonly Buffer[]): Buffer {
  const [first] = leaves;
  if (first === undefined) return sha('');
  if (leaves.length === 1) return first;
  const k = splitAt(leaves.length);
  return sha('\u0001', root(leaves.slice(0, k)), root(leaves.slice(k)));
}
function path(m: number, leaves: readonly Buffer[]): readonly Buffer[] {
  if (leaves.length <= 1) return [];
  const k = splitAt(leaves.length);
  return m < k
    ? [...path(m, leaves.slice(0, k)), root(leaves.slice(k))]
    : [...path(m - k, leaves.slice(k)), root(leaves.slice(0, k))];
}
function subproof(m: number, leaves: readonly Buffer[], whole: boolean): readonly Buffer[] {
  if (m === leaves.length) return whole ? [] : [root(leaves)];
  const k = splitAt(leaves.length);
  return m <= k
    ? [...subproof(m, leaves.slice(0, k), whole), root(leaves.slice(k))]
    : [...subproof(m - k, leaves.slice(k), false), root(leaves.slice(0, k))];
}
const hex = (hashes: readonly Buffer[]): readonly string[] => hashes.map((hash) => hash.toString('hex'));
const tree = (size: number): readonly Buffer[] =>
  Array.from({ length: size }, (_, index) => sha('\0', `entry ${index}`));

const SIZES = Array.from({ length: 20 }, (_, index) => index + 1);
const STRANGE = 'ab'.repeat(32);

/** A path, cut and lengthened at both ends, with two hashes exchanged and with one changed. */
function* bentPaths(right: readonly string[]): Generator<readonly string[]> {
  yield [...right, STRANGE];
  yield [STRANGE, ...right];
  if (right.length === 0) return;
  yield right.slice(1);
  yield right.slice(0, -1);
  yield [...right.slice(0, -1), STRANGE];
  if (right.length > 1) yield right.toReversed();
}

test('the trees of the certificate transparency project', () => {
  const entries = [
    '',
    '00',
    '10',
    '2021',
    '3031',
    '40414243',
    '5051525354555657',
    '606162636465666768696a6b6c6d6e6f',
  ];
  const leaves = entries.map((entry) => sha('\0', Buffer.from(entry, 'hex')));
  const known = [
    '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
    'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
    'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
    'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
    '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
    'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
    '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
  ];
  for (const [index, expected] of known.entries()) {
    const size = index + 1;
    const part = leaves.slice(0, size);
    const [leaf = ''] = hex(leaves.slice(index));
    const found = rootFromInclusion({
      leaf,
      index: BigInt(index),
      size: BigInt(size),
      path: hex(path(index, part)),
    });
    expect(found).toBe(expected);
    const trees = { firstRoot: expected, secondRoot: known[7] ?? '' };
    const proof = { first: BigInt(size), second: 8n, ...trees, path: hex(subproof(size, leaves, true)) };
    expect(isConsistent(proof)).toBe(true);
  }
});

test('inclusion: every place of every small tree, and nothing near it', () => {
  for (const size of SIZES) {
    const leaves = tree(size);
    const [wanted] = hex([root(leaves)]);
    for (const [index, leaf] of hex(leaves).entries()) {
      const right = { leaf, index: BigInt(index), size: BigInt(size), path: hex(path(index, leaves)) };
      expect(rootFromInclusion(right)).toBe(wanted);
      expect(rootFromInclusion({ ...right, leaf: STRANGE })).not.toBe(wanted);
      for (const bent of bentPaths(right.path))
        expect(rootFromInclusion({ ...right, path: bent })).not.toBe(wanted);
      for (const other of SIZES.filter((place) => place !== index)) {
        expect(rootFromInclusion({ ...right, index: BigInt(other) })).not.toBe(wanted);
      }
      // A size too small for the place, or of another height, cannot have this path; other sizes are for the signature.
      expect(rootFromInclusion({ ...right, size: BigInt(index) })).toBeNull();
      expect(rootFromInclusion({ ...right, size: BigInt(size) * 2n + 1n })).not.toBe(wanted);
    }
  }
});

test('consistency: every pair of small trees, and nothing near it', () => {
  for (const second of SIZES) {
    const leaves = tree(second);
    const [secondRoot = ''] = hex([root(leaves)]);
    for (const first of SIZES.filter((size) => size <= second)) {
      const [firstRoot = ''] = hex([root(leaves.slice(0, first))]);
      const right = {
        ...{ first: BigInt(first), second: BigInt(second), firstRoot, secondRoot },
        path: hex(subproof(first, leaves, true)),
      };
      expect(isConsistent(right)).toBe(true);
      expect(isConsistent({ ...right, firstRoot: STRANGE })).toBe(false);
      expect(isConsistent({ ...right, secondRoot: STRANGE })).toBe(false);
      for (const bent of bentPaths(right.path)) expect(isConsistent({ ...right, path: bent })).toBe(false);
      expect(isConsistent({ ...right, first: BigInt(second) + 1n })).toBe(false);
      expect(isConsistent({ ...right, second: BigInt(first) - 1n })).toBe(false);
    }
  }
});

test('the empty tree is the beginning of every tree, and has no leaf', () => {
  const [secondRoot = ''] = hex([root(tree(5))]);
  const right = { first: 0n, second: 5n, firstRoot: EMPTY_ROOT, secondRoot, path: [] };
  expect(isConsistent(right)).toBe(true);
  expect(isConsistent({ ...right, firstRoot: secondRoot })).toBe(false);
  expect(isConsistent({ ...right, path: [STRANGE] })).toBe(false);
  expect(isConsistent({ ...right, second: 0n, secondRoot: EMPTY_ROOT })).toBe(true);
  expect(rootFromInclusion({ leaf: STRANGE, index: 0n, size: 0n, path: [] })).toBeNull();
});

test('sizes of 64 bits take no longer than their path', () => {
  const size = 2n ** 64n - 1n;
  const long = Array.from({ length: 64 }, () => STRANGE);
  expect(rootFromInclusion({ leaf: STRANGE, index: 0n, size, path: long })).toMatch(/^[0-9a-f]{64}$/);
  expect(rootFromInclusion({ leaf: STRANGE, index: 0n, size, path: [] })).toBeNull();
  expect(isConsistent({ first: 1n, second: size, firstRoot: STRANGE, secondRoot: STRANGE, path: long })).toBe(
    false,
  );
});

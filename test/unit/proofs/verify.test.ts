import { describe, expect, test } from 'vitest';
import { EMPTY_ROOT } from '../../../src/proofs/merkle/hash.ts';
import {
  type ConsistencyClaim,
  type InclusionClaim,
  verifiesConsistency,
  verifiesInclusion,
} from '../../../src/proofs/merkle/verify.ts';
import { Definition } from './rfc6962.ts';
import { entriesOf, LeafTree } from './tree.ts';

// Right proofs come from the definition, and every one that is changed in any way must be refused.

const SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 21];
const entries = entriesOf(24);
const { leaves } = new LeafTree(entries);
const defined = new Definition(entries);
const rootOf = (size: number) => defined.mth(size);
const leaf = (index: number) => leaves[index] ?? EMPTY_ROOT;

/** Every list that differs from the path in one way. */
function changed(hashes: readonly Uint8Array[]): readonly (readonly Uint8Array[])[] {
  const flip = (hash: Uint8Array, at: number) => hash.map((byte, i) => (i === at ? byte ^ 0x80 : byte));
  const other = EMPTY_ROOT;
  return [
    ...hashes.flatMap((_, place) => [
      ...[0, 15, 31].map((at) => hashes.map((hash, i) => (i === place ? flip(hash, at) : hash))),
      hashes.map((hash, i) => (i === place ? hash.subarray(0, 31) : hash)),
      hashes.map((hash, i) => (i === place ? Buffer.concat([hash, Buffer.of(0)]) : hash)),
      hashes.filter((_hash, i) => i !== place),
      hashes.toSpliced(place, 0, other),
    ]),
    ...hashes.slice(1).map((hash, i) => hashes.with(i, hash).with(i + 1, hashes[i] ?? hash)),
    [...hashes, other],
    [other, ...hashes],
    [...hashes, ...hashes.slice(-1), other],
    [...hashes, new Uint8Array()],
  ];
}

const NO_COUNTS = [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53];

describe('an inclusion proof', () => {
  const claims: readonly InclusionClaim[] = SIZES.flatMap((size) =>
    Array.from({ length: size }, (_, index) => ({
      leaf: leaf(index),
      index,
      size,
      root: rootOf(size),
      path: defined.path(index, size),
    })),
  );

  test('is accepted as it is, and refused with any change of its path', () => {
    for (const claim of claims) {
      expect(verifiesInclusion(claim)).toBe(true);
      for (const other of changed(claim.path)) {
        expect(verifiesInclusion({ ...claim, path: other }), `${claim.index} of ${claim.size}`).toBe(false);
      }
    }
  });

  test('is refused for another leaf, index or root, and for another size that asks for another path', () => {
    for (const claim of claims) {
      const { index, size } = claim;
      const wrong = (change: Partial<InclusionClaim>): void => {
        const what = `${index} of ${size} as ${JSON.stringify(Object.keys(change))}`;
        expect(verifiesInclusion({ ...claim, ...change }), what).toBe(false);
      };
      wrong({ leaf: leaf(index + 1) });
      wrong({ leaf: claim.leaf.subarray(1) });
      wrong({ root: rootOf(size + 1) });
      wrong({ root: EMPTY_ROOT });
      wrong({ root: claim.root.subarray(0, 31) });
      wrong({ root: new Uint8Array() });
      for (let other = 0; other < size + 2; other += 1) if (other !== index) wrong({ index: other });
      for (let other = 0; other < 24; other += 1) {
        // Sizes in which the leaf has a path of the same form differ by what the root says, and nothing else.
        const sameForm = other > index && defined.path(index, other).length === claim.path.length;
        if (other !== size && !sameForm) wrong({ size: other });
        if (other !== size) wrong({ size: other, root: rootOf(other) });
      }
      for (const none of NO_COUNTS) {
        wrong({ index: none });
        wrong({ size: none });
      }
    }
  });

  test('is none of a tree without leaves', () => {
    expect(verifiesInclusion({ leaf: EMPTY_ROOT, index: 0, size: 0, root: EMPTY_ROOT, path: [] })).toBe(
      false,
    );
  });

  test('cannot pass a node for a leaf', () => {
    // The node above the first two leaves of four, as if the tree had two.
    const [first, second] = [defined.mth(2), defined.mth(4, 2)];
    const claim = { leaf: first, index: 0, size: 4, root: rootOf(4), path: [second] };
    expect(verifiesInclusion(claim)).toBe(false);
  });
});

describe('a consistency proof', () => {
  const claims: readonly ConsistencyClaim[] = SIZES.flatMap((second) =>
    SIZES.filter((first) => first <= second).map((first) => ({
      first,
      firstRoot: rootOf(first),
      second,
      secondRoot: rootOf(second),
      path: defined.proof(first, second),
    })),
  );

  test('is accepted as it is, and refused with any change of its path', () => {
    for (const claim of claims) {
      expect(verifiesConsistency(claim)).toBe(true);
      for (const other of changed(claim.path)) {
        expect(verifiesConsistency({ ...claim, path: other }), `${claim.first}, ${claim.second}`).toBe(false);
      }
    }
  });

  test('is refused for other roots and sizes', () => {
    for (const claim of claims) {
      const { first, second } = claim;
      const wrong = (change: Partial<ConsistencyClaim>): void => {
        const what = `${first}, ${second} as ${JSON.stringify(Object.keys(change))}`;
        expect(verifiesConsistency({ ...claim, ...change }), what).toBe(false);
      };
      wrong({ firstRoot: EMPTY_ROOT });
      wrong({ secondRoot: EMPTY_ROOT });
      wrong({ firstRoot: rootOf(first + 1) });
      wrong({ secondRoot: rootOf(second + 1) });
      wrong({ firstRoot: claim.firstRoot.subarray(0, 31) });
      wrong({ secondRoot: new Uint8Array() });
      for (const none of NO_COUNTS) {
        wrong({ first: none });
        wrong({ second: none });
      }
      if (first < second) {
        wrong({ first: second, firstRoot: claim.secondRoot, second: first, secondRoot: claim.firstRoot });
        wrong({ first: second });
        wrong({ first: 0, firstRoot: EMPTY_ROOT });
        wrong({ first: 0 });
      }
    }
  });

  test('a log of the same size is the same log', () => {
    const same = { first: 5, firstRoot: rootOf(5), second: 5, secondRoot: rootOf(5), path: [] };
    expect(verifiesConsistency(same)).toBe(true);
    expect(verifiesConsistency({ ...same, secondRoot: rootOf(6) })).toBe(false);
    expect(verifiesConsistency({ ...same, path: [EMPTY_ROOT] })).toBe(false);
  });

  test('the empty log is the beginning of every other, and of no root but its own', () => {
    const claim = { first: 0, firstRoot: EMPTY_ROOT, second: 5, secondRoot: rootOf(5), path: [] };
    expect(verifiesConsistency(claim)).toBe(true);
    expect(verifiesConsistency({ ...claim, firstRoot: rootOf(1) })).toBe(false);
    expect(verifiesConsistency({ ...claim, path: [rootOf(5)] })).toBe(false);
    const empty = { ...claim, second: 0, secondRoot: EMPTY_ROOT };
    expect(verifiesConsistency(empty)).toBe(true);
    expect(verifiesConsistency({ ...empty, firstRoot: rootOf(1), secondRoot: rootOf(1) })).toBe(false);
  });
});

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { EMPTY_ROOT } from '../../../src/proofs/merkle/hash.ts';
import { consistencyPath, inclusionPath, rootOf } from '../../../src/proofs/merkle/prove.ts';
import { verifiesConsistency, verifiesInclusion } from '../../../src/proofs/merkle/verify.ts';
import { entriesOf, LeafTree } from '../../unit/proofs/tree.ts';

const SEED = Number(process.env['PATCHBAY_TEST_SEED'] ?? 20_261_129);
const MOST = 3_000;
const tree = new LeafTree(entriesOf(MOST));
const leaf = (index: number) => tree.leaves[index] ?? EMPTY_ROOT;

/** One change of a list of hashes, which may be no change. */
const mutation = fc.record({
  kind: fc.constantFrom('flip', 'drop', 'swap', 'add', 'cut'),
  place: fc.nat(40),
  byte: fc.nat(31),
  bit: fc.nat(7),
});

function mutate(path: readonly Uint8Array[], how: typeof mutation extends fc.Arbitrary<infer T> ? T : never) {
  const { kind, byte, bit } = how;
  const place = path.length === 0 ? 0 : how.place % path.length;
  const at = path[place] ?? EMPTY_ROOT;
  if (kind === 'add') return path.toSpliced(place, 0, at);
  if (path.length === 0) return path;
  if (kind === 'drop') return path.toSpliced(place, 1);
  if (kind === 'cut') return path.with(place, at.subarray(0, byte));
  if (kind === 'flip')
    return path.with(
      place,
      at.map((old, i) => (i === byte ? old ^ (1 << bit) : old)),
    );
  const next = (place + 1) % path.length;
  return path.with(place, path[next] ?? at).with(next, at);
}

const isSame = (one: readonly Uint8Array[], other: readonly Uint8Array[]) =>
  one.length === other.length && Buffer.concat(one).equals(Buffer.concat(other));

test(`inclusion proofs verify for their leaf, size and path, and for nothing else (seed ${SEED})`, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: MOST }),
      fc.nat(),
      fc.nat(),
      mutation,
      async (size, draw, other, how) => {
        const index = draw % size;
        const [path, root] = [await inclusionPath(tree, index, size), await rootOf(tree, size)];
        const claim = { leaf: leaf(index), index, size, root, path };
        expect(verifiesInclusion(claim)).toBe(true);
        const changed = mutate(path, how);
        expect(verifiesInclusion({ ...claim, path: changed })).toBe(isSame(path, changed));
        const elsewhere = other % size;
        expect(verifiesInclusion({ ...claim, index: elsewhere })).toBe(elsewhere === index);
        expect(verifiesInclusion({ ...claim, leaf: leaf(elsewhere) })).toBe(elsewhere === index);
      },
    ),
    { seed: SEED, numRuns: 200 },
  );
});

test(`consistency proofs verify for their two trees and path, and for nothing else (seed ${SEED})`, async () => {
  await fc.assert(
    fc.asyncProperty(
      ...[fc.integer({ min: 1, max: MOST }), fc.nat(), fc.integer({ min: 1, max: MOST }), mutation],
      async (second, draw, other, how) => {
        const first = 1 + (draw % second);
        const path = await consistencyPath(tree, first, second);
        const [firstRoot, secondRoot] = [await rootOf(tree, first), await rootOf(tree, second)];
        const claim = { first, firstRoot, second, secondRoot, path };
        expect(verifiesConsistency(claim)).toBe(true);
        const changed = mutate(path, how);
        expect(verifiesConsistency({ ...claim, path: changed })).toBe(isSame(path, changed));
        const foreign = await rootOf(tree, other);
        expect(verifiesConsistency({ ...claim, secondRoot: foreign })).toBe(other === second);
        expect(verifiesConsistency({ ...claim, firstRoot: foreign })).toBe(other === first);
      },
    ),
    { seed: SEED, numRuns: 200 },
  );
});

test(`nothing that is made up verifies, and nothing makes checking throw (seed ${SEED})`, () => {
  const hash = fc.uint8Array({ minLength: 0, maxLength: 40 });
  const number = fc.oneof(fc.nat(70), fc.maxSafeInteger(), fc.double());
  fc.assert(
    fc.property(number, number, hash, hash, fc.array(hash, { maxLength: 70 }), (one, two, a, b, path) => {
      const isTrivial = Buffer.from(a).equals(Buffer.from(b));
      expect(verifiesInclusion({ leaf: a, index: one, size: two, root: b, path })).toBe(
        isTrivial && a.length === 32 && one === 0 && two === 1 && path.length === 0,
      );
      const made = { first: one, firstRoot: a, second: two, secondRoot: b, path };
      if (!isTrivial) expect(verifiesConsistency(made)).toBe(false);
    }),
    { seed: SEED, numRuns: 2_000 },
  );
});

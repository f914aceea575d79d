import { EMPTY_ROOT, HASH_BYTES, nodeHash } from './hash.ts';

// The algorithms of RFC 9162, sections 2.1.3.2 and 2.1.4.2, which say of RFC 6962's proofs how they are checked. They walk up
// from a leaf and do not split from the top, as `ranges.ts` does: proofs are made and checked by different reasoning. What is
// checked came from anywhere, so that nothing is taken for granted.

/** That a leaf hash is the leaf at the index in the tree of that size and root. */
export interface InclusionClaim {
  readonly leaf: Uint8Array;
  readonly index: number;
  readonly size: number;
  readonly root: Uint8Array;
  /** From the leaf up. */
  readonly path: readonly Uint8Array[];
}

/** That the tree of the first size and root is the beginning of the one of the second. */
export interface ConsistencyClaim {
  readonly first: number;
  readonly firstRoot: Uint8Array;
  readonly second: number;
  readonly secondRoot: Uint8Array;
  readonly path: readonly Uint8Array[];
}

/** Whether the audit path proves the claim. */
export function verifiesInclusion({ leaf, index, size, root, path }: InclusionClaim): boolean {
  if (!isCount(index) || !isCount(size) || index >= size || ![leaf, root, ...path].every(isHash))
    return false;
  let [node, last] = [index, size - 1];
  let hash = leaf;
  for (const sibling of path) {
    if (last === 0) return false;
    if (isOdd(node) || node === last) {
      hash = nodeHash(sibling, hash);
      // A node that is the last of its row has no sibling until it is a right child.
      while (!isOdd(node) && node !== 0) [node, last] = [half(node), half(last)];
    } else hash = nodeHash(hash, sibling);
    [node, last] = [half(node), half(last)];
  }
  return last === 0 && isEqual(hash, root);
}

/** Whether the consistency proof proves the claim. */
export function verifiesConsistency(claim: ConsistencyClaim): boolean {
  const { first, firstRoot, second, secondRoot, path } = claim;
  if (!isCount(first) || !isCount(second) || first > second) return false;
  if (![firstRoot, secondRoot, ...path].every(isHash)) return false;
  if (first === second) {
    return (
      path.length === 0 && isEqual(firstRoot, secondRoot) && (first > 0 || isEqual(firstRoot, EMPTY_ROOT))
    );
  }
  if (first === 0) return path.length === 0 && isEqual(firstRoot, EMPTY_ROOT);
  let [node, last] = [first - 1, second - 1];
  while (isOdd(node)) [node, last] = [half(node), half(last)];
  // An earlier tree of a power of two is a node of the later one, and whoever checks has its root.
  const [seed, ...rest] = node === 0 ? [firstRoot, ...path] : path;
  if (seed === undefined) return false;
  let [before, after] = [seed, seed];
  for (const sibling of rest) {
    if (last === 0) return false;
    if (isOdd(node) || node === last) {
      before = nodeHash(sibling, before);
      after = nodeHash(sibling, after);
      while (!isOdd(node) && node !== 0) [node, last] = [half(node), half(last)];
    } else after = nodeHash(after, sibling);
    [node, last] = [half(node), half(last)];
  }
  return last === 0 && isEqual(before, firstRoot) && isEqual(after, secondRoot);
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function isHash(bytes: Uint8Array): boolean {
  return bytes.length === HASH_BYTES;
}

function isEqual(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}

function isOdd(value: number): boolean {
  return value % 2 === 1;
}

function half(value: number): number {
  return Math.floor(value / 2);
}

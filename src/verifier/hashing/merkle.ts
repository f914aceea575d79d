import { fromHex, sha256 } from './bytes.ts';

/** The root of a tree without leaves. */
export const EMPTY_ROOT = sha256('');

/** Where a leaf is and how it leads to the root. */
export interface InclusionProof {
  readonly leaf: string;
  readonly index: bigint;
  readonly size: bigint;
  readonly path: readonly string[];
}

/** How a tree became a larger one. */
export interface ConsistencyProof {
  readonly first: bigint;
  readonly second: bigint;
  readonly firstRoot: string;
  readonly secondRoot: string;
  readonly path: readonly string[];
}

function node(left: string, right: string): string {
  return sha256(Uint8Array.of(1), fromHex(left), fromHex(right));
}

/**
 * The root to which an inclusion path leads, or null when a path of this length cannot belong to this place
 * (RFC 9162, section 2.1.3.2, which verifies what RFC 6962 defines).
 */
export function rootFromInclusion({ leaf, index, size, path }: InclusionProof): string | null {
  if (index >= size) return null;
  let place = index;
  let last = size - 1n;
  let hash = leaf;
  for (const sibling of path) {
    if (last === 0n) return null;
    if (place % 2n === 1n || place === last) {
      hash = node(sibling, hash);
      // A node at the right edge that has no sibling on its level is its own parent.
      while (place % 2n === 0n && place !== 0n) {
        place /= 2n;
        last /= 2n;
      }
    } else {
      hash = node(hash, sibling);
    }
    place /= 2n;
    last /= 2n;
  }
  return last === 0n ? hash : null;
}

/** Whether the smaller tree is a beginning of the larger one (RFC 9162, section 2.1.4.2). */
export function isConsistent(proof: ConsistencyProof): boolean {
  const { first, second, firstRoot, secondRoot, path } = proof;
  if (first > second) return false;
  if (first === 0n) return path.length === 0 && firstRoot === EMPTY_ROOT;
  if (first === second) return path.length === 0 && firstRoot === secondRoot;
  return growsInto(proof);
}

/** {@link isConsistent} for `0 < first < second`. */
function growsInto({ first, second, firstRoot, secondRoot, path }: ConsistencyProof): boolean {
  // A first tree of full height is a node of the second one, so its root begins the path without being listed.
  const [start, ...siblings] = isPowerOfTwo(first) ? [firstRoot, ...path] : path;
  if (start === undefined) return false;
  let place = first - 1n;
  let last = second - 1n;
  while (place % 2n === 1n) {
    place /= 2n;
    last /= 2n;
  }
  let [before, after] = [start, start];
  for (const sibling of siblings) {
    if (last === 0n) return false;
    if (place % 2n === 1n || place === last) {
      before = node(sibling, before);
      after = node(sibling, after);
      while (place % 2n === 0n && place !== 0n) {
        place /= 2n;
        last /= 2n;
      }
    } else {
      after = node(after, sibling);
    }
    place /= 2n;
    last /= 2n;
  }
  return last === 0n && before === firstRoot && after === secondRoot;
}

function isPowerOfTwo(value: bigint): boolean {
  return (value & (value - 1n)) === 0n;
}

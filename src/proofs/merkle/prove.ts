import { foldRight } from './hash.ts';
import { consistencyRanges, inclusionRanges, type Range, type Subtree, subtreesOf } from './ranges.ts';

/** Where the hashes of a tree are kept. */
export interface NodeReader {
  /** The roots of perfect subtrees, in the order in which they are asked for. */
  read(subtrees: readonly Subtree[]): Promise<readonly Uint8Array[]>;
}

/** The root of the tree of the first leaves. */
export async function rootOf(reader: NodeReader, size: number): Promise<Uint8Array> {
  return foldRight(await reader.read(subtreesOf({ start: 0, end: size })));
}

/** The audit path of a leaf in the tree of the first `size` leaves, from the leaf up. */
export function inclusionPath(
  reader: NodeReader,
  index: number,
  size: number,
): Promise<readonly Uint8Array[]> {
  if (!(index >= 0 && index < size)) throw new RangeError('A path needs a leaf of the tree.');
  return rootsOf(reader, inclusionRanges(index, size));
}

/** The proof that the tree of the first leaves is the beginning of that of the second. */
export function consistencyPath(
  reader: NodeReader,
  first: number,
  second: number,
): Promise<readonly Uint8Array[]> {
  if (!(first >= 0 && first <= second)) throw new RangeError('An earlier tree has no more leaves.');
  return rootsOf(reader, consistencyRanges(first, second));
}

/** All subtrees are asked for at once, so that a proof costs one question however long it is. */
async function rootsOf(reader: NodeReader, ranges: readonly Range[]): Promise<readonly Uint8Array[]> {
  const parts = ranges.map(subtreesOf);
  const hashes = await reader.read(parts.flat());
  let at = 0;
  return parts.map(({ length }) => {
    at += length;
    return foldRight(hashes.slice(at - length, at));
  });
}

/** Leaves of a tree, from one up to and without another. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** The perfect subtree of `2 ** level` leaves whose first leaf is `index * 2 ** level`. */
export interface Subtree {
  readonly level: number;
  readonly index: number;
}

// Sizes are whole numbers up to 2^53, so halves are computed and not shifted: shifts would cut them to 32 bits.

/** The largest power of two that is below the number of leaves, of which there are at least two. */
export function splitOf(leaves: number): number {
  let power = 1;
  while (power * 2 < leaves) power *= 2;
  return power;
}

/** What the audit path of a leaf consists of, from the leaf up: RFC 6962, section 2.1.1. */
export function inclusionRanges(index: number, size: number): readonly Range[] {
  const ranges: Range[] = [];
  let [start, end] = [0, size];
  while (end - start > 1) {
    const middle = start + splitOf(end - start);
    if (index < middle) {
      ranges.push({ start: middle, end });
      end = middle;
    } else {
      ranges.push({ start, end: middle });
      start = middle;
    }
  }
  return ranges.reverse();
}

/** What the proof consists of that the first leaves of a tree are those of an earlier one: section 2.1.2. */
export function consistencyRanges(first: number, second: number): readonly Range[] {
  // An empty tree is the beginning of every other, and there is nothing to show of it.
  if (first === 0) return [];
  const ranges: Range[] = [];
  let [start, end] = [0, second];
  while (end !== first) {
    const middle = start + splitOf(end - start);
    if (first <= middle) {
      ranges.push({ start: middle, end });
      end = middle;
    } else {
      ranges.push({ start, end: middle });
      start = middle;
    }
  }
  // Where the earlier tree is a whole subtree of the later one, its root is known to whoever checks.
  if (start > 0) ranges.push({ start, end });
  return ranges.reverse();
}

/** The perfect subtrees that a range of a tree's split consists of, from left to right; each is smaller than the one before. */
export function subtreesOf({ start, end }: Range): readonly Subtree[] {
  const subtrees: Subtree[] = [];
  for (let at = start; at < end; ) {
    const size = splitOf(end - at + 1);
    subtrees.push({ level: Math.log2(size), index: at / size });
    at += size;
  }
  return subtrees;
}

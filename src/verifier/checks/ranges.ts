/** Numbers from the first to the last, both of them with it. Nothing here counts one by one, as ranges can be of any size. */
export interface Range {
  readonly first: bigint;
  readonly last: bigint;
}

/** Reads `13-19` or `21`. */
export function parseRange(text: string): Range {
  const hyphen = text.indexOf('-');
  if (hyphen === -1) return { first: BigInt(text), last: BigInt(text) };
  return { first: BigInt(text.slice(0, hyphen)), last: BigInt(text.slice(hyphen + 1)) };
}

/** How many numbers there are in ranges that do not overlap. */
export function countOf(ranges: readonly Range[]): bigint {
  return ranges.reduce((count, { first, last }) => count + last - first + 1n, 0n);
}

/** Ascending ranges that do not touch, with all the numbers of the given ones. */
export function united(ranges: readonly Range[]): readonly Range[] {
  const found: Range[] = [];
  for (const { first, last } of ranges.toSorted(byFirst)) {
    const before = found.at(-1);
    if (before === undefined || first > before.last + 1n) found.push({ first, last });
    else if (last > before.last) found.splice(-1, 1, { first: before.first, last });
  }
  return found;
}

/** The numbers of the first that are not in the second. */
export function without(from: readonly Range[], taken: readonly Range[]): readonly Range[] {
  const holes = united(taken);
  const found: Range[] = [];
  let hole = 0;
  for (const { first, last } of united(from)) {
    let next = first;
    // Holes ascend as the ranges do, so that none which ended before this range is looked at again.
    while ((holes[hole]?.last ?? next) < next) hole++;
    for (let at = hole; next <= last; at++) {
      const { first: start, last: end } = holes[at] ?? { first: last + 1n, last };
      if (start > last) {
        found.push({ first: next, last });
        break;
      }
      if (start > next) found.push({ first: next, last: start - 1n });
      next = end + 1n;
    }
  }
  return found;
}

/** The numbers that both have. */
export function shared(one: readonly Range[], other: readonly Range[]): readonly Range[] {
  return without(one, without(one, other));
}

/** Whether one of ranges that ascend and do not overlap has a number. */
export function includes(ranges: readonly Range[], number: bigint): boolean {
  let [low, high] = [0, ranges.length];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if ((ranges[middle]?.last ?? number) < number) low = middle + 1;
    else high = middle;
  }
  const found = ranges[low];
  return found !== undefined && found.first <= number;
}

const MOST_SHOWN = 8;

/** Ranges as they are printed: the first of them, when there are many. */
export function rangesText(ranges: readonly Range[]): string {
  const texts = ranges
    .slice(0, MOST_SHOWN)
    .map(({ first, last }) => (first === last ? String(first) : `${first}-${last}`));
  return texts.join(', ') + (ranges.length > MOST_SHOWN ? ' …' : '');
}

function byFirst(a: Range, b: Range): number {
  return a.first < b.first ? -1 : a.first > b.first ? 1 : 0;
}

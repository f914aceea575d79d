/** Numbers of a lane, both ends among them. */
export interface NumberRange {
  readonly first: bigint;
  readonly last: bigint;
}

/** The same numbers as ascending ranges that neither overlap nor touch. */
export function joinRanges(ranges: readonly NumberRange[]): readonly NumberRange[] {
  const joined: NumberRange[] = [];
  for (const range of [...ranges].sort(byFirst)) {
    const before = joined.at(-1);
    if (before === undefined || range.first > before.last + 1n) joined.push(range);
    else if (range.last > before.last) joined[joined.length - 1] = { first: before.first, last: range.last };
  }
  return joined;
}

/** How a range is written: `13-19`, or `21` for a single number. */
export function rangeText({ first, last }: NumberRange): string {
  return first === last ? String(first) : `${first}-${last}`;
}

function byFirst(a: NumberRange, b: NumberRange): number {
  if (a.first === b.first) return 0;
  return a.first < b.first ? -1 : 1;
}

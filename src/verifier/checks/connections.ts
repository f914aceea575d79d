import type { SignedHead } from '../input/formats.ts';

/** A proof that verified: the tree of the first head is the beginning of that of the second. */
export interface Growth {
  readonly first: Pick<SignedHead, 'size' | 'root'>;
  readonly second: Pick<SignedHead, 'size' | 'root'>;
}

/** A head by what makes it one. */
export function headName({ size, root }: Pick<SignedHead, 'size' | 'root'>): string {
  return `${size}:${root}`;
}

/**
 * The heads that proofs show to be of one log with a head: those that grow, over any number of proofs, into a tree into which
 * it grows as well. That two trees have the same beginning shows nothing, as a fork has that too.
 */
export function connectedWith(
  head: Pick<SignedHead, 'size' | 'root'>,
  growths: readonly Growth[],
): ReadonlySet<string> {
  const later = edges(growths, ({ first, second }) => [headName(first), headName(second)]);
  const earlier = edges(growths, ({ first, second }) => [headName(second), headName(first)]);
  return reached(reached([headName(head)], later), earlier);
}

function edges(growths: readonly Growth[], of: (growth: Growth) => readonly [string, string]) {
  const found = new Map<string, string[]>();
  for (const growth of growths) {
    const [from, to] = of(growth);
    const known = found.get(from);
    if (known === undefined) found.set(from, [to]);
    else known.push(to);
  }
  return found;
}

function reached(starts: Iterable<string>, to: ReadonlyMap<string, readonly string[]>): ReadonlySet<string> {
  const found = new Set(starts);
  // A set goes on with what is added while it is walked through.
  for (const name of found) for (const next of to.get(name) ?? []) found.add(next);
  return found;
}

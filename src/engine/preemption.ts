import type { Capacity, Demand } from './capacity.ts';
import { CLASS_RANK } from './classes.ts';
import { cachedBy, demandOf, type Entry, heldBy, mayYieldTo, pausable, stepsLeft } from './entry.ts';

/** Who makes room. */
export interface Preemption {
  /** Running sequences that leave the step and keep their KV. */
  readonly pause: readonly Entry[];
  /** Running or paused sequences that give up their KV and read their tokens again later. */
  readonly evict: readonly Entry[];
}

/** Sequences that run, and those that were preempted and still hold KV. */
export interface Holders {
  readonly running: readonly Entry[];
  readonly paused: readonly Entry[];
}

/**
 * Chooses who makes room for a sequence: rows of less urgent classes, least urgent first, and of those the one that
 * would hold its row longest. Null if even all of them would not do.
 *
 * *Keep or recompute.* KV that nobody else needs costs nothing to keep, and reading n tokens again costs n prefill
 * tokens. So a row keeps its KV, unless the one that starts needs the memory; then those are evicted whose
 * tokens per byte are fewest, that is, whose recomputation frees memory most cheaply. That may be another paused
 * row than the one whose place is taken.
 */
export function choosePreemption(
  head: Entry,
  holders: Holders,
  capacity: Capacity,
  limits: { readonly maxPreemptions: number; readonly prefillTokensPerStep: number },
): Preemption | null {
  const rank = CLASS_RANK[head.priority];
  const yielding = holders.running
    .filter((entry) => mayYieldTo(rank, entry, limits))
    .map((entry) => ({ entry, left: stepsLeft(entry, limits.prefillTokensPerStep) }))
    .sort((a, b) => CLASS_RANK[b.entry.priority] - CLASS_RANK[a.entry.priority] || b.left - a.left)
    .map(({ entry }) => entry);
  const demand = demandOf(head);
  const placed = fewest(yielding, (victims) =>
    capacity.wouldFit([{ ...demand, kvBytes: 0 }], victims.map(pausable)),
  );
  if (placed === null) return null;
  const stopped = new Set(placed);
  const kept = holders.paused.filter((entry) => entry !== head && CLASS_RANK[entry.priority] > rank);
  const evictable = [...yielding, ...kept].sort(byRecomputation);
  const evicted = fewest(evictable, (victims) => {
    const gone = new Set(victims);
    const paused = placed.filter((entry) => !gone.has(entry)).map(pausable);
    return capacity.wouldFit([demand], [...paused, ...victims.map(givenUp)]);
  });
  if (evicted === null) return null;
  for (const entry of evicted) stopped.delete(entry);
  return { pause: [...stopped], evict: evicted };
}

/**
 * Paused sequences whose KV has to go so that a sequence fits once everything that runs has ended; without that, it and
 * they would wait for each other.
 */
export function chooseEvictions(blocked: Entry, holders: Holders, capacity: Capacity): readonly Entry[] {
  const running = holders.running.map(heldBy);
  const others = holders.paused.filter((entry) => entry !== blocked).sort(byRecomputation);
  const fits = (victims: readonly Entry[]): boolean =>
    capacity.wouldFit([demandOf(blocked)], [...running, ...victims.map(cachedBy)]);
  return fewest(others, fits) ?? [];
}

/** Tokens to read again for each byte that becomes free: fewest first. */
function byRecomputation(a: Entry, b: Entry): number {
  return a.processed / a.kvBytes - b.processed / b.kvBytes || b.key - a.key;
}

function givenUp(entry: Entry): Demand {
  return entry.state === 'running' ? heldBy(entry) : cachedBy(entry);
}

/** One that suffices alone, else the first so many that suffice together, without those that turn out needless. */
function fewest(
  candidates: readonly Entry[],
  suffices: (victims: readonly Entry[]) => boolean,
): readonly Entry[] | null {
  if (suffices([])) return [];
  for (const entry of candidates) if (suffices([entry])) return [entry];
  let chosen: Entry[] = [];
  for (const entry of candidates) {
    chosen.push(entry);
    if (!suffices(chosen)) continue;
    for (const needless of [...chosen]) {
      const without = chosen.filter((each) => each !== needless);
      if (suffices(without)) chosen = without;
    }
    return chosen;
  }
  return null;
}

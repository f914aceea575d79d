import { draw } from './workload.ts';

/** Sequences of adapter numbers, one for each request; the same for the same seed. */
export const CACHE_TRACES = {
  /** Popularity of rank r is proportional to 1 / r. */
  zipf: ({ registered, seed }, request) => zipfRank(draw(seed, request), registered),
  /** S-LoRA's law: ⌊n · u^(1/α)⌋ for u uniform in [0, 1), with α = 0.1; the first adapters are the popular ones. */
  power: ({ registered, seed }, request) => Math.floor(registered * draw(seed, request) ** 10),
  uniform: ({ registered, seed }, request) => Math.floor(draw(seed, request) * registered),
  /** Zipf, and every 5,000 requests other adapters are the popular ones. */
  shifting: ({ registered, seed }, request) =>
    (zipfRank(draw(seed, request), registered) + Math.floor(request / 5_000) * Math.floor(registered / 7)) %
    registered,
  /** Zipf whose ranks move on by one place every 50 requests. */
  drifting: ({ registered, seed }, request) =>
    (zipfRank(draw(seed, request), registered) + Math.floor(request / 50)) % registered,
  /** Zipf, and after every 2,000 requests 300 adapters that are used once, as when a tenant tries all of its own. */
  scan: ({ registered, seed }, request) => {
    const [round, place] = [Math.floor(request / 2_300), request % 2_300];
    return place < 2_000 ? zipfRank(draw(seed, request), registered) : registered + round * 300 + place;
  },
} as const satisfies Readonly<Record<string, (law: TraceLaw, request: number) => number>>;

export type CacheTraceName = keyof typeof CACHE_TRACES;

interface TraceLaw {
  readonly registered: number;
  readonly seed: number;
}

/** The first requests of a trace. */
export function cacheTrace(name: CacheTraceName, law: TraceLaw, requests: number): readonly number[] {
  const adapterOf = CACHE_TRACES[name];
  return Array.from({ length: requests }, (_, request) => adapterOf(law, request));
}

/** Rank from 0 of a draw under Zipf's law with exponent 1. */
function zipfRank(uniform: number, registered: number): number {
  const cumulative = harmonicSums(registered);
  const wanted = uniform * (cumulative.at(-1) ?? 0);
  let low = 0;
  let high = registered - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((cumulative[middle] ?? 0) <= wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

const sums: number[] = [];

/** 1, 1 + 1/2, …; kept from call to call, since every request asks. */
function harmonicSums(count: number): readonly number[] {
  if (sums.length !== count) {
    sums.length = 0;
    for (let rank = 1; rank <= count; rank++) sums.push((sums.at(-1) ?? 0) + 1 / rank);
  }
  return sums;
}

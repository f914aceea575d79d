import { chooseEvictions, type EvictionCandidate } from '../engine/eviction.ts';
import { UseLedger } from '../engine/use-ledger.ts';

/** What an adapter of a trace weighs. */
export interface TraceSizes {
  readonly bytes: (adapter: number) => number;
  readonly loadMs: (adapter: number) => number;
}

/** Says what cached adapters are worth; the engine's policy and those that it is compared with. */
export interface ReplayPolicy {
  readonly used: (adapter: number, cached: number) => void;
  readonly worth: (adapter: number, cached: number) => number;
  readonly evicted: (adapter: number, worth: number) => void;
}

export interface ReplayResult {
  /** Share of requests whose adapter was cached. */
  readonly hits: number;
  /** Time that loads took, in milliseconds. */
  readonly loadMs: number;
}

/** Replays a trace through a cache in which every requested adapter gets room at once. */
export function replay(
  trace: readonly number[],
  sizes: TraceSizes,
  capacityBytes: number,
  policy: ReplayPolicy,
): ReplayResult {
  const cached = new Set<number>();
  let used = 0;
  let hits = 0;
  let loadMs = 0;
  for (const adapter of trace) {
    if (cached.has(adapter)) hits += 1;
    else {
      loadMs += sizes.loadMs(adapter);
      const bytes = sizes.bytes(adapter);
      for (const victim of victims(cached, sizes, policy, used + bytes - capacityBytes)) {
        cached.delete(victim);
        used -= sizes.bytes(victim);
      }
      cached.add(adapter);
      used += bytes;
    }
    policy.used(adapter, cached.size);
  }
  return { hits: hits / trace.length, loadMs };
}

function victims(
  cached: ReadonlySet<number>,
  sizes: TraceSizes,
  policy: ReplayPolicy,
  missing: number,
): readonly number[] {
  if (missing <= 0) return [];
  const candidates: EvictionCandidate[] = [...cached].map((adapter) => ({
    digest: String(adapter),
    bytes: sizes.bytes(adapter),
    worth: policy.worth(adapter, cached.size),
  }));
  const chosen = (chooseEvictions(candidates, missing) ?? []).map(Number);
  for (const adapter of chosen) policy.evicted(adapter, policy.worth(adapter, cached.size));
  return chosen;
}

/** The engine's own policy. */
export function enginePolicy(sizes: TraceSizes): ReplayPolicy {
  const ledger = new UseLedger();
  return {
    used: (adapter, cached) => {
      ledger.loaded(String(adapter), sizes.loadMs(adapter));
      ledger.used(String(adapter), cached);
    },
    worth: (adapter, cached) => ledger.candidate(String(adapter), sizes.bytes(adapter), cached).worth,
    evicted: () => {},
  };
}

/** Least recently used leaves first. */
export function lruPolicy(): ReplayPolicy {
  const lastUsed = new Map<number, number>();
  let now = 0;
  return {
    used: (adapter) => lastUsed.set(adapter, ++now),
    worth: (adapter) => lastUsed.get(adapter) ?? 0,
    evicted: () => {},
  };
}

/** GreedyDual-Size-Frequency (Cherkasova 1998): inflation + uses since it came in × cost / size. */
export function gdsfPolicy(sizes: TraceSizes): ReplayPolicy {
  const uses = new Map<number, number>();
  const priority = new Map<number, number>();
  let inflation = 0;
  return {
    used: (adapter) => {
      const count = (uses.get(adapter) ?? 0) + 1;
      uses.set(adapter, count);
      priority.set(adapter, inflation + (count * sizes.loadMs(adapter)) / sizes.bytes(adapter));
    },
    worth: (adapter) => priority.get(adapter) ?? 0,
    evicted: (adapter, worth) => {
      inflation = Math.max(inflation, worth);
      uses.delete(adapter);
    },
  };
}

/**
 * The offline optimum for adapters of one size: what is needed again last leaves first (Belady 1966). It knows the
 * whole trace and, like the cache, gives every requested adapter room.
 */
export function beladyHits(trace: readonly number[], capacity: number): number {
  const next = nextUses(trace);
  const cached = new Map<number, number>();
  let hits = 0;
  trace.forEach((adapter, at) => {
    if (cached.has(adapter)) hits += 1;
    else if (cached.size >= capacity) {
      let last = { adapter: -1, at: -1 };
      for (const [each, use] of cached) if (use > last.at) last = { adapter: each, at: use };
      cached.delete(last.adapter);
    }
    cached.set(adapter, next[at] ?? Number.POSITIVE_INFINITY);
  });
  return hits / trace.length;
}

/**
 * An upper bound on the hits of any policy for adapters of any sizes, for which the optimum itself is NP-hard: keeping
 * an adapter until its next use takes bytes × requests, of which there are capacity × requests in all, spent on the
 * cheapest first, the last one in part (PFOO-L, Berger et al., SIGMETRICS 2018).
 */
export function hitsBound(trace: readonly number[], sizes: TraceSizes, capacityBytes: number): number {
  const next = nextUses(trace);
  const costs: number[] = [];
  trace.forEach((adapter, at) => {
    const use = next[at] ?? Number.POSITIVE_INFINITY;
    if (Number.isFinite(use)) costs.push(sizes.bytes(adapter) * (use - at));
  });
  let left = capacityBytes * trace.length;
  let hits = 0;
  for (const cost of costs.sort((a, b) => a - b)) {
    hits += Math.min(1, left / cost);
    left -= cost;
    if (left <= 0) break;
  }
  return hits / trace.length;
}

/** For each request, the index of the next one for the same adapter; infinite when there is none. */
function nextUses(trace: readonly number[]): readonly number[] {
  const following = new Map<number, number>();
  const next = new Array<number>(trace.length).fill(Number.POSITIVE_INFINITY);
  for (let at = trace.length - 1; at >= 0; at--) {
    const adapter = trace[at] ?? -1;
    next[at] = following.get(adapter) ?? Number.POSITIVE_INFINITY;
    following.set(adapter, at);
  }
  return next;
}

import { type EvictionCandidate, halfLife, type UseHistory, withUse, worth } from './eviction.ts';

/** Adapters whose history is remembered; about 200 bytes each, whatever is registered. */
const MAX_REMEMBERED = 16_384;
/** A load that was not measured, or took less than the clock can tell, still costs something. */
const LEAST_LOAD_MS = 0.1;

interface Known {
  readonly history: UseHistory;
  readonly loadMs: number;
}

/**
 * Remembers how adapters were used and what their loads took, for those in the cache and for the most recent of those
 * that left it. Bounded: whoever was idle longest is forgotten.
 */
export class UseLedger {
  readonly #maxRemembered: number;
  /** Least recently used first. */
  readonly #known = new Map<string, Known>();
  /** Load times of adapters that have not been used yet; bounded by the loads that the cache allows. */
  readonly #loaded = new Map<string, number>();
  #uses = 0;

  constructor(maxRemembered = MAX_REMEMBERED) {
    this.#maxRemembered = maxRemembered;
  }

  /** Notes how long a load took, in milliseconds. Two loads of one adapter average, newer ones count more. */
  loaded(digest: string, loadMs: number): void {
    const before = this.#known.get(digest);
    if (before === undefined) this.#loaded.set(digest, loadMs);
    else this.#known.set(digest, { ...before, loadMs: (before.loadMs + loadMs) / 2 });
  }

  /** Notes a use. */
  used(digest: string, residents: number): void {
    const before = this.#known.get(digest);
    const loadMs = before?.loadMs ?? this.#loaded.get(digest) ?? LEAST_LOAD_MS;
    this.#uses += 1;
    this.#loaded.delete(digest);
    this.#known.delete(digest);
    this.#known.set(digest, { history: withUse(before?.history, this.#uses, halfLife(residents)), loadMs });
    if (this.#known.size <= this.#maxRemembered) return;
    for (const idle of this.#known.keys()) {
      this.#known.delete(idle);
      break;
    }
  }

  /** An adapter was dropped without having been used; nothing of it is kept. */
  unused(digest: string): void {
    this.#loaded.delete(digest);
  }

  candidate(digest: string, bytes: number, residents: number): EvictionCandidate {
    const known = this.#known.get(digest);
    const loadMs = Math.max(LEAST_LOAD_MS, known?.loadMs ?? 0);
    const value = worth(known?.history, { loadMs, bytes }, this.#uses, halfLife(residents));
    return { digest, bytes, worth: value };
  }

  clear(): void {
    this.#known.clear();
    this.#loaded.clear();
  }
}

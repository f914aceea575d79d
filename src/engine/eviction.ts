/** How often and how recently an adapter was used, in one number that fades. */
export interface UseHistory {
  /** Uses, each halved for every half-life since; as of {@link UseHistory.at}. */
  readonly weight: number;
  /** Logical time of the last use: how many uses the cache had seen by then. */
  readonly at: number;
}

/** Uses that fade to one half, for each resident adapter; see {@link halfLife}. */
const HALF_LIVES_PER_RESIDENT = 8;
const LEAST_HALF_LIFE = 64;

/**
 * After how many uses of any adapter a use counts half. Proportional to what the cache holds: a smaller cache can only
 * use more recent knowledge. Eight turnovers were best or near it on every trace of `bench cache`; four follow a
 * shift sooner and sixteen serve a fixed popularity slightly better.
 */
export function halfLife(residents: number): number {
  return Math.max(LEAST_HALF_LIFE, HALF_LIVES_PER_RESIDENT * residents);
}

/** The history after one more use at `now`. */
export function withUse(history: UseHistory | undefined, now: number, halfLifeUses: number): UseHistory {
  return { weight: 1 + faded(history, now, halfLifeUses), at: now };
}

/**
 * What keeping an adapter is worth: expected uses × what a miss costs, for each byte. The form is GDSF's (Cherkasova,
 * HP Labs 1998), without its inflation term: here frequency ages by itself, as in LRFU (Lee et al., IEEE ToC 2001),
 * and outlives the eviction, so that an adapter which comes back is known.
 *
 * @param loadMs how long it takes to load again
 */
export function worth(
  history: UseHistory | undefined,
  cost: { readonly loadMs: number; readonly bytes: number },
  now: number,
  halfLifeUses: number,
): number {
  return (faded(history, now, halfLifeUses) * cost.loadMs) / cost.bytes;
}

function faded(history: UseHistory | undefined, now: number, halfLifeUses: number): number {
  return history === undefined ? 0 : history.weight * 2 ** ((history.at - now) / halfLifeUses);
}

/** An adapter that may be evicted: nobody holds it. */
export interface EvictionCandidate {
  readonly digest: string;
  readonly bytes: number;
  /** See {@link worth}; the least worth leave first. */
  readonly worth: number;
}

/**
 * Chooses which adapters leave the host cache: those worth least for each byte until enough bytes are free, then the
 * worthier of them are spared if the rest suffices (a large victim often makes small ones unnecessary).
 *
 * @param bytes how many bytes must become free
 * @returns digests to evict, or null when even all of them would not do
 */
export function chooseEvictions(
  candidates: readonly EvictionCandidate[],
  bytes: number,
): readonly string[] | null {
  if (bytes <= 0) return [];
  const victims: EvictionCandidate[] = [];
  let freed = 0;
  for (const candidate of candidates.toSorted((a, b) => a.worth - b.worth)) {
    if (freed >= bytes) break;
    victims.push(candidate);
    freed += candidate.bytes;
  }
  if (freed < bytes) return null;
  const needed: string[] = [];
  for (const victim of victims.reverse()) {
    if (freed - victim.bytes >= bytes) freed -= victim.bytes;
    else needed.push(victim.digest);
  }
  return needed;
}

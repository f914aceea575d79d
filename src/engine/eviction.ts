/** An adapter that may be evicted: nobody holds it. */
export interface EvictionCandidate {
  readonly digest: string;
  readonly bytes: number;
  /** Logical time of the last use; larger is more recent. */
  readonly lastUsed: number;
}

/**
 * Chooses which adapters leave the host cache: least recently used first until enough bytes are free, then the
 * more recently used of them are spared if the rest suffices (a large victim often makes small ones unnecessary).
 * Pure, so that issue B can put cost in its place and compare both on the same traces.
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
  for (const candidate of candidates.toSorted((a, b) => a.lastUsed - b.lastUsed)) {
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

import { chooseEvictions, type EvictionCandidate } from './eviction.ts';
import type { AdapterWants } from './lease-queue.ts';
import type { ResidencyMeter } from './residency.ts';
import type { PackedAdapter } from './runner.ts';
import { UseLedger } from './use-ledger.ts';

interface Resident {
  readonly adapter: PackedAdapter;
  pins: number;
}

/**
 * The packed adapters that are in memory: *residents*, whose bytes are bounded, and those that *landed* from a load
 * and have no room yet. Decides what leaves for what; tells the queue of leases where everything is.
 */
export class AdapterRoom {
  readonly #maxBytes: number;
  readonly #queue: AdapterWants;
  readonly #resident = new Map<string, Resident>();
  readonly #landed = new Map<string, PackedAdapter>();
  readonly #ledger = new UseLedger();
  readonly #residency: ResidencyMeter;
  #residentBytes = 0;
  #landedBytes = 0;

  constructor(maxBytes: number, queue: AdapterWants, residency: ResidencyMeter) {
    this.#maxBytes = maxBytes;
    this.#queue = queue;
    this.#residency = residency;
  }

  /** Bytes of everything that is in memory. */
  get bytes(): number {
    return this.#residentBytes + this.#landedBytes;
  }

  get landed(): number {
    return this.#landed.size;
  }

  residents(): readonly Readonly<Resident>[] {
    return [...this.#resident.values()];
  }

  hasLanded(digest: string): boolean {
    return this.#landed.has(digest);
  }

  /** Takes in a loaded adapter, without room yet; see {@link AdapterRoom.settle}. */
  land(adapter: PackedAdapter, loadMs: number): void {
    const { digest, bytes } = adapter;
    this.#landed.set(digest, adapter);
    this.#landedBytes += bytes;
    this.#ledger.loaded(digest, loadMs);
    this.#residency.loaded(digest, bytes, loadMs);
    this.#residency.hold('host', digest, bytes);
    this.#queue.moved(digest, 'landed');
    this.#queue.sized(digest, bytes);
  }

  /**
   * Makes landed adapters resident as far as there is room, those that are wanted first before others, and drops those
   * that have none and that nobody waits for any more.
   */
  settle(): void {
    for (const digest of this.#queue.inWantedOrder(this.#landed.keys())) this.#settleOne(digest);
  }

  /** Gives up one hold of a resident. @returns whether nobody holds it now */
  unpin(digest: string): boolean {
    const resident = this.#resident.get(digest);
    if (resident === undefined) return false;
    resident.pins -= 1;
    return resident.pins === 0;
  }

  /** Holds a resident for a use; undefined when it is none. */
  pin(digest: string): PackedAdapter | undefined {
    const resident = this.#resident.get(digest);
    if (resident === undefined) return undefined;
    resident.pins += 1;
    this.#ledger.used(digest, this.#resident.size);
    return resident.adapter;
  }

  /** Gives up the landed adapter that is wanted last and is none of the given ones; false if there is none. */
  dropLanded(except: readonly string[]): boolean {
    const others = [...this.#landed.keys()].filter((digest) => !except.includes(digest));
    const last = this.#queue.inWantedOrder(others).at(-1);
    if (last !== undefined) this.#drop(last);
    return last !== undefined;
  }

  clear(): void {
    for (const digest of [...this.#resident.keys(), ...this.#landed.keys()]) {
      this.#residency.hold('host', digest, 0);
    }
    this.#resident.clear();
    this.#landed.clear();
    this.#ledger.clear();
    this.#residentBytes = 0;
    this.#landedBytes = 0;
  }

  #settleOne(digest: string): void {
    const adapter = this.#landed.get(digest);
    if (adapter === undefined) return;
    const missing = this.#residentBytes + adapter.bytes - this.#maxBytes;
    const victims = missing <= 0 ? [] : chooseEvictions(this.#evictable(digest), missing);
    if (victims === null) {
      if (!this.#queue.isWanted(digest)) this.#drop(digest);
      return;
    }
    for (const victim of victims) this.#evict(victim);
    this.#landed.delete(digest);
    this.#landedBytes -= adapter.bytes;
    this.#resident.set(digest, { adapter, pins: 0 });
    this.#residentBytes += adapter.bytes;
    this.#queue.moved(digest, 'resident');
  }

  /** What may leave for an adapter: nothing that the first lease wanting it, or one before that, waits for. */
  #evictable(incoming: string): EvictionCandidate[] {
    const candidates: EvictionCandidate[] = [];
    for (const { adapter, pins } of this.#resident.values()) {
      if (pins > 0 || !this.#queue.wantedLater(adapter.digest, incoming)) continue;
      candidates.push(this.#ledger.candidate(adapter.digest, adapter.bytes, this.#resident.size));
    }
    return candidates;
  }

  #evict(digest: string): void {
    this.#residentBytes -= this.#resident.get(digest)?.adapter.bytes ?? 0;
    this.#resident.delete(digest);
    this.#residency.hold('host', digest, 0);
    this.#ledger.unused(digest);
    this.#queue.moved(digest, 'absent');
  }

  #drop(digest: string): void {
    this.#landedBytes -= this.#landed.get(digest)?.bytes ?? 0;
    this.#landed.delete(digest);
    this.#residency.hold('host', digest, 0);
    this.#ledger.unused(digest);
    this.#queue.moved(digest, 'absent');
  }
}

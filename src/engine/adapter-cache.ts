import { PatchbayError } from '../kernel/errors.ts';
import { deferred } from './deferred.ts';
import { chooseEvictions } from './eviction.ts';
import type { AdapterLoader, PackedAdapter } from './runner.ts';
import { TenantLoads } from './tenant-loads.ts';

export interface AdapterCacheOptions {
  /** Bound on the bytes of resident adapters. */
  readonly hostCacheBytes: number;
  /** Bound on loads: in flight, or done and waiting for room. What waits for room is beyond `hostCacheBytes`. */
  readonly maxConcurrentLoads: number;
  /** Most later leases that may be granted while the oldest one waits for room. */
  readonly maxBypass: number;
}

/** A claim on adapters. They stay in memory from when it is ready until it is released. */
export interface AdapterLease {
  /**
   * The adapters in the order asked for. Rejects with `ADAPTER_LOAD_FAILED` or `ENGINE_TOO_LARGE`; never settles
   * when the lease is released first.
   */
  readonly ready: Promise<readonly PackedAdapter[]>;
  /** Bytes that had to be loaded for this lease as its tenant sees it, see {@link TenantLoads}; 0 until it is ready. */
  readonly bytesLoaded: number;
  /** Gives the claim up, in whatever state it is; further calls do nothing. */
  release(): void;
}

export interface CachedAdapter {
  readonly digest: string;
  readonly rank: number;
  readonly bytes: number;
  readonly inUse: number;
}

interface Resident {
  readonly adapter: PackedAdapter;
  pins: number;
  lastUsed: number;
}

interface Ticket {
  readonly tenantId: string;
  readonly digests: readonly string[];
  readonly resolve: (adapters: readonly PackedAdapter[]) => void;
  readonly reject: (error: PatchbayError) => void;
  bytesLoaded: number;
  bypassed: number;
}

/**
 * Packed adapters in memory, within a byte budget, shared by everyone who uses the same digest.
 *
 * Leases are granted whole or not at all, so a blend never holds one adapter while it waits for another; what an
 * ungranted lease has gathered can be evicted for an older one, never for a younger one. So two blends can neither wait
 * for each other nor rob each other in turn, and since leases that are granted end by themselves, the oldest
 * ungranted one (the *head*) always gets its room: after `maxBypass` younger leases were granted past a head that
 * waits for room, no more are until it is.
 */
export class AdapterCache {
  readonly #options: AdapterCacheOptions;
  readonly #loader: AdapterLoader;
  readonly #resident = new Map<string, Resident>();
  /** Loads in flight. */
  readonly #loading = new Set<string>();
  /** Loaded, but without room yet. */
  readonly #landed = new Map<string, PackedAdapter>();
  /** Ungranted leases, oldest first. Bounded by the engine's queue: each belongs to one accepted sequence. */
  readonly #tickets = new Set<Ticket>();
  readonly #granted = new Set<Ticket>();
  readonly #loads: TenantLoads;
  #tick = 0;
  #residentBytes = 0;

  constructor(options: AdapterCacheOptions, deps: { readonly loader: AdapterLoader }) {
    this.#options = options;
    this.#loader = deps.loader;
    this.#loads = new TenantLoads(options);
  }

  /** Claims adapters by digest (no duplicates) for a tenant and starts to load those that are missing. */
  acquire(digests: readonly string[], tenantId: string): AdapterLease {
    const { promise, resolve, reject } = deferred<readonly PackedAdapter[]>();
    const ticket: Ticket = { tenantId, digests, resolve, reject, bytesLoaded: 0, bypassed: 0 };
    let released = false;
    this.#tickets.add(ticket);
    // A failure may come after the owner has lost interest; nobody is then left to handle the rejection.
    promise.catch(() => {});
    this.#pump();
    return {
      ready: promise,
      get bytesLoaded() {
        return ticket.bytesLoaded;
      },
      release: () => {
        if (released) return;
        released = true;
        this.#release(ticket);
      },
    };
  }

  /** Bytes of adapters in memory, including those that wait for room. */
  get bytesUsed(): number {
    let landed = 0;
    for (const adapter of this.#landed.values()) landed += adapter.bytes;
    return this.#residentBytes + landed;
  }

  residents(): CachedAdapter[] {
    return [...this.#resident.values()].map(({ adapter, pins }) => {
      return { digest: adapter.digest, rank: adapter.rank, bytes: adapter.bytes, inUse: pins };
    });
  }

  /** Forgets everything and closes the loader; leases must have been released. */
  async close(): Promise<void> {
    this.#tickets.clear();
    this.#landed.clear();
    this.#resident.clear();
    this.#residentBytes = 0;
    this.#loads.clear();
    await this.#loader.close();
  }

  #release(ticket: Ticket): void {
    // An ungranted ticket (waiting or failed) has no pins.
    if (!this.#tickets.delete(ticket) && this.#granted.delete(ticket)) {
      for (const digest of ticket.digests) {
        const resident = this.#resident.get(digest);
        if (resident === undefined) continue;
        resident.pins -= 1;
        resident.lastUsed = ++this.#tick;
      }
    }
    this.#pump();
  }

  /** Moves everything as far as it can go: landed adapters into room, leases to their owners, loads into slots. */
  #pump(): void {
    this.#refuseTooLarge();
    for (const digest of this.#wantedOrder(this.#landed.keys())) this.#settle(digest);
    this.#grant();
    this.#startLoads();
  }

  #grant(): void {
    for (const ticket of this.#tickets) {
      const head = this.#head();
      const bypasses = head !== undefined && head !== ticket && this.#waitsForRoom(head);
      if (bypasses && head.bypassed >= this.#options.maxBypass) return;
      const residents = ticket.digests.map((digest) => this.#resident.get(digest));
      if (!residents.every((resident) => resident !== undefined)) continue;
      if (bypasses) head.bypassed += 1;
      for (const resident of residents) {
        resident.pins += 1;
        resident.lastUsed = ++this.#tick;
        const { digest, bytes } = resident.adapter;
        ticket.bytesLoaded += this.#loads.use(ticket.tenantId, digest, bytes);
      }
      this.#tickets.delete(ticket);
      this.#granted.add(ticket);
      ticket.resolve(residents.map(({ adapter }) => adapter));
    }
  }

  #startLoads(): void {
    for (const ticket of this.#tickets) {
      for (const digest of ticket.digests) {
        if (this.#resident.has(digest) || this.#loading.has(digest) || this.#landed.has(digest)) continue;
        const busy = this.#loading.size + this.#landed.size >= this.#options.maxConcurrentLoads;
        // The head must be able to load even when the slots hold others' adapters that wait for room.
        if (busy && !(ticket === this.#head() && this.#dropLanded(ticket))) return;
        this.#startLoad(digest);
      }
    }
  }

  #startLoad(digest: string): void {
    this.#loading.add(digest);
    // The loader may throw at once or reject later; both mean the same.
    Promise.resolve()
      .then(() => this.#loader.load(digest))
      .then((adapter) => {
        if (adapter.digest !== digest) throw new Error(`asked for ${digest}, got ${adapter.digest}`);
        this.#loaded(digest, adapter);
      })
      .catch((cause: unknown) => {
        this.#loading.delete(digest);
        this.#fail(digest, loadFailure(cause));
      })
      .finally(() => this.#pump());
  }

  #loaded(digest: string, adapter: PackedAdapter): void {
    this.#loading.delete(digest);
    this.#landed.set(digest, adapter);
  }

  /**
   * Refuses leases whose adapters exceed the cache together. Looked at on every change and not only after a load:
   * the sizes may be known from other leases, and a head that keeps a part of what cannot fit would wait for ever.
   */
  #refuseTooLarge(): void {
    for (const ticket of this.#tickets) {
      let bytes = 0;
      for (const digest of ticket.digests) bytes += this.#known(digest)?.bytes ?? 0;
      if (bytes <= this.#options.hostCacheBytes) continue;
      this.#tickets.delete(ticket);
      ticket.reject(
        new PatchbayError('ENGINE_TOO_LARGE', 'The adapters of the request do not fit into the cache.', {
          meta: { bytes, hostCacheBytes: this.#options.hostCacheBytes },
        }),
      );
    }
  }

  /** Makes a landed adapter resident if there is room, or drops it if nobody waits for it any more. */
  #settle(digest: string): void {
    const adapter = this.#landed.get(digest);
    if (adapter === undefined) return;
    const wanted = this.#wanting(digest).length > 0;
    const missing = this.#residentBytes + adapter.bytes - this.#options.hostCacheBytes;
    const victims = wanted || missing <= 0 ? chooseEvictions(this.#evictable(digest), missing) : null;
    if (victims === null) {
      if (!wanted) this.#landed.delete(digest);
      return;
    }
    for (const victim of victims) {
      this.#residentBytes -= this.#resident.get(victim)?.adapter.bytes ?? 0;
      this.#resident.delete(victim);
    }
    this.#landed.delete(digest);
    this.#resident.set(digest, { adapter, pins: 0, lastUsed: ++this.#tick });
    this.#residentBytes += adapter.bytes;
  }

  /**
   * What may leave for an adapter: nothing that the oldest lease wanting it, or a lease older than that, waits for.
   * Without this order two blends could evict each other's parts in turn and load them again without end.
   */
  #evictable(incoming: string): { digest: string; bytes: number; lastUsed: number }[] {
    const kept = new Set<string>();
    for (const ticket of this.#tickets) {
      for (const digest of ticket.digests) kept.add(digest);
      if (ticket.digests.includes(incoming)) break;
    }
    return [...this.#resident.values()]
      .filter(({ adapter, pins }) => pins === 0 && !kept.has(adapter.digest))
      .map(({ adapter, lastUsed }) => ({ digest: adapter.digest, bytes: adapter.bytes, lastUsed }));
  }

  /** Gives up the landed adapter that is wanted last and not by the given lease; false if there is none. */
  #dropLanded(keepFor: Ticket): boolean {
    const others = this.#wantedOrder(this.#landed.keys()).filter(
      (digest) => !keepFor.digests.includes(digest),
    );
    const last = others.at(-1);
    return last !== undefined && this.#landed.delete(last);
  }

  #fail(digest: string, error: PatchbayError): void {
    for (const ticket of this.#wanting(digest)) {
      this.#tickets.delete(ticket);
      ticket.reject(error);
    }
  }

  #head(): Ticket | undefined {
    return this.#tickets.values().next().value;
  }

  #waitsForRoom(ticket: Ticket): boolean {
    return ticket.digests.some((digest) => this.#landed.has(digest));
  }

  #known(digest: string): PackedAdapter | undefined {
    return this.#resident.get(digest)?.adapter ?? this.#landed.get(digest);
  }

  #wanting(digest: string): Ticket[] {
    return [...this.#tickets].filter((ticket) => ticket.digests.includes(digest));
  }

  /** Digests by the age of the oldest lease that wants them; those that nobody wants come last. */
  #wantedOrder(digests: Iterable<string>): string[] {
    const left = new Set(digests);
    const ordered: string[] = [];
    for (const ticket of this.#tickets) {
      for (const digest of ticket.digests) if (left.delete(digest)) ordered.push(digest);
    }
    return [...ordered, ...left];
  }
}

function loadFailure(cause: unknown): PatchbayError {
  if (cause instanceof PatchbayError && cause.code === 'ADAPTER_LOAD_FAILED') return cause;
  return new PatchbayError('ADAPTER_LOAD_FAILED', 'An adapter of the request could not be loaded.', {
    cause,
  });
}

import type { Clock } from '../kernel/clock.ts';
import { invariant, PatchbayError } from '../kernel/errors.ts';
import { AdapterRoom } from './adapter-room.ts';
import { deferred } from './deferred.ts';
import { LeaseQueue, type Waiting } from './lease-queue.ts';
import { ResidencyMeter } from './residency.ts';
import type { AdapterLoader, PackedAdapter } from './runner.ts';
import { TenantLoads } from './tenant-loads.ts';

export interface AdapterCacheOptions {
  /** Bound on the bytes of resident adapters. */
  readonly hostCacheBytes: number;
  /** Bound on loads: in flight, or done and waiting for room. What waits for room is beyond `hostCacheBytes`. */
  readonly maxConcurrentLoads: number;
  /** Most later leases that may be granted past one that others hold up, see {@link AdapterCache}. */
  readonly maxBypass: number;
}

/** What the cache works with. */
export interface AdapterCacheDeps {
  readonly loader: AdapterLoader;
  readonly clock: Clock;
  /** Told of what comes into memory and leaves it; without one, nobody asks what it took. */
  readonly residency?: ResidencyMeter;
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

/** How a lease stands to others. */
export interface LeaseOptions {
  /**
   * Smaller is loaded and granted first: a deadline in milliseconds, or the rank of a class. Equal ones are served in
   * the order of arrival. 0 by default; finite.
   */
  readonly urgency?: number;
}

export interface CachedAdapter {
  readonly digest: string;
  readonly rank: number;
  readonly bytes: number;
  readonly inUse: number;
}

interface Ticket extends Waiting {
  readonly tenantId: string;
  readonly resolve: (adapters: readonly PackedAdapter[]) => void;
  readonly reject: (error: PatchbayError) => void;
  bytesLoaded: number;
}

/**
 * Packed adapters in memory, within a byte budget, shared by everyone who uses the same digest. Knows nothing of
 * adapters that are neither in memory nor waited for.
 *
 * Leases are granted whole or not at all, so a blend never holds one adapter while it waits for another; what an
 * ungranted lease has gathered can be evicted for one before it in order, never for one behind it. So two blends can
 * neither wait for each other nor rob each other in turn, and since leases that are granted end by themselves, the
 * *front*, the first in order, always gets its room.
 *
 * Bound on waiting: two leases are guarded, the front and the *eldest*, the first to have arrived. When `maxBypass`
 * leases were granted past the eldest while it lacked room or a load slot, it becomes the front, whatever arrives and
 * however urgent; and when as many were granted past the front, nobody else is while it lacks room. So with n older
 * leases one is passed at most (n + 1) × `maxBypass` times for want of room. While loads are in flight, for it or in
 * the slots that it needs, leases whose adapters are in memory go on: those waits end with the loads.
 *
 * Every operation costs the adapters in memory and a logarithm of what waits, see {@link LeaseQueue}.
 */
export class AdapterCache {
  readonly #options: AdapterCacheOptions;
  readonly #loader: AdapterLoader;
  readonly #clock: Clock;
  /** Ungranted leases. Bounded by the engine's queue: each belongs to one accepted sequence. */
  readonly #queue = new LeaseQueue<Ticket>();
  readonly #granted = new Set<Ticket>();
  readonly #room: AdapterRoom;
  readonly #loads: TenantLoads;
  /** Loads in flight. */
  #loading = 0;
  #nextNumber = 0;
  /** Whether anything changed since landed adapters were last tried for room. */
  #roomChanged = false;

  constructor(options: AdapterCacheOptions, deps: AdapterCacheDeps) {
    const { clock, residency = new ResidencyMeter(options.hostCacheBytes, clock) } = deps;
    this.#options = options;
    this.#loader = deps.loader;
    this.#clock = clock;
    this.#room = new AdapterRoom(options.hostCacheBytes, this.#queue, residency);
    this.#loads = new TenantLoads(options);
  }

  /** Claims adapters by digest (no duplicates) for a tenant and starts to load those that are missing. */
  acquire(digests: readonly string[], tenantId: string, { urgency = 0 }: LeaseOptions = {}): AdapterLease {
    const { promise, resolve, reject } = deferred<readonly PackedAdapter[]>();
    const number = this.#nextNumber++;
    const ticket: Ticket = {
      number,
      tenantId,
      digests,
      urgency,
      resolve,
      reject,
      bytesLoaded: 0,
      bypassed: 0,
    };
    let released = false;
    // A failure may come after the owner has lost interest; nobody is then left to handle the rejection.
    promise.catch(() => {});
    this.#queue.add(ticket);
    this.#refuseTooLarge([ticket]);
    this.#roomChanged ||= digests.some((digest) => this.#room.hasLanded(digest));
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
    return this.#room.bytes;
  }

  residents(): CachedAdapter[] {
    return this.#room.residents().map(({ adapter, pins }) => {
      return { digest: adapter.digest, rank: adapter.rank, bytes: adapter.bytes, inUse: pins };
    });
  }

  /** Forgets everything and closes the loader; leases must have been released. */
  async close(): Promise<void> {
    this.#queue.clear();
    this.#room.clear();
    this.#loads.clear();
    await this.#loader.close();
  }

  #release(ticket: Ticket): void {
    if (this.#queue.remove(ticket)) {
      this.#roomChanged = true;
    } else if (this.#granted.delete(ticket)) {
      for (const digest of ticket.digests) if (this.#room.unpin(digest)) this.#roomChanged = true;
    }
    this.#pump();
  }

  /** Moves everything as far as it can go: landed adapters into room, loads into slots, leases to their owners. */
  #pump(): void {
    do {
      if (this.#roomChanged) this.#room.settle();
      this.#roomChanged = false;
      this.#startLoads();
      this.#grant();
    } while (this.#roomChanged);
  }

  #grant(): void {
    for (let ticket = this.#queue.ready; ticket !== undefined; ticket = this.#queue.ready) {
      this.#promoteEldest(ticket);
      const passed = this.#guarded().filter((each) => each !== ticket && this.#isHeldUp(each));
      if (passed.some((each) => each === this.#queue.front && this.#mayNotPass(each))) return;
      for (const each of passed) each.bypassed += 1;
      this.#queue.remove(ticket);
      this.#granted.add(ticket);
      ticket.resolve(ticket.digests.map((digest) => this.#use(digest, ticket)));
    }
  }

  #use(digest: string, ticket: Ticket): PackedAdapter {
    const adapter = this.#room.pin(digest);
    invariant(adapter !== undefined, 'the adapters of a ready lease are resident');
    ticket.bytesLoaded += this.#loads.use(ticket.tenantId, digest, adapter.bytes);
    return adapter;
  }

  /** The front and the eldest, once if they are the same. */
  #guarded(): Ticket[] {
    const { front, eldest } = this.#queue;
    return [...new Set([front, eldest])].filter((each) => each !== undefined);
  }

  /** Puts the eldest in front when it has been passed often enough and would be again. */
  #promoteEldest(ready: Ticket): void {
    const { eldest } = this.#queue;
    if (eldest === undefined || eldest === ready || eldest === this.#queue.front) return;
    if (eldest.bypassed < this.#options.maxBypass || !this.#isHeldUp(eldest)) return;
    this.#queue.promote(eldest);
    this.#roomChanged = true;
  }

  #mayNotPass(ticket: Ticket): boolean {
    const lacksRoom = ticket.digests.some((digest) => this.#room.hasLanded(digest));
    return lacksRoom && ticket.bypassed >= this.#options.maxBypass;
  }

  /** Whether others are in the way: it lacks room or a load slot. Its own loads are nobody's fault. */
  #isHeldUp(ticket: Ticket): boolean {
    return ticket.digests.some((digest) => ['landed', 'absent'].includes(this.#queue.place(digest)));
  }

  #startLoads(): void {
    for (let next = this.#queue.nextToLoad; next !== undefined; next = this.#queue.nextToLoad) {
      const busy = this.#loading + this.#room.landed >= this.#options.maxConcurrentLoads;
      // The front must be able to load even when the slots hold others' adapters that wait for room.
      if (busy && !(next.lease === this.#queue.front && this.#room.dropLanded(next.lease.digests))) return;
      this.#startLoad(next.digest);
    }
  }

  #startLoad(digest: string): void {
    this.#loading += 1;
    this.#queue.moved(digest, 'loading');
    const startedMs = this.#clock.monotonicMs();
    // The loader may throw at once or reject later; both mean the same.
    Promise.resolve()
      .then(() => this.#loader.load(digest))
      .then((adapter) => {
        if (adapter.digest !== digest) throw new Error(`asked for ${digest}, got ${adapter.digest}`);
        this.#room.land(adapter, adapter.loadMs ?? this.#clock.monotonicMs() - startedMs);
        this.#refuseTooLarge(this.#queue.waitingFor(digest));
      })
      .catch((cause: unknown) => {
        const error = loadFailure(cause);
        for (const ticket of this.#queue.waitingFor(digest)) this.#refuse(ticket, error);
        this.#queue.moved(digest, 'absent');
      })
      .finally(() => {
        this.#loading -= 1;
        this.#roomChanged = true;
        this.#pump();
      });
  }

  /**
   * Refuses leases whose adapters exceed the cache together, as soon as that is known: from loads, or from sizes that
   * other leases made known. One that keeps a part of what cannot fit would wait for ever.
   */
  #refuseTooLarge(tickets: readonly Ticket[]): void {
    const { hostCacheBytes } = this.#options;
    for (const ticket of tickets) {
      const bytes = this.#queue.knownBytes(ticket);
      if (bytes <= hostCacheBytes) continue;
      const message = 'The adapters of the request do not fit into the cache.';
      this.#refuse(
        ticket,
        new PatchbayError('ENGINE_TOO_LARGE', message, { meta: { bytes, hostCacheBytes } }),
      );
    }
  }

  #refuse(ticket: Ticket, error: PatchbayError): void {
    if (this.#queue.remove(ticket)) ticket.reject(error);
  }
}

function loadFailure(cause: unknown): PatchbayError {
  if (cause instanceof PatchbayError && cause.code === 'ADAPTER_LOAD_FAILED') return cause;
  return new PatchbayError('ADAPTER_LOAD_FAILED', 'An adapter of the request could not be loaded.', {
    cause,
  });
}

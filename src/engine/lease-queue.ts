import { SortedList } from './sorted-list.ts';

/** Where an adapter is: nowhere, on its way, in memory without room, in the cache. */
type Place = 'absent' | 'loading' | 'landed' | 'resident';

/** A lease that was asked for and not granted yet. */
export interface Waiting {
  /** Order of arrival. */
  readonly number: number;
  readonly digests: readonly string[];
  /** Smaller is served first. */
  readonly urgency: number;
  /** Later leases that were granted past it while it was held up by others. */
  bypassed: number;
}

interface Ticket<W extends Waiting> {
  readonly lease: W;
  urgency: number;
  /** Adapters that are not resident. */
  missing: number;
  /** Sum of the sizes that are known. */
  bytes: number;
}

interface Wanted<W extends Waiting> {
  readonly digest: string;
  /** Tells apart two adapters that the same lease wants most. */
  readonly number: number;
  place: Place;
  /** Size, once a load has told it. */
  bytes: number | null;
  readonly tickets: SortedList<Ticket<W>>;
}

/** What {@link LeaseQueue} knows of adapters, for who keeps them. */
export type AdapterWants = Pick<
  LeaseQueue<Waiting>,
  'moved' | 'sized' | 'isWanted' | 'wantedLater' | 'inWantedOrder'
>;

/**
 * Ungranted leases and the adapters that they wait for, indexed by both, so that no question costs more than a binary
 * search and a move of an array, however many wait. Holds no adapters, starts nothing, grants nothing.
 *
 * Order is by urgency, then by arrival. The *eldest* is the first to have arrived; {@link promote} puts it in front.
 */
export class LeaseQueue<W extends Waiting> {
  readonly #tickets = new Map<W, Ticket<W>>();
  /** Adapters that somebody waits for, and those that are not absent. */
  readonly #wanted = new Map<string, Wanted<W>>();
  readonly #order = new SortedList<Ticket<W>>(inOrder);
  readonly #byArrival = new SortedList<Ticket<W>>((a, b) => a.lease.number - b.lease.number);
  /** Those whose adapters are all resident. */
  readonly #ready = new SortedList<Ticket<W>>(inOrder);
  /** Absent adapters that somebody waits for, by the first lease that does. */
  readonly #toLoad = new SortedList<Wanted<W>>(byFirstTicket);
  #nextNumber = 0;

  get size(): number {
    return this.#tickets.size;
  }

  get front(): W | undefined {
    return this.#order.first?.lease;
  }

  get eldest(): W | undefined {
    return this.#byArrival.first?.lease;
  }

  /** The first lease in order whose adapters are all resident. */
  get ready(): W | undefined {
    return this.#ready.first?.lease;
  }

  /** The absent adapter that is wanted most, and the first lease in order that waits for it. */
  get nextToLoad(): { readonly digest: string; readonly lease: W } | undefined {
    const wanted = this.#toLoad.first;
    const ticket = wanted?.tickets.first;
    return wanted && ticket && { digest: wanted.digest, lease: ticket.lease };
  }

  add(lease: W): void {
    const ticket: Ticket<W> = { lease, urgency: lease.urgency, missing: 0, bytes: 0 };
    this.#tickets.set(lease, ticket);
    this.#byArrival.add(ticket);
    this.#order.add(ticket);
    for (const digest of lease.digests) {
      const wanted = this.#want(digest);
      this.#reordered(wanted, () => wanted.tickets.add(ticket));
      ticket.bytes += wanted.bytes ?? 0;
      if (wanted.place !== 'resident') ticket.missing += 1;
    }
    if (ticket.missing === 0) this.#ready.add(ticket);
  }

  /** Takes a lease out, because it was granted, refused or given up; false if it does not wait. */
  remove(lease: W): boolean {
    const ticket = this.#tickets.get(lease);
    if (ticket === undefined) return false;
    this.#tickets.delete(lease);
    this.#byArrival.delete(ticket);
    this.#order.delete(ticket);
    this.#ready.delete(ticket);
    for (const digest of lease.digests) {
      const wanted = this.#want(digest);
      this.#reordered(wanted, () => wanted.tickets.delete(ticket));
      this.#forget(wanted);
    }
    return true;
  }

  /** Puts a lease before every other that was not promoted. */
  promote(lease: W): void {
    const ticket = this.#tickets.get(lease);
    if (ticket === undefined || ticket.urgency === Number.NEGATIVE_INFINITY) return;
    const wanted = lease.digests.map((digest) => this.#want(digest));
    const ready = this.#ready.delete(ticket);
    this.#order.delete(ticket);
    for (const each of wanted) this.#reordered(each, () => each.tickets.delete(ticket));
    ticket.urgency = Number.NEGATIVE_INFINITY;
    this.#order.add(ticket);
    for (const each of wanted) this.#reordered(each, () => each.tickets.add(ticket));
    if (ready) this.#ready.add(ticket);
  }

  /** Notes where an adapter is now. */
  moved(digest: string, place: Place): void {
    const wanted = this.#want(digest);
    const before = wanted.place;
    this.#reordered(wanted, () => {
      wanted.place = place;
    });
    if (place === 'resident' && before !== 'resident') this.#missing(wanted, -1);
    if (place !== 'resident' && before === 'resident') this.#missing(wanted, 1);
    this.#forget(wanted);
  }

  place(digest: string): Place {
    return this.#wanted.get(digest)?.place ?? 'absent';
  }

  /** Notes an adapter's size, which never changes. */
  sized(digest: string, bytes: number): void {
    const wanted = this.#want(digest);
    if (wanted.bytes === null) for (const ticket of wanted.tickets) ticket.bytes += bytes;
    wanted.bytes = bytes;
    this.#forget(wanted);
  }

  /** Sum of the sizes of a lease's adapters, as far as they are known. */
  knownBytes(lease: W): number {
    return this.#tickets.get(lease)?.bytes ?? 0;
  }

  isWanted(digest: string): boolean {
    return (this.#wanted.get(digest)?.tickets.size ?? 0) > 0;
  }

  /** The leases that wait for an adapter, in order. */
  waitingFor(digest: string): W[] {
    return [...(this.#wanted.get(digest)?.tickets ?? [])].map(({ lease }) => lease);
  }

  /**
   * Whether an adapter is wanted later than another: by nobody, or first by a lease behind the first that wants the
   * other. False when nobody wants the other.
   */
  wantedLater(digest: string, than: string): boolean {
    const other = this.#wanted.get(than)?.tickets.first;
    if (other === undefined) return false;
    const first = this.#wanted.get(digest)?.tickets.first;
    return first === undefined || inOrder(first, other) > 0;
  }

  /** Digests by the order of the first lease that wants them; those that nobody wants come last. */
  inWantedOrder(digests: Iterable<string>): string[] {
    return [...digests].sort((a, b) => {
      if (this.wantedLater(b, a)) return -1;
      return this.wantedLater(a, b) ? 1 : 0;
    });
  }

  clear(): void {
    this.#tickets.clear();
    this.#wanted.clear();
    for (const list of [this.#order, this.#byArrival, this.#ready, this.#toLoad]) list.clear();
  }

  #want(digest: string): Wanted<W> {
    let wanted = this.#wanted.get(digest);
    if (wanted === undefined) {
      const tickets = new SortedList<Ticket<W>>(inOrder);
      wanted = { digest, number: this.#nextNumber++, place: 'absent', bytes: null, tickets };
      this.#wanted.set(digest, wanted);
    }
    return wanted;
  }

  #forget(wanted: Wanted<W>): void {
    if (wanted.place === 'absent' && wanted.tickets.size === 0) this.#wanted.delete(wanted.digest);
  }

  /** Makes a change that may alter whether and where an adapter stands among those to load. */
  #reordered(wanted: Wanted<W>, change: () => void): void {
    if (isToLoad(wanted)) this.#toLoad.delete(wanted);
    change();
    if (isToLoad(wanted)) this.#toLoad.add(wanted);
  }

  #missing(wanted: Wanted<W>, by: 1 | -1): void {
    for (const ticket of wanted.tickets) {
      if (ticket.missing === 0) this.#ready.delete(ticket);
      ticket.missing += by;
      if (ticket.missing === 0) this.#ready.add(ticket);
    }
  }
}

function isToLoad<W extends Waiting>(wanted: Wanted<W>): boolean {
  return wanted.place === 'absent' && wanted.tickets.size > 0;
}

function inOrder<W extends Waiting>(a: Ticket<W>, b: Ticket<W>): number {
  if (a.urgency !== b.urgency) return a.urgency < b.urgency ? -1 : 1;
  return a.lease.number - b.lease.number;
}

function byFirstTicket<W extends Waiting>(a: Wanted<W>, b: Wanted<W>): number {
  const [first, second] = [a.tickets.first, b.tickets.first];
  const order = first === undefined || second === undefined ? 0 : inOrder(first, second);
  return order === 0 ? a.number - b.number : order;
}

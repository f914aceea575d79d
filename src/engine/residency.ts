import type { Clock } from '../kernel/clock.ts';
import type { ResidencyHour } from './port.ts';
import type { StepRunner } from './runner.ts';

/** The two places in memory that an adapter can have: the host cache, and the bank that steps read. */
export type ResidencyTier = 'host' | 'bank';

const HOUR_US = 3_600_000_000;
const US_PER_MS = 1_000;

/** Bytes that are held since a moment of the monotonic clock, in microseconds. */
interface Holding {
  readonly bytes: number;
  readonly sinceUs: number;
}

interface Taken {
  host: bigint;
  bank: bigint;
  loads: number;
  bytesLoaded: number;
  loadUs: number;
}

interface Hour {
  aliveUs: number;
  readonly adapters: Map<string, Taken>;
}

/**
 * The integral of bytes over time, by adapter and place, and what loading cost: what an adapter takes of a machine
 * besides the computing. Durations are the monotonic clock's, whole microseconds that add up without a gap; the wall
 * clock only says into which hour they fall, and is read anew at every drain, so that a correction of it neither
 * loses nor adds any time. An arrival or departure costs one addition; a drain costs the adapters that are held.
 */
export class ResidencyMeter {
  readonly #clock: Clock;
  readonly #capacityBytes: number;
  readonly #held: Readonly<Record<ResidencyTier, Map<string, Holding>>> = {
    host: new Map(),
    bank: new Map(),
  };
  #hours = new Map<number, Hour>();
  #aliveSinceUs: number;
  /** One moment on both clocks. */
  #anchor: { readonly monotonicUs: number; readonly wallUs: number };
  #bankGeneration = 0;

  /** @param capacityBytes the most that both places together can hold */
  constructor(capacityBytes: number, clock: Clock) {
    this.#capacityBytes = capacityBytes;
    this.#clock = clock;
    this.#anchor = this.#readClocks();
    this.#aliveSinceUs = this.#anchor.monotonicUs;
  }

  /** Says how many bytes of an adapter are in a place from now on; 0 when it has left. */
  hold(tier: ResidencyTier, digest: string, bytes: number): void {
    const nowUs = this.#nowUs();
    this.#settle(tier, digest, nowUs);
    if (bytes > 0) this.#held[tier].set(digest, { bytes, sinceUs: nowUs });
    else this.#held[tier].delete(digest);
  }

  /** Counts an adapter that was read from the store. It counts in the hour in which the load ended. */
  loaded(digest: string, bytes: number, loadMs: number): void {
    const taken = this.#taken(this.#hourAt(this.#nowUs()).hour, digest);
    taken.loads += 1;
    taken.bytesLoaded += bytes;
    taken.loadUs += Math.round(loadMs * US_PER_MS);
  }

  /** Looks at the bank after a step. Pages that the step brought count from its end. */
  observeBank(runner: Pick<StepRunner, 'bankGeneration' | 'bankPageBytes' | 'heldPages'>): void {
    if (runner.bankGeneration === this.#bankGeneration) return;
    this.#bankGeneration = runner.bankGeneration;
    const now = runner.heldPages();
    for (const digest of [...this.#held.bank.keys()]) if (!now.has(digest)) this.hold('bank', digest, 0);
    for (const [digest, pages] of now) {
      const bytes = pages * runner.bankPageBytes;
      if (this.#held.bank.get(digest)?.bytes !== bytes) this.hold('bank', digest, bytes);
    }
  }

  /** What came together since the last drain, by clock hour; it is told once. */
  drain(): readonly ResidencyHour[] {
    const nowUs = this.#nowUs();
    for (const tier of ['host', 'bank'] as const) {
      for (const [digest, { bytes }] of this.#held[tier]) {
        this.#settle(tier, digest, nowUs);
        this.#held[tier].set(digest, { bytes, sinceUs: nowUs });
      }
    }
    this.#eachHour(this.#aliveSinceUs, nowUs, (hour, us) => {
      this.#hour(hour).aliveUs += us;
    });
    this.#aliveSinceUs = nowUs;
    const drained = this.#hours;
    this.#hours = new Map();
    // Everything is settled up to here, so a new relation of the clocks can begin here.
    this.#anchor = { monotonicUs: nowUs, wallUs: this.#clock.nowMs() * US_PER_MS };
    return [...drained].map(([hour, { aliveUs, adapters }]) => ({
      startMs: (hour * HOUR_US) / US_PER_MS,
      aliveUs: BigInt(aliveUs),
      capacityByteUs: BigInt(this.#capacityBytes) * BigInt(aliveUs),
      adapters: [...adapters].map(([digest, taken]) => ({
        digest,
        hostByteUs: taken.host,
        bankByteUs: taken.bank,
        loads: BigInt(taken.loads),
        bytesLoaded: BigInt(taken.bytesLoaded),
        loadUs: BigInt(taken.loadUs),
      })),
    }));
  }

  #settle(tier: ResidencyTier, digest: string, nowUs: number): void {
    const holding = this.#held[tier].get(digest);
    if (holding === undefined) return;
    this.#eachHour(holding.sinceUs, nowUs, (hour, us) => {
      this.#taken(hour, digest)[tier] += BigInt(holding.bytes) * BigInt(us);
    });
  }

  /** Cuts a stretch of the monotonic clock at the full hours of the wall clock. */
  #eachHour(fromUs: number, toUs: number, add: (hour: number, us: number) => void): void {
    for (let at = fromUs; at < toUs; ) {
      const { hour, leftUs } = this.#hourAt(at);
      const end = Math.min(toUs, at + leftUs);
      add(hour, end - at);
      at = end;
    }
  }

  /** The hour since the epoch in which a moment of the monotonic clock lies, and how much of it is left then. */
  #hourAt(monotonicUs: number): { readonly hour: number; readonly leftUs: number } {
    const wallUs = this.#anchor.wallUs + (monotonicUs - this.#anchor.monotonicUs);
    const hour = Math.floor(wallUs / HOUR_US);
    return { hour, leftUs: (hour + 1) * HOUR_US - wallUs };
  }

  #taken(hour: number, digest: string): Taken {
    const { adapters } = this.#hour(hour);
    const known = adapters.get(digest);
    if (known !== undefined) return known;
    const taken = { host: 0n, bank: 0n, loads: 0, bytesLoaded: 0, loadUs: 0 };
    adapters.set(digest, taken);
    return taken;
  }

  #hour(hour: number): Hour {
    const known = this.#hours.get(hour);
    if (known !== undefined) return known;
    const made = { aliveUs: 0, adapters: new Map<string, Taken>() };
    this.#hours.set(hour, made);
    return made;
  }

  #readClocks(): { readonly monotonicUs: number; readonly wallUs: number } {
    return { monotonicUs: this.#nowUs(), wallUs: this.#clock.nowMs() * US_PER_MS };
  }

  #nowUs(): number {
    return Math.round(this.#clock.monotonicMs() * US_PER_MS);
  }
}

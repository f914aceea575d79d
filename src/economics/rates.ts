import { roundHalfEven } from '../kernel/money.ts';

/** What a machine costs, and which part of that its memory for adapters bears; the rest is the computing's. */
export interface MachinePrice {
  /** Nano-units for an hour of one machine. */
  readonly perHour: bigint;
  /** 0 to 100. */
  readonly memoryPercent: number;
}

/** What the machines of a period were. */
export interface MachineTime {
  /** How long engines were there, added up over machines. */
  readonly aliveUs: bigint;
  /** Bytes that adapters could have taken of them, times microseconds. */
  readonly capacityByteUs: bigint;
}

const HOUR_US = 3_600_000_000n;
const PERCENT = 100n;

/**
 * Turns quantities into money by the formulas of docs/concepts/economics.md. Each amount is rounded once, to the nearest
 * nano-unit.
 */
export class Rates {
  readonly #price: MachinePrice;
  readonly #time: MachineTime;

  constructor(price: MachinePrice, time: MachineTime) {
    this.#price = price;
    this.#time = time;
  }

  /** The machines themselves. */
  machines(): bigint {
    return roundHalfEven(this.#time.aliveUs * this.#price.perHour, HOUR_US);
  }

  /** Engine time, or a loader's. */
  compute(us: bigint): bigint {
    const share = PERCENT - BigInt(this.#price.memoryPercent);
    return roundHalfEven(us * this.#price.perHour * share, PERCENT * HOUR_US);
  }

  /** Bytes held for a time: their part of all that could have been held, of what the memory costs. */
  memory(byteUs: bigint): bigint {
    const { aliveUs, capacityByteUs } = this.#time;
    if (byteUs === 0n || capacityByteUs === 0n) return 0n;
    const share = BigInt(this.#price.memoryPercent);
    return roundHalfEven(byteUs * this.#price.perHour * share * aliveUs, PERCENT * HOUR_US * capacityByteUs);
  }

  /** Whole hours of a machine that serves one adapter alone. */
  dedicated(hours: bigint): bigint {
    return hours * this.#price.perHour;
  }
}

/** Seeded randomness for traces: the same seed gives the same trace on every machine. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** In [0, 1). Mulberry32. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from `min` to `max`, both included. */
  integer(min: number, max: number): number {
    return min + Math.floor(this.next() * (max - min + 1));
  }

  /** Exponential with the given mean. */
  exponential(mean: number): number {
    return -mean * Math.log(1 - this.next());
  }

  /** Gamma with the given mean and coefficient of variation, by Marsaglia and Tsang (2000). */
  gamma(mean: number, variation: number): number {
    const shape = 1 / (variation * variation);
    // Below one, a draw with a shape larger by one is corrected by a power of a uniform one.
    const boost = shape < 1 ? (1 - this.next()) ** (1 / shape) : 1;
    const d = (shape < 1 ? shape + 1 : shape) - 1 / 3;
    for (;;) {
      const x = this.#normal();
      const v = (1 + x / Math.sqrt(9 * d)) ** 3;
      if (v > 0 && Math.log(1 - this.next()) < 0.5 * x * x + d - d * v + d * Math.log(v)) {
        return (mean / shape) * d * v * boost;
      }
    }
  }

  /** An index below `count`, with probability proportional to `1 / (index + 1) ** exponent`; 0 is uniform. */
  zipf(count: number, exponent: number): number {
    if (exponent === 0) return Math.floor(this.next() * count);
    // Inverse of the continuous law: exact enough for popularity, and constant time for any count.
    const u = this.next();
    if (exponent === 1) return Math.min(count - 1, Math.floor((count + 1) ** u) - 1);
    const power = 1 - exponent;
    return Math.min(count - 1, Math.floor((1 + u * ((count + 1) ** power - 1)) ** (1 / power)) - 1);
  }

  #normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.next())) * Math.cos(2 * Math.PI * this.next());
  }
}

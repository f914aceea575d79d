/**
 * Seeded pseudo-random numbers that are bit-identical on every platform: only
 * 32-bit integer operations and exact additions are used, never a logarithm or
 * a cosine whose last bit could differ between JavaScript engines.
 */
export class Random {
  #state: number;

  /** The seed text is hashed, so that each named tensor can have its own independent stream. */
  constructor(seed: string) {
    let hash = 0x811c9dc5;
    for (let i = 0; i < seed.length; i++) hash = Math.imul(hash ^ seed.charCodeAt(i), 0x01000193);
    this.#state = hash;
  }

  /** 32 random bits (the SplitMix32 generator). */
  bits(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0;
    let z = this.#state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  }

  /** An integer in 0..limit-1. The bias of the multiplication is far below what a fixture could show. */
  below(limit: number): number {
    return Math.floor((this.bits() / 2 ** 32) * limit);
  }

  /** Approximately standard normal: twelve uniforms sum to mean 6 and variance 1, exactly representable. */
  normal(): number {
    let sum = -6;
    for (let i = 0; i < 12; i++) sum += this.bits() / 2 ** 32;
    return sum;
  }
}

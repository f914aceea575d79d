/**
 * Philox4x32-10, a counter-based generator: block number `n` of a key is a pure function of both, so a sequence's
 * draw at step `n` cannot depend on which other sequences drew before it, on retries or on batching.
 *
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11; the constants and the
 * known-answer vectors of the tests are those of the Random123 library.
 */

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const ROUNDS = 10;

/** Four unsigned 32-bit words. */
export type Block = readonly [number, number, number, number];

/** High 32 bits of the product of two unsigned 32-bit integers; a double cannot hold the whole product. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const low = aLow * bLow;
  const middle = aHigh * bLow + (low >>> 16);
  const cross = aLow * bHigh + (middle % 0x10000);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(cross / 0x10000)) >>> 0;
}

/** The block of a counter under a key; all words are unsigned 32-bit. */
export function philox(counter: Block, key: readonly [number, number]): Block {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0);
    const low0 = Math.imul(MULTIPLIER_0, c0) >>> 0;
    const high1 = multiplyHigh(MULTIPLIER_1, c2);
    const low1 = Math.imul(MULTIPLIER_1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/**
 * A uniform number in [0, 1) with 53 random bits.
 *
 * @param seed unsigned 53-bit integer, the sequence's own stream
 * @param step index of the draw in the stream, from 0
 */
export function uniform(seed: number, step: number): number {
  const key = [seed >>> 0, Math.floor(seed / 0x100000000) >>> 0] as const;
  const [x, y] = philox([step >>> 0, 0, 0, 0], key);
  return ((x >>> 5) * 0x4000000 + (y >>> 6)) / 0x20000000000000;
}

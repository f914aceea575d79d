import type { BenchEngineOptions } from '../cli/ports.ts';

/** Adapters that the random workloads draw from. */
const POPULATION = 64;
/** Exponent of the skewed workload's popularity law (Zipf). */
const ZIPF_EXPONENT = 1;

/** A seeded number in [0, 1) for a pair of indices (splitmix32), the same whatever was drawn before. */
export function draw(seed: number, index: number): number {
  let state = (Math.imul(seed, 0x9e3779b1) + Math.imul(index + 1, 0x85ebca6b)) >>> 0;
  state = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
  state = Math.imul(state ^ (state >>> 15), 0x735a2d97);
  return ((state ^ (state >>> 15)) >>> 0) / 2 ** 32;
}

/** Which adapter a request uses, or null for the plain backbone. */
export function adapterOfRequest(
  options: Pick<BenchEngineOptions, 'workload' | 'seed'>,
  request: number,
  stream: number,
): number | null {
  switch (options.workload) {
    case 'none':
      return null;
    case 'identical':
      return 0;
    case 'distinct':
      return stream;
    case 'uniform':
      return Math.floor(draw(options.seed, request) * POPULATION);
    case 'skewed':
      return zipf(draw(options.seed, request));
  }
}

function zipf(uniform: number): number {
  const weights = Array.from({ length: POPULATION }, (_, rank) => 1 / (rank + 1) ** ZIPF_EXPONENT);
  let left = uniform * weights.reduce((sum, weight) => sum + weight, 0);
  const found = weights.findIndex((weight) => {
    left -= weight;
    return left < 0;
  });
  return found === -1 ? POPULATION - 1 : found;
}

/** Distinct prompts of equal length, by request number. */
export function prompts(
  seed: number,
  length: number,
  vocabSize: number,
): (request: number) => readonly number[] {
  return (request) =>
    Array.from({ length }, (_, i) => Math.floor(draw(seed + 1, request * 8191 + i) * vocabSize));
}

import type { SequenceSpec } from './entry.ts';

/**
 * What service costs, in the time that one token of a decode row takes in a full batch. The counters of fair policies
 * add these up. Not learned while running: a unit that moved would make counters of different times incomparable.
 */
export interface ServiceWeights {
  readonly prefillToken: number;
  readonly decodeToken: number;
  /** A rank page that a step reads; rows that read the same page share it. */
  readonly page: number;
  /** A byte of adapters loaded for the sequence. */
  readonly loadedByte: number;
}

/**
 * From docs/operating/benchmarks.md (30m, 16 streams, float32): a decode token takes 0.96 ms in a full batch, a prompt
 * token 0.34 ms, and 32 distinct pages (16 adapters of rank 16) add 6.4 ms to a step. Loading reads about 4 MB in the time of a token.
 */
export const SERVICE_WEIGHTS: ServiceWeights = {
  prefillToken: 0.35,
  decodeToken: 1,
  page: 0.2,
  loadedByte: 2.5e-7,
};

/** What of a sequence is charged when it starts: its load, its prompt, and its pages for as many steps as that takes. */
export function startCost(
  spec: Pick<SequenceSpec, 'promptTokens'>,
  pages: number,
  bytesLoaded: number,
  prefillTokensPerStep: number,
  weights: ServiceWeights,
): number {
  const steps = Math.ceil(spec.promptTokens / prefillTokensPerStep);
  return (
    bytesLoaded * weights.loadedByte + spec.promptTokens * weights.prefillToken + pages * steps * weights.page
  );
}

/** What one token of a sequence is charged. */
export function tokenCost(pagesShare: number, weights: ServiceWeights): number {
  return weights.decodeToken + pagesShare * weights.page;
}

/** The largest requests that an engine takes, for {@link counterBound}. */
export interface LargestRequests {
  readonly rows: number;
  readonly promptTokens: number;
  readonly newTokens: number;
  readonly pages: number;
  readonly bytesLoaded: number;
  readonly prefillTokensPerStep: number;
  /** Tokens that the KV cache holds in all. */
  readonly kvTokens: number;
  /** Least weight of a flow. */
  readonly leastWeight: number;
}

/**
 * By how much the counters of two waiting flows of one level and class can differ (docs/decisions/0010): the
 * allowance for overtaking, one start, and what the running rows may still generate. The service of two flows that wait
 * throughout an interval differs by at most twice that.
 */
export function counterBound(largest: LargestRequests, allowance: number, weights: ServiceWeights): number {
  const start = startCost(largest, largest.pages, largest.bytesLoaded, largest.prefillTokensPerStep, weights);
  const tokens = Math.min(largest.rows * largest.newTokens, largest.kvTokens);
  return allowance + (start + tokens * tokenCost(largest.pages, weights)) / largest.leastWeight;
}

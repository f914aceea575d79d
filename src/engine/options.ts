import { PatchbayError } from '../kernel/errors.ts';

/** Everything about an engine that an operator may choose. Each bound of the engine has its name here. */
export interface EngineOptions {
  /** Most sequences that run at once, and so the most rows of a step. */
  readonly maxBatch: number;
  /** Most prompt tokens that one step reads; a longer prompt is read over several steps. */
  readonly prefillTokensPerStep: number;
  /** Most accepted sequences that are not running yet (waiting for room or for an adapter). */
  readonly maxQueue: number;
  /** Most later arrivals that may start before a sequence that is ready; then it is next, whatever its class. */
  readonly maxBypass: number;
  /** Most consecutive steps in which a running sequence's prompt may be left aside for others. */
  readonly maxPrefillStall: number;
  /** Bytes of packed adapters that are kept in memory. */
  readonly hostCacheBytes: number;
  /** Most adapters that are being read from the store, or have been read and wait for room, at once. */
  readonly maxConcurrentLoads: number;
  /** Most adapters in one blend. */
  readonly maxBlend: number;
  /** Largest absolute weight of an adapter in a blend. */
  readonly maxBlendWeight: number;
  /** Largest rank that the runner's pages were laid out for. */
  readonly maxRank: number;
  /** Most probes at once. */
  readonly maxProbes: number;
  /** How many steps the medians of the status look back. */
  readonly recentSteps: number;
}

/** Defaults for a small machine: two cores, a model of tens to hundreds of millions of parameters. */
export const DEFAULT_ENGINE_OPTIONS: EngineOptions = {
  maxBatch: 16,
  prefillTokensPerStep: 256,
  maxQueue: 256,
  maxBypass: 64,
  maxPrefillStall: 16,
  hostCacheBytes: 256 * 1024 * 1024,
  maxConcurrentLoads: 4,
  maxBlend: 8,
  maxBlendWeight: 16,
  maxRank: 128,
  maxProbes: 4,
  recentSteps: 256,
};

/** Options that may be zero; the others are at least 1. */
const MAY_BE_ZERO: ReadonlySet<string> = new Set(['maxBypass', 'maxPrefillStall']);

/**
 * Fills in defaults and checks every option.
 *
 * @throws PatchbayError `CONFIG_INVALID` naming the first option that is not a positive integer
 *   (`maxBlendWeight`: a positive finite number).
 */
export function engineOptions(given: Partial<EngineOptions>): EngineOptions {
  const options = { ...DEFAULT_ENGINE_OPTIONS, ...given };
  for (const [name, value] of Object.entries(options)) {
    const least = MAY_BE_ZERO.has(name) ? 0 : 1;
    const valid =
      name === 'maxBlendWeight'
        ? Number.isFinite(value) && value > 0
        : Number.isSafeInteger(value) && value >= least;
    if (!valid) {
      throw new PatchbayError('CONFIG_INVALID', `Engine option ${name} is out of range: ${value}.`, {
        field: name,
      });
    }
  }
  return options;
}

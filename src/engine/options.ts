import { PatchbayError } from '../kernel/errors.ts';
import type { ClassTarget, ClassTargets } from './classes.ts';

/**
 * Who goes first within a priority class: `fair` counts service (virtual token counters), the others are there for
 * comparison.
 */
export const SCHEDULING_POLICIES = ['fair', 'round-robin', 'fcfs'] as const;
export type SchedulingPolicyName = (typeof SCHEDULING_POLICIES)[number];

/** Everything about an engine that an operator may choose. Each bound of the engine has its name here. */
export interface EngineOptions {
  /** Most sequences that run at once, and so the most rows of a step. */
  readonly maxBatch: number;
  /** Most prompt tokens that one step reads; a longer prompt is read over several steps. */
  readonly prefillTokensPerStep: number;
  /** Most accepted sequences that are not running yet (waiting for room or for an adapter). */
  readonly maxQueue: number;
  /** How many of them one tenant may have for each place that is free, so that a flood shuts nobody out; 0 is no limit. */
  readonly queueShare: number;
  /**
   * Most starts that may pass a sequence that is next and does not fit, and most starts of more urgent classes that may
   * pass a class in which somebody waits.
   */
  readonly maxBypass: number;
  readonly scheduling: SchedulingPolicyName;
  /** Most times that one sequence is preempted; then it keeps its row until it ends. */
  readonly maxPreemptions: number;
  /** What the classes aim at, in milliseconds: time to the first token and between tokens. 0 is no target. */
  readonly interactiveTtftMs: number;
  readonly interactiveInterTokenMs: number;
  readonly standardTtftMs: number;
  readonly standardInterTokenMs: number;
  readonly batchTtftMs: number;
  readonly batchInterTokenMs: number;
  /**
   * A request is refused when it would wait longer than this percentage of what its class's target leaves for waiting;
   * 0 refuses none before the queue is full.
   */
  readonly maxWaitPercent: number;
  /** Most consecutive steps in which a running sequence's prompt may be left aside for others. */
  readonly maxPrefillStall: number;
  /** Bytes of packed adapters that are kept in memory. */
  readonly hostCacheBytes: number;
  /** Bytes of keys and values that are kept for prompts that begin alike; 0 keeps none. */
  readonly prefixBytes: number;
  /** Tokens by which beginnings are compared and kept: shorter ones share more and cost more to look up. */
  readonly prefixBlockTokens: number;
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
  queueShare: 0,
  maxBypass: 64,
  scheduling: 'fair',
  maxPreemptions: 8,
  interactiveTtftMs: 1_000,
  interactiveInterTokenMs: 200,
  standardTtftMs: 30_000,
  standardInterTokenMs: 1_000,
  batchTtftMs: 0,
  batchInterTokenMs: 0,
  maxWaitPercent: 50,
  maxPrefillStall: 16,
  hostCacheBytes: 256 * 1024 * 1024,
  prefixBytes: 0,
  prefixBlockTokens: 32,
  maxConcurrentLoads: 4,
  maxBlend: 8,
  maxBlendWeight: 16,
  maxRank: 128,
  maxProbes: 4,
  recentSteps: 256,
};

/** Options that may be zero; the others are at least 1. */
const MAY_BE_ZERO: ReadonlySet<string> = new Set([
  'queueShare',
  'maxBypass',
  'maxPrefillStall',
  'maxPreemptions',
  'interactiveTtftMs',
  'interactiveInterTokenMs',
  'standardTtftMs',
  'standardInterTokenMs',
  'batchTtftMs',
  'batchInterTokenMs',
  'maxWaitPercent',
  'prefixBytes',
]);

/**
 * Fills in defaults and checks every option.
 *
 * @throws PatchbayError `CONFIG_INVALID` naming the first option that is not a positive integer
 *   (`maxBlendWeight`: a positive finite number; `scheduling`: one of its names).
 */
export function engineOptions(given: Partial<EngineOptions>): EngineOptions {
  const options = { ...DEFAULT_ENGINE_OPTIONS, ...given };
  for (const [name, value] of Object.entries(options)) {
    if (!isValid(name, value)) {
      throw new PatchbayError('CONFIG_INVALID', `Engine option ${name} is out of range: ${value}.`, {
        field: name,
      });
    }
  }
  return options;
}

function isValid(name: string, value: unknown): boolean {
  if (name === 'scheduling') return SCHEDULING_POLICIES.some((policy) => policy === value);
  if (typeof value !== 'number') return false;
  if (name === 'maxBlendWeight') return Number.isFinite(value) && value > 0;
  return Number.isSafeInteger(value) && value >= (MAY_BE_ZERO.has(name) ? 0 : 1);
}

/** The options' targets by class. */
export function classTargets(options: EngineOptions): ClassTargets {
  return {
    INTERACTIVE: target(options.interactiveTtftMs, options.interactiveInterTokenMs),
    STANDARD: target(options.standardTtftMs, options.standardInterTokenMs),
    BATCH: target(options.batchTtftMs, options.batchInterTokenMs),
  };
}

function target(ttftMs: number, interTokenMs: number): ClassTarget {
  return {
    ttftMs: ttftMs === 0 ? Number.POSITIVE_INFINITY : ttftMs,
    interTokenMs: interTokenMs === 0 ? Number.POSITIVE_INFINITY : interTokenMs,
  };
}

import type { CapacityUse } from './capacity.ts';
import type { ClassTargets } from './classes.ts';
import type { StepCostModel } from './cost-model.ts';
import type { SchedulingPolicy } from './policy.ts';
import type { QueueLimits } from './queue-share.ts';
import type { ServiceWeights } from './service-cost.ts';

/** Bounds that every plan keeps. */
export interface SchedulerLimits extends QueueLimits {
  readonly maxBatch: number;
  readonly prefillTokensPerStep: number;
  readonly maxBypass: number;
  readonly maxPreemptions: number;
  readonly maxPrefillStall: number;
  readonly kvBudgetBytes: number;
  readonly bankPages: number;
}

export interface SchedulerDeps {
  /** Who goes first within a class; first come first served by default. */
  readonly policy?: SchedulingPolicy;
  readonly targets?: ClassTargets;
  /** Learns outside, from the steps that are run. */
  readonly costs?: StepCostModel;
  readonly weights?: ServiceWeights;
  /** Told of a sequence that starts with no keys and values: how many of its tokens its row is opened with. */
  readonly prefixTokens?: (key: number) => number;
}

export interface SchedulerCounts extends CapacityUse {
  /** Ready and waiting for room; among them those that were preempted. */
  readonly waiting: number;
  /** Waiting for adapters to be loaded. */
  readonly pending: number;
  readonly running: number;
}

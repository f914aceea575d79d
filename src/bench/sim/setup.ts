import type { ClassTargets } from '../../engine/classes.ts';
import { NO_TARGETS } from '../../engine/classes.ts';
import { DEFAULT_STEP_COSTS, type StepCosts } from '../../engine/cost-model.ts';
import { firstComeFirstServed } from '../../engine/policies/ordered.ts';
import type { SchedulerLimits } from '../../engine/scheduler.ts';
import type { AdapterCosts } from './adapters.ts';
import { throughput } from './metrics.ts';
import { type SimOptions, simulate } from './simulate.ts';
import type { TraceRequest } from './trace.ts';

/** Measured costs; bench/sim-costs.json holds them. */
export interface SimCosts {
  readonly step: StepCosts;
  readonly adapters: AdapterCosts;
}

/** The 30m backbone with rank-16 adapters of 5.6 MB, read at 1 GB/s and copied into the bank at 5 GB/s. */
export const DEFAULT_SIM_COSTS: SimCosts = {
  step: DEFAULT_STEP_COSTS,
  adapters: { pages: 2, bytes: 5_600_000, loadMs: 6, bankPageMs: 0.55, hostAdapters: 256 },
};

/** The engine's defaults, without a bound of the queue that could hide what a policy does. */
export const SIM_LIMITS: SchedulerLimits = {
  maxBatch: 16,
  prefillTokensPerStep: 256,
  maxQueue: 1_000_000,
  queueShare: 0,
  maxBypass: 64,
  maxPreemptions: 8,
  maxPrefillStall: 16,
  kvBudgetBytes: 16 * 1_024,
  bankPages: 128,
};

/** The defaults of the engine's options. */
export const SIM_TARGETS: ClassTargets = {
  INTERACTIVE: { ttftMs: 1_000, interTokenMs: 200 },
  STANDARD: { ttftMs: 30_000, interTokenMs: 1_000 },
  BATCH: NO_TARGETS.BATCH,
};

export function simOptions(
  costs: SimCosts,
  parts: Partial<SimOptions> & Pick<SimOptions, 'untilMs'>,
): SimOptions {
  return {
    limits: SIM_LIMITS,
    policy: firstComeFirstServed,
    targets: NO_TARGETS,
    costs: costs.step,
    adapters: costs.adapters,
    maxWaitPercent: 0,
    ...parts,
  };
}

/** Requests per second that an engine serves when there is always another one of this kind. */
export function saturation(costs: SimCosts, kind: Omit<TraceRequest, 'atMs'>): number {
  const trace = Array.from({ length: 400 }, () => ({ ...kind, atMs: 0 }));
  const options = simOptions(costs, { untilMs: Number.POSITIVE_INFINITY });
  return throughput(simulate(trace, options)) / kind.newTokens;
}

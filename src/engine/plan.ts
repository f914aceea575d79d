import type { StepWork } from './cost-model.ts';
import type { PlannedRow } from './step-plan.ts';

/** What to do in the next step; data only. To be carried out in the order of its parts. */
export interface StepPlan {
  /** Keys that leave the step and keep their KV rows. */
  readonly paused: readonly number[];
  /** Keys that lose their KV rows, which must be closed. */
  readonly evicted: readonly number[];
  /** Keys that join the step, in the order of that decision. */
  readonly started: readonly number[];
  /** Those of them that have no KV rows, which must be opened before the step runs. */
  readonly opened: readonly number[];
  /** Decode rows first, then prefill; empty when nothing can run. */
  readonly rows: readonly PlannedRow[];
  /** What the rows amount to, for the cost model. */
  readonly work: StepWork;
}

/** The moves of a plan while it is made; keys in the order of the decisions. */
export class Moves {
  readonly paused = new Set<number>();
  readonly evicted = new Set<number>();
  readonly started = new Set<number>();
  readonly opened = new Set<number>();

  plan(rows: readonly PlannedRow[], work: StepWork): StepPlan {
    return {
      paused: [...this.paused],
      evicted: [...this.evicted],
      started: [...this.started],
      opened: [...this.opened],
      rows,
      work,
    };
  }
}

import type { LiveSet } from './live.ts';
import { preempted } from './live.ts';
import type { StepPlan } from './plan.ts';
import type { PrefixStore } from './prefix/prefix-store.ts';
import type { StepRunner } from './runner.ts';
import { engineFailure, type StepRow } from './step.ts';

/** Opens and closes KV rows as a plan says, and answers the rows of its step with the runner's handles. */
export function carryOut(
  plan: StepPlan,
  nowMs: number,
  lives: LiveSet,
  deps: {
    readonly runner: StepRunner;
    readonly prefixes: PrefixStore;
    readonly report: (error: unknown) => void;
  },
): StepRow[] {
  for (const key of [...plan.paused, ...plan.evicted]) {
    const live = lives.get(key);
    if (live !== undefined) preempted(live, nowMs);
  }
  for (const key of plan.evicted) {
    const live = lives.get(key);
    if (live === undefined || live.row === null) continue;
    deps.runner.close(live.row);
    live.row = null;
  }
  for (const key of plan.opened) {
    const live = lives.get(key);
    if (live === undefined) continue;
    live.startedMs ??= nowMs;
    try {
      live.row = deps.runner.open(live.spec.promptTokens + live.spec.maxTokens);
      if (live.prefix !== null) deps.prefixes.restore(live.row, live.prefix);
    } catch (cause) {
      deps.report(cause);
      lives.decide(live, { reason: 'error', error: engineFailure(cause) });
    }
    live.prefix = null;
  }
  return plan.rows.flatMap((planned) => {
    const live = lives.get(planned.key);
    return live === undefined || live.row === null || live.outcome !== null
      ? []
      : [{ live, handle: live.row, planned }];
  });
}

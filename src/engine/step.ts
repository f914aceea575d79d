import type { Clock } from '../kernel/clock.ts';
import { invariant, PatchbayError } from '../kernel/errors.ts';
import type { Live } from './live.ts';
import type { LogitSummary, RowWork, StepRunner } from './runner.ts';
import type { PlannedRow } from './scheduler.ts';
import type { StepTimes } from './step-times.ts';

/** A planned row with its sequence and the runner's handle. */
export interface StepRow {
  readonly live: Live;
  readonly handle: number;
  readonly planned: PlannedRow;
}

export interface StepDeps {
  readonly runner: StepRunner;
  readonly clock: Clock;
  /** Told of failures whose cause the caller of the sequence must not see. */
  readonly report: (error: unknown) => void;
}

/** The error that ends a sequence when something of the engine's own fails under it. */
export function engineFailure(cause: unknown): PatchbayError {
  return new PatchbayError('ENGINE_FAILED', 'The engine failed while it ran the request.', { cause });
}

/**
 * Runs one step and gives the logits to their sequences. Returns what it cost, or null when the runner failed; then
 * every sequence of the step has the outcome `error`.
 *
 * Nothing is published here: first all draws, then the bill, then the caller publishes, so that a slow consumer does not
 * count as compute.
 */
export async function runStep(
  rows: readonly StepRow[],
  startMs: number,
  deps: StepDeps,
): Promise<StepTimes | null> {
  try {
    const work = rows.map(rowWork);
    const { logits, timing } = await deps.runner.run(work);
    invariant(logits.length === rows.length, 'the runner answers every row');
    rows.forEach(({ live }, index) => {
      const adapters = work[index]?.adapters ?? null;
      invariant(live.executed === null || live.executed === adapters, 'all steps of a sequence run alike');
      live.executed = adapters;
    });
    rows.forEach((row, index) => {
      drawRow(row, logits[index] ?? null, deps);
    });
    const total = deps.clock.monotonicMs() - startMs;
    charge(rows, total);
    const host = Math.max(0, total - timing.modelMs - timing.adapterMs);
    return { total, model: timing.modelMs, adapter: timing.adapterMs, host };
  } catch (cause) {
    deps.report(cause);
    for (const { live } of rows) live.outcome ??= { reason: 'error', error: engineFailure(cause) };
    charge(rows, deps.clock.monotonicMs() - startMs);
    return null;
  }
}

function rowWork({ live, handle, planned }: StepRow): RowWork {
  return {
    row: handle,
    tokens: live.consumer.tokens.slice(planned.past, planned.past + planned.tokens),
    past: planned.past,
    adapters: live.adapters,
    wantsLogits: planned.wantsLogits,
    greedy: live.consumer.greedy,
  };
}

function drawRow(
  { live, planned }: StepRow,
  logits: Float32Array | LogitSummary | null,
  deps: StepDeps,
): void {
  // Cancelled during the run: a token that is not drawn was not generated, so it is not metered either.
  if (!planned.wantsLogits || live.outcome !== null) return;
  try {
    invariant(logits !== null, 'the runner returns the logits that were wanted');
    live.outcome = live.consumer.draw(logits);
    live.firstDrawMs ??= deps.clock.monotonicMs();
    if (live.outcome?.error !== undefined) deps.report(live.outcome.error);
  } catch (cause) {
    // One sequence's decoder or sampler failed; the others of the step are none of its business.
    deps.report(cause);
    live.outcome = { reason: 'error', error: engineFailure(cause) };
  }
}

/** Shares the step's time by tokens. The share of tokens that are processed again is nobody's bill. */
function charge(rows: readonly StepRow[], totalMs: number): void {
  const tokens = rows.reduce((sum, { planned }) => sum + planned.tokens, 0);
  for (const { live, planned } of rows) {
    live.computeMs += (totalMs * (planned.tokens - planned.redone)) / tokens;
  }
}

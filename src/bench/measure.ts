import type { Percentiles } from '../cli/ports.ts';
import type { StepRunner, StepTiming } from '../engine/runner.ts';
import type { Clock } from '../kernel/clock.ts';
import { type DecodeStep, decodeStep } from './roofline.ts';

interface LoggedStep {
  readonly startedMs: number;
  /** When the step after it began, or this one ended when none followed. */
  endedMs: number;
  /** What its rows read; null for a step in which a prompt was read too. */
  readonly decode: DecodeStep | null;
  readonly tokens: number;
  readonly timing: StepTiming;
}

/** What every step of a run cost, from its start to the start of the next, so that nothing between steps is lost. */
export class StepLog {
  #steps: LoggedStep[] = [];

  clear(): void {
    this.#steps = [];
  }

  add(step: LoggedStep): void {
    const last = this.#steps.at(-1);
    if (last !== undefined) last.endedMs = step.startedMs;
    this.#steps.push(step);
  }

  stepMs(): readonly number[] {
    return this.#steps.map(({ startedMs, endedMs }) => endedMs - startedMs);
  }

  /** Output tokens per second over the steps in which no prompt was read. */
  decodeTokensPerSecond(): number {
    const decode = this.#steps.filter((step) => step.decode !== null);
    const tokens = decode.reduce((sum, step) => sum + step.tokens, 0);
    const elapsedMs = decode.reduce((sum, step) => sum + step.endedMs - step.startedMs, 0);
    return elapsedMs === 0 ? 0 : (tokens / elapsedMs) * 1000;
  }

  /** The steps in which no prompt was read, with the time that each of them took. */
  decodeSteps(): readonly { readonly step: DecodeStep; readonly ms: number }[] {
    return this.#steps.flatMap(({ decode, startedMs, endedMs }) =>
      decode === null ? [] : [{ step: decode, ms: endedMs - startedMs }],
    );
  }

  /** Shares of the whole time: the model's runs, copying adapters into the bank, everything else. */
  shares(): { readonly model: number; readonly adapter: number; readonly host: number } {
    const total = this.stepMs().reduce((sum, ms) => sum + ms, 0);
    if (total === 0) return { model: 0, adapter: 0, host: 0 };
    const model = this.#steps.reduce((sum, { timing }) => sum + timing.modelMs, 0) / total;
    const adapter = this.#steps.reduce((sum, { timing }) => sum + timing.adapterMs, 0) / total;
    return { model, adapter, host: 1 - model - adapter };
  }
}

/** A runner that writes down what its steps cost. */
export function timed(runner: StepRunner, log: StepLog, clock: Clock): StepRunner {
  return {
    shape: runner.shape,
    maxContext: runner.maxContext,
    kvBudgetBytes: runner.kvBudgetBytes,
    bankPages: runner.bankPages,
    kvBytes: (tokens) => runner.kvBytes(tokens),
    open: (maxTokens) => runner.open(maxTokens),
    close: (row) => runner.close(row),
    bankPageBytes: runner.bankPageBytes,
    get bankGeneration() {
      return runner.bankGeneration;
    },
    heldPages: () => runner.heldPages(),
    dispose: () => runner.dispose(),
    async run(work) {
      const startedMs = clock.monotonicMs();
      const output = await runner.run(work);
      log.add({
        startedMs,
        endedMs: clock.monotonicMs(),
        decode: work.every(({ tokens, past }) => tokens.length === 1 && past > 0) ? decodeStep(work) : null,
        tokens: work.filter(({ wantsLogits }) => wantsLogits).length,
        timing: output.timing,
      });
      return output;
    },
  };
}

/** Percentiles by nearest rank; zeros when there is nothing. */
export function percentiles(values: readonly number[]): Percentiles {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99) };
}

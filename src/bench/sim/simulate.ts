import type { ClassTargets } from '../../engine/classes.ts';
import { DEFAULT_STEP_COSTS, StepCostModel, type StepCosts, stepMs } from '../../engine/cost-model.ts';
import { refusal } from '../../engine/forecast.ts';
import type { SchedulingPolicy } from '../../engine/policy.ts';
import { type PlannedRow, Scheduler, type SchedulerLimits } from '../../engine/scheduler.ts';
import { invariant, PatchbayError } from '../../kernel/errors.ts';
import { type AdapterCosts, LruSet } from './adapters.ts';
import type { TraceRequest } from './trace.ts';

export interface SimOptions {
  /** KV is counted in tokens. */
  readonly limits: SchedulerLimits;
  readonly policy: SchedulingPolicy;
  readonly targets: ClassTargets;
  /** What steps really take; the scheduler learns it from a prior of its own. */
  readonly costs: StepCosts;
  readonly adapters: AdapterCosts;
  /** As the engine's option. */
  readonly maxWaitPercent: number;
  /** The engine is stopped then, whatever still waits. */
  readonly untilMs: number;
  /**
   * A closed loop: so many requests are under way at any time, and the next of the trace arrives when one ends. When
   * absent, requests arrive when the trace says.
   */
  readonly streams?: number;
  /** Told of every token when it comes, and of the time since the sequence's last one; null for its first. */
  readonly onToken?: (nowMs: number, gapMs: number | null) => void;
}

/** What became of a request. */
export interface SimRecord {
  /** In a closed loop with the time at which it arrived. */
  request: TraceRequest;
  refused: boolean;
  /** Whether its adapter had to be loaded. */
  loaded: boolean;
  firstMs: number | null;
  endMs: number | null;
  tokens: number;
}

export interface SimResult {
  readonly records: readonly SimRecord[];
  readonly steps: number;
  readonly preemptions: number;
  /** Tokens that were processed again. */
  readonly redoneTokens: number;
  /** When it stopped, in milliseconds. */
  readonly endMs: number;
}

/** Plays a trace against the engine's own scheduler, policies and admission, in simulated time. */
export function simulate(trace: readonly TraceRequest[], options: SimOptions): SimResult {
  return new Simulation(trace, options).run();
}

class Simulation {
  readonly #options: SimOptions;
  readonly #costs: StepCostModel;
  readonly #scheduler: Scheduler;
  readonly #records: SimRecord[];
  readonly #host: LruSet;
  readonly #bank: LruSet;
  /** Adapters on their way, by time. */
  readonly #loads: { readonly readyMs: number; readonly key: number }[] = [];
  #nowMs = 0;
  #arrived = 0;
  #loaded = 0;
  #loaderFreeMs = 0;
  /** Time that loads take from the steps to come, in milliseconds. */
  #stolenMs = 0;
  #live = 0;
  /** When each running sequence had its last token, by key. */
  readonly #lastMs = new Map<number, number>();
  #steps = 0;
  #preemptions = 0;
  #redoneTokens = 0;

  constructor(trace: readonly TraceRequest[], options: SimOptions) {
    this.#options = options;
    const { limits, policy, targets, adapters } = options;
    this.#costs = new StepCostModel(DEFAULT_STEP_COSTS, {
      decodeRows: limits.maxBatch,
      prefillTokens: 0,
      pages: 0,
      contextTokens: 0,
    });
    this.#scheduler = new Scheduler(limits, { policy, targets, costs: this.#costs });
    this.#records = trace.map((request) => ({
      request,
      refused: false,
      loaded: false,
      firstMs: null,
      endMs: null,
      tokens: 0,
    }));
    this.#host = new LruSet(adapters.hostAdapters);
    this.#bank = new LruSet(Math.floor(limits.bankPages / adapters.pages));
  }

  run(): SimResult {
    while (this.#nowMs < this.#options.untilMs) {
      this.#arrive();
      this.#land();
      const { paused, evicted, rows, work } = this.#scheduler.schedule(this.#nowMs);
      this.#preemptions += paused.length + evicted.length;
      if (rows.length === 0) {
        const next = this.#nextEventMs();
        if (next === null) break;
        this.#nowMs = next;
        continue;
      }
      const durationMs = stepMs(this.#options.costs, work) + this.#bankMs(rows) + this.#stolenMs;
      this.#stolenMs = 0;
      this.#nowMs += durationMs;
      this.#steps += 1;
      this.#costs.learn(work, durationMs);
      this.#scheduler.update(rows);
      for (const row of rows) this.#draw(row);
    }
    return {
      records: this.#records.slice(0, this.#arrived),
      steps: this.#steps,
      preemptions: this.#preemptions,
      redoneTokens: this.#redoneTokens,
      endMs: this.#nowMs,
    };
  }

  #arrive(): void {
    const { streams } = this.#options;
    for (; this.#arrived < this.#records.length; this.#arrived += 1) {
      const record = this.#record(this.#arrived);
      if (streams === undefined ? record.request.atMs > this.#nowMs : this.#live >= streams) return;
      if (streams !== undefined) record.request = { ...record.request, atMs: this.#nowMs };
      this.#submit(this.#arrived, record.request);
    }
  }

  #submit(key: number, request: TraceRequest): void {
    const { client, priority, adapter, promptTokens, maxTokens, atMs } = request;
    const { targets, maxWaitPercent } = this.#options;
    const spec = {
      key,
      tenantId: client,
      priority,
      adapters: adapter === null ? [] : [adapter],
      arrivedMs: atMs,
      promptTokens,
      maxTokens,
      kvBytes: promptTokens + maxTokens,
    };
    const late = refusal(priority, this.#scheduler.forecast(spec), targets, maxWaitPercent);
    try {
      if (late === null) this.#scheduler.enqueue(spec);
    } catch (error) {
      if (!(error instanceof PatchbayError)) throw error;
      this.#record(key).refused = true;
      return;
    }
    this.#record(key).refused = late !== null;
    if (late === null) this.#live += 1;
    if (late === null && adapter !== null) this.#load(key, adapter);
  }

  #load(key: number, adapter: string): void {
    const { loadMs } = this.#options.adapters;
    if (this.#host.use(adapter)) {
      this.#ready(key, adapter, 0);
      return;
    }
    this.#loaderFreeMs = Math.max(this.#loaderFreeMs, this.#nowMs) + loadMs;
    this.#record(key).loaded = true;
    this.#loads.push({ readyMs: this.#loaderFreeMs, key });
  }

  #land(): void {
    for (; this.#loaded < this.#loads.length; this.#loaded += 1) {
      const load = this.#loads[this.#loaded];
      if (load === undefined || load.readyMs > this.#nowMs) return;
      this.#stolenMs += this.#options.adapters.loadStepMs ?? 0;
      const { adapter } = this.#record(load.key).request;
      if (adapter !== null) this.#ready(load.key, adapter, this.#options.adapters.bytes);
    }
  }

  #ready(key: number, digest: string, bytesLoaded: number): void {
    this.#scheduler.adaptersReady(key, [{ digest, pages: this.#options.adapters.pages }], bytesLoaded);
  }

  /** Copying what the step needs and the bank lacks. */
  #bankMs(rows: readonly PlannedRow[]): number {
    const { pages, bankPageMs } = this.#options.adapters;
    let missing = 0;
    for (const adapter of new Set(rows.map(({ key }) => this.#record(key).request.adapter))) {
      if (adapter !== null && !this.#bank.use(adapter)) missing += pages;
    }
    return missing * bankPageMs;
  }

  #draw({ key, redone, wantsLogits }: PlannedRow): void {
    this.#redoneTokens += redone;
    if (!wantsLogits) return;
    const record = this.#record(key);
    record.tokens += 1;
    record.firstMs ??= this.#nowMs;
    const lastMs = this.#lastMs.get(key);
    this.#options.onToken?.(this.#nowMs, lastMs === undefined ? null : this.#nowMs - lastMs);
    this.#lastMs.set(key, this.#nowMs);
    if (record.tokens < record.request.newTokens) return;
    record.endMs = this.#nowMs;
    this.#live -= 1;
    this.#lastMs.delete(key);
    this.#scheduler.finish(key);
  }

  #nextEventMs(): number | null {
    // In a closed loop whoever may come has come.
    const arrival =
      this.#options.streams === undefined ? this.#records[this.#arrived]?.request.atMs : undefined;
    const load = this.#loads[this.#loaded]?.readyMs;
    const next = Math.min(arrival ?? Number.POSITIVE_INFINITY, load ?? Number.POSITIVE_INFINITY);
    return Number.isFinite(next) ? next : null;
  }

  #record(key: number): SimRecord {
    const record = this.#records[key];
    invariant(record !== undefined, `request ${key} is in the trace`);
    return record;
  }
}

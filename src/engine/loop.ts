import type { Clock } from '../kernel/clock.ts';
import { PatchbayError, toPatchbayError } from '../kernel/errors.ts';
import { AdapterCache } from './adapter-cache.ts';
import { carryOut } from './carry-out.ts';
import type { ClassTargets } from './classes.ts';
import { DEFAULT_STEP_COSTS, StepCostModel, type StepWork } from './cost-model.ts';
import { Signal } from './deferred.ts';
import { refusal } from './forecast.ts';
import { type Arrival, caughtUp, type Live, LiveSet } from './live.ts';
import { classTargets, type EngineOptions, engineOptions } from './options.ts';
import { namedPolicy } from './policies/named.ts';
import type {
  AdapterUse,
  Engine,
  EngineInfo,
  EngineStatus,
  ProbeResult,
  ResidencyHour,
  SequenceEvent,
  SequenceRequest,
} from './port.ts';
import { PrefixStore, prefixOwner } from './prefix/prefix-store.ts';
import { findPrefix, keepPrefixes } from './prefix/sequence-prefix.ts';
import { createProbe, PROBE_TENANT } from './probe.ts';
import { ResidencyMeter } from './residency.ts';
import { retryAfter } from './retry-after.ts';
import type { AdapterLoader, StepRunner, StreamDecoderFactory } from './runner.ts';
import { createSampler, type Sampler } from './sampler.ts';
import { Scheduler, type SequenceSpec } from './scheduler.ts';
import { type Consumer, Generation } from './sequence.ts';
import { engineStatus } from './status.ts';
import { engineFailure, runStep, type StepRow } from './step.ts';
import { RecentSteps } from './step-times.ts';
import { validatePrompt, validateSequenceRequest } from './validate.ts';

export interface InlineEngineDeps {
  /** Owned by the engine from here on: disposed of by `close`. */
  readonly runner: StepRunner;
  /** Owned by the engine from here on: closed by `close`. */
  readonly loader: AdapterLoader;
  readonly decoderFactory: StreamDecoderFactory;
  readonly clock: Clock;
  readonly backboneDigest: string;
  readonly eosTokenIds: readonly number[];
  /** A tenant's share relative to others' under fair scheduling, positive; 1 for everyone by default. */
  readonly tenantWeight?: (tenantId: string) => number;
  /** Chooses tokens in the place of the engine's own sampler, for whoever wants to see what they are chosen from. */
  readonly sampler?: Sampler;
  /** Told of internal failures, for the log; their text may hold what callers must not see. */
  readonly report?: (error: unknown) => void;
}

/**
 * The engine in the calling thread. Between steps it yields to the event loop, so that submissions, cancellations and
 * loaded adapters come in; a step itself blocks the thread for as long as the runner does, which is why the server
 * puts the engine into a worker (see thread/).
 *
 * @throws PatchbayError `CONFIG_INVALID` for an option out of range
 */
export function createInlineEngine(options: Partial<EngineOptions>, deps: InlineEngineDeps): Engine {
  return new InlineEngine(engineOptions(options), deps);
}

class InlineEngine implements Engine {
  readonly info: EngineInfo;
  readonly #options: EngineOptions;
  readonly #deps: InlineEngineDeps;
  readonly #report: (error: unknown) => void;
  readonly #targets: ClassTargets;
  readonly #costs: StepCostModel;
  readonly #scheduler: Scheduler;
  readonly #cache: AdapterCache;
  readonly #residency: ResidencyMeter;
  readonly #prefixes: PrefixStore;
  readonly #sampler: Sampler;
  readonly #recent: RecentSteps;
  readonly #live: LiveSet;
  readonly #wake = new Signal();
  readonly #finished: Promise<void>;
  #closed: Promise<void> | null = null;
  #nextKey = 0;
  #probes = 0;
  #steps = 0;
  #tokensGenerated = 0;

  constructor(options: EngineOptions, deps: InlineEngineDeps) {
    const { runner } = deps;
    this.#options = options;
    this.#deps = deps;
    this.#report = deps.report ?? (() => {});
    const { kvBudgetBytes, bankPages, bankPageBytes } = runner;
    this.#targets = classTargets(options);
    const fullStep = { decodeRows: options.maxBatch, prefillTokens: 0, pages: 0, contextTokens: 0 };
    this.#costs = new StepCostModel(DEFAULT_STEP_COSTS, fullStep);
    this.#scheduler = new Scheduler(
      { ...options, kvBudgetBytes, bankPages },
      {
        policy: namedPolicy(
          options.scheduling,
          deps.tenantWeight === undefined ? {} : { weightOf: deps.tenantWeight },
        ),
        targets: this.#targets,
        costs: this.#costs,
        prefixTokens: (key) => findPrefix(this.#live.get(key), this.#prefixes),
      },
    );
    this.#prefixes = new PrefixStore(options, runner.snapshots);
    this.#residency = new ResidencyMeter(options.hostCacheBytes + bankPages * bankPageBytes, deps.clock);
    this.#cache = new AdapterCache(options, { ...deps, residency: this.#residency });
    this.#live = new LiveSet({
      runner,
      scheduler: this.#scheduler,
      cache: this.#cache,
      clock: deps.clock,
      report: this.#report,
      changed: () => this.#wake.notify(),
    });
    this.#sampler = deps.sampler ?? createSampler(runner.shape.vocabSize);
    this.#recent = new RecentSteps(options.recentSteps);
    this.info = {
      backboneDigest: deps.backboneDigest,
      shape: runner.shape,
      maxContext: runner.maxContext,
      maxRank: options.maxRank,
      maxBlend: options.maxBlend,
      eosTokenIds: deps.eosTokenIds,
    };
    this.#finished = this.#loop();
  }

  async submit(request: SequenceRequest, onEvent: (event: SequenceEvent) => void): Promise<void> {
    this.#refuseWhenClosing();
    validateSequenceRequest(this.info, request, this.#options);
    if (this.#live.byId(request.id) !== undefined) {
      throw new PatchbayError('BAD_INPUT', 'A live sequence has this id.', { field: 'id' });
    }
    const consumer = new Generation(request, {
      sampler: this.#sampler,
      decoder: this.#deps.decoderFactory(),
      eosTokenIds: this.info.eosTokenIds,
      maxContext: this.info.maxContext,
      onEvent,
    });
    const { tenantId, priority, adapters, promptIds } = request;
    const owner = prefixOwner(tenantId, this.info.backboneDigest, adapters);
    const cachedTokens = this.#prefixes.expected(owner, promptIds);
    const who = { tenantId, priority, cachedTokens };
    const spec = this.#spec(who, promptIds.length, request.stop.maxTokens, adapters);
    this.#refuseLate(spec);
    this.#accept({ spec, id: request.id, consumer, uses: adapters, owner });
  }

  cancel(id: string): void {
    const live = this.#live.byId(id);
    if (live !== undefined) this.#live.decide(live, { reason: 'cancelled' });
  }

  async probe(digest: string, promptIds: readonly number[]): Promise<ProbeResult> {
    this.#refuseWhenClosing();
    validatePrompt(this.info, promptIds);
    if (promptIds.length >= this.info.maxContext) {
      throw new PatchbayError('PROMPT_TOO_LONG', 'The probe exceeds the context.', { field: 'promptIds' });
    }
    if (this.#probes >= this.#options.maxProbes) {
      throw new PatchbayError('ENGINE_FULL', 'Too many probes at once.', {
        meta: { maxProbes: this.#options.maxProbes, retryAfterMs: this.#retryAfterMs() },
      });
    }
    this.#probes += 1;
    const probe = createProbe([...promptIds]);
    const halves: Live[] = [];
    try {
      for (const [consumer, uses] of [
        [probe.plain, []],
        [probe.adapted, [{ digest, weight: 1 }]],
      ] satisfies [Consumer, AdapterUse[]][]) {
        const spec = this.#spec({ tenantId: PROBE_TENANT, priority: 'STANDARD' }, promptIds.length, 1, uses);
        halves.push(this.#accept({ spec, id: null, consumer, uses, owner: null }));
      }
      return await probe.result;
    } finally {
      // If one half failed or was refused, the other is of no use.
      for (const half of halves) this.#live.decide(half, { reason: 'cancelled' });
      probe.result.catch(() => {});
      this.#probes -= 1;
    }
  }

  async status(): Promise<EngineStatus> {
    const parts = {
      options: this.#options,
      runner: this.#deps.runner,
      scheduler: this.#scheduler,
      cache: this.#cache,
      prefixes: this.#prefixes,
      recent: this.#recent,
    };
    return engineStatus(parts, { steps: this.#steps, tokensGenerated: this.#tokensGenerated });
  }

  async drainResidency(): Promise<readonly ResidencyHour[]> {
    return this.#residency.drain();
  }

  async close({ graceMs }: { readonly graceMs: number }): Promise<void> {
    this.#closed ??= this.#finished.then(async () => {
      await this.#cache.close();
      await this.#deps.runner.dispose();
    });
    const cancelAll = (): void => this.#live.decideAll({ reason: 'cancelled' });
    const timer = setTimeout(cancelAll, graceMs);
    if (graceMs <= 0) cancelAll();
    this.#wake.notify();
    try {
      await this.#closed;
    } finally {
      clearTimeout(timer);
    }
  }

  #refuseWhenClosing(): void {
    if (this.#closed !== null) throw new PatchbayError('SHUTTING_DOWN', 'The engine is closing.');
  }

  #spec(
    who: Pick<SequenceSpec, 'tenantId' | 'priority' | 'cachedTokens'>,
    promptTokens: number,
    maxTokens: number,
    uses: readonly AdapterUse[],
  ): SequenceSpec {
    return {
      ...who,
      key: this.#nextKey++,
      adapters: uses.map((use) => use.digest),
      arrivedMs: this.#deps.clock.monotonicMs(),
      promptTokens,
      maxTokens,
      kvBytes: this.#deps.runner.kvBytes(promptTokens + maxTokens),
    };
  }

  /** Refuses at once what would come too late, so that the caller can go elsewhere and others are not delayed. */
  #refuseLate(spec: SequenceSpec): void {
    const predicted = this.#scheduler.forecast(spec);
    const lateMs = refusal(spec.priority, predicted, this.#targets, this.#options.maxWaitPercent);
    if (lateMs === null) return;
    throw new PatchbayError('ENGINE_FULL', 'The request would wait longer than its class allows.', {
      meta: { predictedWaitMs: Math.ceil(predicted.waitMs), retryAfterMs: retryAfter(lateMs) },
    });
  }

  #accept(arrival: Arrival): Live {
    try {
      return this.#live.accept(arrival);
    } catch (error) {
      const refusal = toPatchbayError(error);
      if (refusal.code !== 'ENGINE_FULL') throw refusal;
      const meta = { ...refusal.meta, retryAfterMs: this.#retryAfterMs() };
      throw new PatchbayError('ENGINE_FULL', refusal.message, { meta });
    }
  }

  async #loop(): Promise<void> {
    for (;;) {
      await new Promise(setImmediate);
      this.#live.reap();
      if (this.#closed !== null && this.#live.size === 0) return;
      try {
        const startMs = this.#deps.clock.monotonicMs();
        const plan = this.#scheduler.schedule(startMs);
        const deps = { ...this.#deps, prefixes: this.#prefixes, report: this.#report };
        const rows = carryOut(plan, startMs, this.#live, deps);
        if (rows.length > 0) await this.#step(rows, plan.work, startMs);
        else await this.#wake.wait();
      } catch (cause) {
        // Only a defect of the engine itself leads here. Its books can no longer be trusted, so everyone ends.
        this.#report(cause);
        this.#live.decideAll({ reason: 'error', error: engineFailure(cause) });
      }
    }
  }

  async #step(rows: readonly StepRow[], work: StepWork, startMs: number): Promise<void> {
    for (const { live, planned } of rows) if (planned.tokens > planned.redone) caughtUp(live, startMs);
    const times = await runStep(rows, startMs, { ...this.#deps, report: this.#report });
    this.#residency.observeBank(this.#deps.runner);
    this.#steps += 1;
    if (times !== null) {
      this.#recent.add(times);
      this.#costs.learn(work, times.total);
      this.#scheduler.update(rows.map(({ planned }) => planned));
    }
    for (const { live } of rows) {
      try {
        this.#tokensGenerated += live.consumer.publish(live.cachedPromptTokens);
      } catch (error) {
        // Nobody listens any more, so nobody needs the rest.
        this.#report(error);
        this.#live.decide(live, { reason: 'cancelled' });
      }
    }
    if (times !== null) keepPrefixes(rows, this.#prefixes, this.#report);
    this.#live.reap();
  }

  #retryAfterMs(): number {
    return retryAfter(this.#scheduler.stepsUntilRoom() * this.#costs.recentMs);
  }
}

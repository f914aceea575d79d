import type { Clock } from '../kernel/clock.ts';
import { toPatchbayError } from '../kernel/errors.ts';
import { PRIORITY_CLASSES } from '../kernel/priority.ts';
import type { AdapterCache, AdapterLease } from './adapter-cache.ts';
import type { AdapterUse } from './port.ts';
import type { PrefixOwner } from './prefix/prefix-index.ts';
import type { PrefixHit } from './prefix/prefix-store.ts';
import type { PackedAdapter, RowWork, StepRunner } from './runner.ts';
import type { Scheduler, SequenceSpec } from './scheduler.ts';
import type { Consumer, Figures, Outcome } from './sequence.ts';

/** What the loop holds for an accepted sequence until it ends. */
export interface Live {
  readonly spec: SequenceSpec;
  /** Request id; null for a probe. */
  readonly id: string | null;
  readonly consumer: Consumer;
  readonly uses: readonly AdapterUse[];
  readonly lease: AdapterLease | null;
  /** Who may share its prefixes; null for what neither uses nor leaves any. */
  readonly owner: PrefixOwner | null;
  /** Adapters with weights, once they are in memory. */
  adapters: RowWork['adapters'];
  /** Runner's handle while it runs. */
  row: number | null;
  /** What its row is to begin with, from the plan that starts it until that is carried out. */
  prefix: PrefixHit | null;
  /** How much of the prompt its first start found. */
  cachedPromptTokens: number;
  /** Set as soon as its end is certain; it is reported and freed between steps. */
  outcome: Outcome | null;
  startedMs: number | null;
  firstDrawMs: number | null;
  /** Since when it has been preempted and has not got back to where it was. */
  preemptedMs: number | null;
  /** Milliseconds that preemptions took from it before and after its first token. */
  lostMs: { prefill: number; decode: number };
  computeMs: number;
  /** What its steps ran with; null before the first. */
  executed: RowWork['adapters'] | null;
}

/** Notes that a sequence was preempted; if it had not caught up since the last time, the loss goes on. */
export function preempted(live: Live, nowMs: number): void {
  live.preemptedMs ??= nowMs;
}

/** Notes that a sequence goes on where it was preempted: nothing of this step was done before. */
export function caughtUp(live: Live, nowMs: number): void {
  if (live.preemptedMs === null) return;
  live.lostMs[live.firstDrawMs === null ? 'prefill' : 'decode'] += nowMs - live.preemptedMs;
  live.preemptedMs = null;
}

/**
 * Splits a sequence's life at its start and its first token; all times monotonic, in milliseconds. What a preemption
 * took, and the time until its work was done again, is time in the queue.
 */
export function figures(live: Live, nowMs: number): Figures {
  const started = live.startedMs ?? nowMs;
  const first = live.firstDrawMs ?? nowMs;
  caughtUp(live, nowMs);
  const { prefill, decode } = live.lostMs;
  return {
    queueMs: started - live.spec.arrivedMs + prefill + decode,
    prefillMs: first - started - prefill,
    decodeMs: nowMs - first - decode,
    computeMs: live.computeMs,
    bytesLoaded: live.lease?.bytesLoaded ?? 0,
    cachedPromptTokens: live.cachedPromptTokens,
    executed: live.executed?.map(({ adapter, weight }) => ({ digest: adapter.digest, weight })) ?? null,
  };
}

export interface LiveSetDeps {
  readonly scheduler: Scheduler;
  readonly cache: AdapterCache;
  readonly runner: StepRunner;
  readonly clock: Clock;
  readonly report: (error: unknown) => void;
  /** Called when there may be something new for the loop to do. */
  readonly changed: () => void;
}

/** A sequence to take in. */
export interface Arrival {
  readonly spec: SequenceSpec;
  readonly id: string | null;
  readonly consumer: Consumer;
  readonly uses: readonly AdapterUse[];
  readonly owner: PrefixOwner | null;
}

/**
 * Every accepted sequence that has not ended. All ends go through {@link LiveSet.decide} and
 * {@link LiveSet.reap}, which is what makes them happen exactly once and free everything.
 */
export class LiveSet {
  readonly #deps: LiveSetDeps;
  /** By key, in order of arrival; bounded by the scheduler's queue and rows. */
  readonly #live = new Map<number, Live>();
  readonly #keys = new Map<string, number>();

  constructor(deps: LiveSetDeps) {
    this.#deps = deps;
  }

  get size(): number {
    return this.#live.size;
  }

  get(key: number): Live | undefined {
    return this.#live.get(key);
  }

  byId(id: string): Live | undefined {
    const key = this.#keys.get(id);
    return key === undefined ? undefined : this.#live.get(key);
  }

  /**
   * Queues a sequence and starts to load its adapters.
   *
   * @throws PatchbayError what {@link Scheduler.enqueue} refuses with; nothing is kept then
   */
  accept({ spec, id, consumer, uses, owner }: Arrival): Live {
    this.#deps.scheduler.enqueue(spec);
    const urgency = PRIORITY_CLASSES.indexOf(spec.priority);
    const lease =
      uses.length === 0 ? null : this.#deps.cache.acquire(spec.adapters, spec.tenantId, { urgency });
    const live: Live = {
      spec,
      id,
      consumer,
      uses,
      lease,
      owner,
      adapters: [],
      row: null,
      prefix: null,
      cachedPromptTokens: 0,
      outcome: null,
      startedMs: null,
      firstDrawMs: null,
      preemptedMs: null,
      lostMs: { prefill: 0, decode: 0 },
      computeMs: 0,
      executed: null,
    };
    this.#live.set(spec.key, live);
    if (id !== null) this.#keys.set(id, spec.key);
    lease?.ready.then(
      (adapters) => this.#adaptersReady(live, adapters),
      (error: unknown) => this.decide(live, { reason: 'error', error: toPatchbayError(error) }),
    );
    this.#deps.changed();
    return live;
  }

  /** Fixes how a sequence ends; the first decision stands. {@link LiveSet.reap} carries it out. */
  decide(live: Live, outcome: Outcome): void {
    live.outcome ??= outcome;
    this.#deps.changed();
  }

  decideAll(outcome: Outcome): void {
    for (const live of this.#live.values()) this.decide(live, outcome);
  }

  /** Ends every sequence whose outcome is certain: first everything is freed, then it learns of its end. */
  reap(): void {
    for (const live of [...this.#live.values()]) {
      if (live.outcome === null) continue;
      const outcome = live.outcome;
      this.#live.delete(live.spec.key);
      if (live.id !== null) this.#keys.delete(live.id);
      this.#guarded(() => this.#deps.scheduler.cancel(live.spec.key));
      this.#guarded(() => {
        if (live.row !== null) this.#deps.runner.close(live.row);
      });
      this.#guarded(() => live.lease?.release());
      this.#guarded(() => live.consumer.end(outcome, figures(live, this.#deps.clock.monotonicMs())));
    }
  }

  #adaptersReady(live: Live, adapters: readonly PackedAdapter[]): void {
    if (live.outcome !== null) return;
    try {
      const pages = adapters.map((adapter) => ({ digest: adapter.digest, pages: adapter.pages.length }));
      this.#deps.scheduler.adaptersReady(live.spec.key, pages, live.lease?.bytesLoaded ?? 0);
      live.adapters = adapters.map((adapter, index) => ({ adapter, weight: live.uses[index]?.weight ?? 0 }));
    } catch (error) {
      this.decide(live, { reason: 'error', error: toPatchbayError(error) });
    }
    this.#deps.changed();
  }

  #guarded(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.#deps.report(error);
    }
  }
}

import { invariant, PatchbayError } from '../kernel/errors.ts';
import { Capacity, type CapacityUse } from './capacity.ts';
import { firstComeFirstServed, type SchedulingPolicy, type SequenceView } from './policy.ts';
import { planRows } from './step-plan.ts';

/** Bounds that every plan keeps. */
export interface SchedulerLimits {
  readonly maxBatch: number;
  readonly prefillTokensPerStep: number;
  readonly maxQueue: number;
  readonly maxBypass: number;
  readonly maxPrefillStall: number;
  readonly kvBudgetBytes: number;
  readonly bankPages: number;
}

/** A sequence as it is handed to the scheduler. */
export interface SequenceSpec
  extends Pick<
    SequenceView,
    'key' | 'tenantId' | 'priority' | 'adapters' | 'arrivedMs' | 'promptTokens' | 'maxTokens'
  > {
  /** KV bytes of prompt plus all tokens that it may generate; reserved when it starts. */
  readonly kvBytes: number;
}

/** An adapter's share of the bank. */
export interface AdapterPages {
  readonly digest: string;
  readonly pages: number;
}

/** One row of a step. */
export interface PlannedRow {
  readonly key: number;
  /** How many of the sequence's known tokens to process, after the `past` ones. */
  readonly tokens: number;
  readonly past: number;
  /** True when these are the last known tokens, so that the next one can be drawn. */
  readonly wantsLogits: boolean;
}

/** What to do in the next step; data only. */
export interface StepPlan {
  /** Keys that start now: their KV rows must be opened before the step runs. */
  readonly started: readonly number[];
  /** Decode rows first, then prefill; empty when nothing can run. */
  readonly rows: readonly PlannedRow[];
}

/** The scheduler's own record of a sequence. */
export interface Entry extends SequenceSpec {
  state: 'pending' | 'waiting' | 'running';
  pages: readonly AdapterPages[];
  processed: number;
  known: number;
  bypassed: number;
  stalled: number;
}

export interface SchedulerCounts extends CapacityUse {
  /** Ready and waiting for room. */
  readonly waiting: number;
  /** Waiting for adapters to be loaded. */
  readonly pending: number;
  readonly running: number;
}

/**
 * Decides which sequences run and how much of each a step processes. Synchronous; knows no model, clock or I/O.
 *
 * A sequence is *pending* until its adapters are in memory, *waiting* until it gets a row, KV room and bank pages,
 * and *running* until it ends. Pending sequences are outside the queue's order, so a slow load delays nobody else.
 *
 * Starvation bound: a sequence that was bypassed by `maxBypass` later arrivals while it was waiting goes to
 * the front, and nobody behind it starts before it does. So it is bypassed at most `maxBypass` times, whatever the
 * policy prefers and however large it is; the running sequences end and make room.
 */
export class Scheduler {
  readonly #limits: SchedulerLimits;
  readonly #policy: SchedulingPolicy;
  readonly #entries = new Map<number, Entry>();
  readonly #capacity: Capacity;

  constructor(limits: SchedulerLimits, policy: SchedulingPolicy = firstComeFirstServed()) {
    this.#limits = limits;
    this.#policy = policy;
    this.#capacity = new Capacity(limits);
  }

  /** Whether the queue (waiting and pending together) has reached its bound. */
  get full(): boolean {
    const { waiting, pending } = this.counts();
    return waiting + pending >= this.#limits.maxQueue;
  }

  /**
   * Accepts a sequence: waiting if it names no adapters, pending otherwise.
   *
   * @throws PatchbayError `ENGINE_FULL` at the queue's bound; `ENGINE_TOO_LARGE` if it would not fit alone.
   */
  enqueue(spec: SequenceSpec): void {
    invariant(!this.#entries.has(spec.key), 'a sequence is enqueued once');
    if (spec.kvBytes > this.#limits.kvBudgetBytes) {
      throw new PatchbayError('ENGINE_TOO_LARGE', 'The request needs more KV cache than the engine has.', {
        meta: { kvBytes: spec.kvBytes, kvBudgetBytes: this.#limits.kvBudgetBytes },
      });
    }
    if (this.full) {
      throw new PatchbayError('ENGINE_FULL', 'The queue of the engine is full.', {
        meta: { maxQueue: this.#limits.maxQueue },
      });
    }
    const state = spec.adapters.length === 0 ? 'waiting' : 'pending';
    const entry: Entry = {
      ...spec,
      state,
      pages: [],
      processed: 0,
      known: spec.promptTokens,
      bypassed: 0,
      stalled: 0,
    };
    this.#entries.set(spec.key, entry);
    this.#policy.observe({ kind: 'arrived', sequence: entry });
  }

  /**
   * Says that a pending sequence's adapters are in memory. The caller keeps them there until the sequence ends.
   *
   * @throws PatchbayError `ENGINE_TOO_LARGE` if they do not fit into the bank even alone; it stays pending then.
   */
  adaptersReady(key: number, pages: readonly AdapterPages[]): void {
    const entry = this.#entry(key);
    invariant(entry.state === 'pending', 'adapters become ready once');
    const needed = pages.reduce((sum, adapter) => sum + adapter.pages, 0);
    if (needed > this.#limits.bankPages) {
      throw new PatchbayError('ENGINE_TOO_LARGE', 'The adapters of the request do not fit into the bank.', {
        meta: { pages: needed, bankPages: this.#limits.bankPages },
      });
    }
    entry.pages = pages;
    entry.state = 'waiting';
  }

  /** Plans the next step and starts sequences; what it planned must be reported with {@link update}. */
  schedule(nowMs: number): StepPlan {
    const started = this.#admit(nowMs);
    return { started, rows: planRows(this.#inState('running'), this.#limits, this.#policy, nowMs) };
  }

  /** Takes note of rows that were run. Rows that wanted logits have one more known token. */
  update(rows: readonly PlannedRow[]): void {
    for (const row of rows) {
      const entry = this.#entry(row.key);
      invariant(entry.state === 'running' && entry.processed === row.past, 'a row continues its sequence');
      const prefill = row.past < entry.promptTokens;
      entry.processed += row.tokens;
      if (row.wantsLogits) entry.known += 1;
      this.#policy.observe({ kind: 'processed', sequence: entry, tokens: row.tokens, prefill });
    }
  }

  /** Removes a running sequence and frees what it held. */
  finish(key: number): void {
    invariant(this.#entry(key).state === 'running', 'only a running sequence finishes');
    this.#remove(key);
  }

  /** Removes a sequence in any state and frees what it held; unknown keys are ignored. */
  cancel(key: number): void {
    if (this.#entries.has(key)) this.#remove(key);
  }

  counts(): SchedulerCounts {
    const counts = { waiting: 0, pending: 0, running: 0 };
    for (const entry of this.#entries.values()) counts[entry.state]++;
    return { ...counts, ...this.#capacity.use() };
  }

  /**
   * How many steps until a running sequence has surely ended, as an estimate of when there is room: 0 when nothing
   * runs. Stop rules may end one earlier.
   */
  stepsUntilRoom(): number {
    let least = Number.POSITIVE_INFINITY;
    for (const entry of this.#inState('running')) {
      const prefillSteps = Math.ceil(
        (entry.promptTokens - entry.processed) / this.#limits.prefillTokensPerStep,
      );
      const decodeSteps = entry.promptTokens + entry.maxTokens - entry.known;
      least = Math.min(least, Math.max(0, prefillSteps) + decodeSteps);
    }
    return Number.isFinite(least) ? least : 0;
  }

  #admit(nowMs: number): number[] {
    const started: number[] = [];
    let waiting = this.#inState('waiting');
    while (waiting.length > 0 && this.#capacity.rowsFree > 0) {
      const next = this.#nextToStart(waiting, nowMs);
      if (next === undefined) break;
      this.#capacity.take(next);
      next.state = 'running';
      started.push(next.key);
      waiting = waiting.filter((entry) => entry !== next);
      for (const entry of waiting) if (entry.key < next.key) entry.bypassed++;
      this.#policy.observe({ kind: 'started', sequence: next });
    }
    return started;
  }

  #nextToStart(waiting: readonly Entry[], nowMs: number): Entry | undefined {
    // Those bypassed too often go first, in order of arrival; if the first of them does not fit, nobody starts.
    const overdue = waiting.find((entry) => entry.bypassed >= this.#limits.maxBypass);
    if (overdue !== undefined) return this.#capacity.fits(overdue) ? overdue : undefined;
    for (const view of this.#policy.admissionOrder(waiting, nowMs)) {
      const entry = this.#entry(view.key);
      if (this.#capacity.fits(entry)) return entry;
    }
    return undefined;
  }

  #remove(key: number): void {
    const entry = this.#entry(key);
    if (entry.state === 'running') this.#capacity.release(entry);
    this.#entries.delete(key);
    this.#policy.observe({ kind: 'ended', sequence: entry });
  }

  /** Entries in one state, in order of arrival: keys rise and the map keeps the order of insertion. */
  #inState(state: Entry['state']): Entry[] {
    const found: Entry[] = [];
    for (const entry of this.#entries.values()) if (entry.state === state) found.push(entry);
    return found;
  }

  #entry(key: number): Entry {
    const entry = this.#entries.get(key);
    invariant(entry !== undefined, `sequence ${key} is known`);
    return entry;
  }
}

import { invariant, PatchbayError } from '../kernel/errors.ts';
import { Appraisal, pagesOf } from './appraisal.ts';
import { Capacity } from './capacity.ts';
import { type ClassTargets, NO_TARGETS } from './classes.ts';
import { DEFAULT_STEP_COSTS, StepCostModel } from './cost-model.ts';
import { ClassDemand } from './demand.ts';
import {
  type AdapterPages,
  cachedBy,
  demandOf,
  type Entry,
  heldBy,
  pausable,
  type SequenceSpec,
  stepsLeft,
} from './entry.ts';
import { type Forecast, forecast } from './forecast.ts';
import { Moves, type StepPlan } from './plan.ts';
import { firstComeFirstServed } from './policies/ordered.ts';
import { QueuePlaces } from './queue-share.ts';
import type { SchedulerCounts, SchedulerDeps, SchedulerLimits } from './scheduler-types.ts';
import { SERVICE_WEIGHTS } from './service-cost.ts';
import { Starts } from './starts.ts';
import { type PlannedRow, planRows } from './step-plan.ts';
import { StepUse } from './step-work.ts';

export type { AdapterPages, SequenceSpec } from './entry.ts';
export type { StepPlan } from './plan.ts';
export type { SchedulerCounts, SchedulerDeps, SchedulerLimits } from './scheduler-types.ts';
export type { PlannedRow } from './step-plan.ts';

/**
 * Decides which sequences run and how much of each a step processes. Synchronous; knows no model, clock or I/O.
 *
 * A sequence is *pending* until its adapters are in memory, *waiting* until it gets a row, KV room and bank pages,
 * and *running* until it ends or is preempted, which makes it wait again. Pending sequences are outside the queue's
 * order, so a slow load delays nobody else. {@link Starts} says who starts and why nobody starves.
 */
export class Scheduler {
  readonly #limits: SchedulerLimits;
  readonly #targets: ClassTargets;
  readonly #costs: StepCostModel;
  readonly #appraisal: Appraisal;
  readonly #entries = new Map<number, Entry>();
  /** In order of their start. */
  #running: Entry[] = [];
  /** Preempted and not running again; some hold KV. */
  readonly #preempted = new Set<Entry>();
  readonly #capacity: Capacity;
  readonly #places: QueuePlaces;
  readonly #starts: Starts;
  readonly #prefixTokens: (key: number) => number;
  #pending = 0;
  readonly #use = new StepUse();
  readonly #demand = new ClassDemand();
  /** Running mean of how much of its tokens a sequence generated before a stop rule ended it. */
  #completion = 1;

  constructor(limits: SchedulerLimits, deps: SchedulerDeps = {}) {
    this.#limits = limits;
    this.#targets = deps.targets ?? NO_TARGETS;
    this.#costs =
      deps.costs ??
      new StepCostModel(DEFAULT_STEP_COSTS, {
        decodeRows: limits.maxBatch,
        prefillTokens: 0,
        pages: 0,
        contextTokens: 0,
      });
    this.#appraisal = new Appraisal(limits, {
      targets: this.#targets,
      costs: this.#costs,
      weights: deps.weights ?? SERVICE_WEIGHTS,
    });
    this.#capacity = new Capacity(limits);
    this.#places = new QueuePlaces(limits);
    this.#prefixTokens = deps.prefixTokens ?? (() => 0);
    this.#starts = new Starts(limits, deps.policy ?? firstComeFirstServed, {
      capacity: this.#capacity,
      costs: this.#costs,
      entry: (view) => this.#entry(view.key),
      running: () => this.#running,
      paused: () => [...this.#preempted].filter((entry) => entry.holdsKv),
    });
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
    this.#places.take(spec.tenantId);
    const entry = this.#appraisal.entry(spec);
    this.#entries.set(spec.key, entry);
    this.#demand.accepted(spec.priority, entry.rowMs * this.#completion, spec.arrivedMs);
    if (entry.state === 'waiting') this.#starts.add(entry);
    else this.#pending += 1;
  }

  /**
   * Says that a pending sequence's adapters are in memory. The caller keeps them there until the sequence ends.
   *
   * @param bytesLoaded how much had to be loaded for it; its tenant is charged for that
   * @throws PatchbayError `ENGINE_TOO_LARGE` if they do not fit into the bank even alone; it stays pending then.
   */
  adaptersReady(key: number, pages: readonly AdapterPages[], bytesLoaded = 0): void {
    const entry = this.#entry(key);
    invariant(entry.state === 'pending', 'adapters become ready once');
    const needed = pagesOf(pages);
    if (needed > this.#limits.bankPages) {
      throw new PatchbayError('ENGINE_TOO_LARGE', 'The adapters of the request do not fit into the bank.', {
        meta: { pages: needed, bankPages: this.#limits.bankPages },
      });
    }
    entry.pages = pages;
    entry.bytesLoaded = bytesLoaded;
    entry.serviceCost = this.#appraisal.serviceLeft(entry);
    entry.state = 'waiting';
    this.#pending -= 1;
    this.#starts.add(entry);
  }

  /** Plans the next step, starts and preempts; what it planned must be reported with {@link update}. */
  schedule(nowMs: number): StepPlan {
    const moved = new Moves();
    for (let start = this.#starts.next(nowMs); start !== null; start = this.#starts.next(nowMs)) {
      for (const entry of start.pause) this.#preempt(entry, true, moved);
      for (const entry of start.evict) this.#preempt(entry, false, moved);
      if (start.entry !== undefined) this.#start(start.entry, start.aged, moved, nowMs);
    }
    const rows = planRows(this.#running, this.#limits, this.#targets, this.#costs.costs);
    const work = this.#use.describe(rows, (key) => this.#entry(key));
    return moved.plan(rows, work);
  }

  /** Takes note of rows that were run. Rows that wanted logits have one more known token. */
  update(rows: readonly PlannedRow[]): void {
    for (const row of rows) {
      const entry = this.#entry(row.key);
      invariant(entry.state === 'running' && entry.processed === row.past, 'a row continues its sequence');
      // The prompt was charged at the start, and what is done again is nobody's service.
      const generated = row.past >= entry.promptTokens ? row.tokens - row.redone : 0;
      entry.processed += row.tokens;
      entry.stepped = true;
      entry.computed = Math.max(entry.computed, entry.processed);
      if (row.wantsLogits) entry.known += 1;
      if (generated > 0) {
        this.#starts.charge(entry, this.#appraisal.tokensCost(generated, this.#use.pagesShare(entry)));
      }
    }
  }

  /** Removes a running sequence and frees what it held. */
  finish(key: number): void {
    const entry = this.#entry(key);
    invariant(entry.state === 'running', 'only a running sequence finishes');
    this.#remove(entry);
  }

  /** Removes a sequence in any state and frees what it held; unknown keys are ignored. */
  cancel(key: number): void {
    const entry = this.#entries.get(key);
    if (entry !== undefined) this.#remove(entry);
  }

  counts(): SchedulerCounts {
    const running = this.#running.length;
    const waiting = this.#entries.size - running - this.#pending;
    return { waiting, pending: this.#pending, running, ...this.#capacity.use() };
  }

  /** When a sequence that came now would start and give its first token, as far as that can be predicted. */
  forecast(spec: SequenceSpec): Forecast {
    const entry = this.#appraisal.entry(spec);
    const outlook = {
      running: this.#running,
      ahead: this.#starts.workAhead(entry),
      completion: this.#completion,
      rowsBefore: this.#demand.rowsBefore(spec.priority, spec.arrivedMs),
      caution: this.#demand.caution(spec.priority),
    };
    return forecast(entry, outlook, this.#costs, this.#limits);
  }

  /**
   * How many steps until a running sequence has surely ended, as an estimate of when there is room: 0 when nothing
   * runs. Stop rules may end one earlier.
   */
  stepsUntilRoom(): number {
    const steps = this.#running.map((entry) => stepsLeft(entry, this.#limits.prefillTokensPerStep));
    return steps.length === 0 ? 0 : Math.min(...steps);
  }

  #start(entry: Entry, aged: boolean, moved: Moves, nowMs: number): void {
    const fresh = !entry.started;
    this.#capacity.take(demandOf(entry));
    this.#starts.remove(entry);
    this.#starts.started(entry);
    moved.started.add(entry.key);
    if (!entry.holdsKv) {
      moved.opened.add(entry.key);
      entry.processed = this.#prefixTokens(entry.key);
      invariant(entry.processed < entry.known, 'the last known token is always computed');
      if (fresh) entry.cachedTokens = entry.processed;
    }
    this.#preempted.delete(entry);
    this.#running.push(entry);
    entry.state = 'running';
    entry.started = true;
    entry.holdsKv = true;
    entry.bypassed = 0;
    entry.aged ||= aged;
    entry.stepped = false;
    if (!fresh) return;
    this.#places.leave(entry.tenantId);
    this.#starts.charge(entry, this.#appraisal.startCost(entry));
    if (Number.isFinite(entry.latestStartMs)) {
      this.#demand.started(entry.priority, nowMs > entry.latestStartMs);
    }
  }

  /** Takes a sequence's row, its KV, or both. */
  #preempt(entry: Entry, keepKv: boolean, moved: Moves): void {
    if (entry.state === 'running') {
      this.#capacity.release(keepKv ? pausable(entry) : heldBy(entry));
      this.#running = this.#running.filter((other) => other !== entry);
      entry.state = 'waiting';
      entry.preempted += 1;
      entry.stalled = 0;
      entry.serviceCost = this.#appraisal.serviceLeft(entry);
      this.#preempted.add(entry);
      this.#starts.add(entry);
    } else if (!keepKv) {
      this.#capacity.release(cachedBy(entry));
    }
    if (keepKv) {
      moved.paused.add(entry.key);
      return;
    }
    entry.holdsKv = false;
    entry.processed = 0;
    moved.paused.delete(entry.key);
    moved.evicted.add(entry.key);
  }

  #remove(entry: Entry): void {
    if (entry.state === 'running') {
      this.#capacity.release(heldBy(entry));
      this.#running = this.#running.filter((other) => other !== entry);
      const share = (entry.known - entry.promptTokens) / entry.maxTokens;
      this.#completion += COMPLETION_RATE * (share - this.#completion);
    } else if (entry.state === 'waiting') {
      this.#starts.remove(entry);
      if (entry.holdsKv) this.#capacity.release(cachedBy(entry));
    } else this.#pending -= 1;
    if (!entry.started) this.#places.leave(entry.tenantId);
    this.#preempted.delete(entry);
    this.#entries.delete(entry.key);
    this.#starts.ended(entry);
  }

  #entry(key: number): Entry {
    const entry = this.#entries.get(key);
    invariant(entry !== undefined, `sequence ${key} is known`);
    return entry;
  }
}

/** Weight of one sequence in the running mean of how much of its tokens a sequence generates. */
const COMPLETION_RATE = 0.02;

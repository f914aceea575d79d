import { PRIORITY_CLASSES, type PriorityClass } from '../kernel/priority.ts';
import type { Capacity } from './capacity.ts';
import { CLASS_RANK, classOrder, isAged, isOverdue, type WaitingClass } from './classes.ts';
import type { StepCostModel } from './cost-model.ts';
import { demandOf, type Entry, mayYieldTo } from './entry.ts';
import type { QueuePolicy, SchedulingPolicy, SequenceView, WorkAhead } from './policy.ts';
import { chooseEvictions, choosePreemption, type Preemption } from './preemption.ts';
import { isHarmless, type Reservation, reserve } from './reservation.ts';

/** How many sequences that do not fit are looked at before a schedule gives up on finding one that does. */
const MAX_SCAN = 32;

/**
 * Part of its time to start that a sequence keeps in reserve before it preempts: predictions err, those behind it
 * need time too, and a row that keeps its KV loses nothing but time.
 */
const MARGIN = 0.75;

export interface StartLimits {
  readonly maxBatch: number;
  readonly prefillTokensPerStep: number;
  readonly maxBypass: number;
  readonly maxPreemptions: number;
}

/** Who starts now, and who makes room for it. */
export interface Start extends Preemption {
  /** Absent when only room is made, for a sequence that starts later. */
  readonly entry?: Entry;
  /** Its class had been passed too often. */
  readonly aged: boolean;
}

export interface StartDeps {
  readonly capacity: Capacity;
  readonly costs: StepCostModel;
  /** Finds the scheduler's record of what a policy proposes. */
  readonly entry: (view: SequenceView) => Entry;
  readonly running: () => readonly Entry[];
  /** Preempted sequences that hold KV. */
  readonly paused: () => readonly Entry[];
}

interface ClassQueue {
  readonly policy: QueuePolicy;
  size: number;
  /** Starts of more urgent classes since one of its own, while somebody waits. */
  passed: number;
}

interface Contender extends WaitingClass {
  readonly queue: ClassQueue;
}

/**
 * Decides who starts next: classes by urgency and age, sequences of a class by its policy.
 *
 * The first in this order that does not fit gets a reservation, and those behind it may start only if they do not
 * delay it. After `maxBypass` of them nobody does until it starts, however large it is: running sequences end and make
 * room. A class is passed by more urgent ones `2 * maxBypass + 1` times at most: after half of them it goes first, and
 * what passes it then does so because its own do not fit. So nothing starves that the policy of its class does not starve.
 */
export class Starts {
  readonly #limits: StartLimits;
  readonly #deps: StartDeps;
  readonly #queues: readonly ClassQueue[];

  constructor(limits: StartLimits, policy: SchedulingPolicy, deps: StartDeps) {
    this.#limits = limits;
    this.#deps = deps;
    this.#queues = PRIORITY_CLASSES.map(() => ({ policy: policy(), size: 0, passed: 0 }));
  }

  add(entry: Entry): void {
    const queue = this.#queue(entry.priority);
    queue.policy.add(entry);
    queue.size += 1;
  }

  remove(entry: Entry): void {
    const queue = this.#queue(entry.priority);
    queue.policy.remove(entry);
    queue.size -= 1;
    if (queue.size === 0) queue.passed = 0;
  }

  charge(entry: Entry, cost: number): void {
    this.#queue(entry.priority).policy.charge(entry, cost);
  }

  ended(entry: Entry): void {
    this.#queue(entry.priority).policy.ended(entry);
  }

  /** What would start before a sequence that came now. */
  workAhead(sequence: SequenceView): WorkAhead {
    const own = this.#queue(sequence.priority).policy.workAhead(sequence);
    let { rowMs, sequences } = own;
    for (const queue of this.#queues.slice(0, CLASS_RANK[sequence.priority])) {
      const all = queue.policy.workAhead(sequence);
      rowMs += all.rowMs;
      sequences += all.sequences;
    }
    return { rowMs, sequences };
  }

  /** Notes that a sequence started; {@link Starts.remove} has been called for it. */
  started(entry: Entry): void {
    const rank = CLASS_RANK[entry.priority];
    this.#queues.forEach((queue, index) => {
      if (index === rank) queue.passed = 0;
      else if (index > rank && queue.size > 0) queue.passed += 1;
    });
  }

  /** The next start, or null when nobody can or may start now. Asked again after each one. */
  next(nowMs: number): Start | null {
    const contenders = this.#contenders(nowMs);
    if (contenders.length === 0) return null;
    if (this.#deps.capacity.rowsFree === 0) return this.#preempt(contenders, nowMs);
    const skipped: Entry[] = [];
    let reservation: Reservation | null = null;
    for (const contender of contenders) {
      const aged = isAged(contender, this.#limits.maxBypass);
      let scanned = 0;
      for (const view of contender.queue.policy.candidates()) {
        const entry = this.#deps.entry(view);
        if (this.#mayStart(entry, reservation)) {
          for (const each of skipped) each.bypassed += 1;
          return { entry, aged, pause: [], evict: [] };
        }
        if (reservation === null) {
          const room = this.#makeRoom(entry, nowMs, aged);
          if (room !== null) return room;
          reservation = this.#reserve(entry);
        }
        if (entry.bypassed >= this.#limits.maxBypass) return null;
        skipped.push(entry);
        scanned += 1;
        if (scanned >= MAX_SCAN) break;
      }
      if (isOverdue(contender, this.#limits.maxBypass)) return null;
    }
    return null;
  }

  #mayStart(entry: Entry, reservation: Reservation | null): boolean {
    const { capacity } = this.#deps;
    if (!capacity.fits(demandOf(entry))) return false;
    return (
      reservation === null || isHarmless(entry, reservation, capacity, this.#limits.prefillTokensPerStep)
    );
  }

  /** With all rows taken, only the head of the foremost class may push its way in; an aged one before it waits. */
  #preempt(contenders: readonly Contender[], nowMs: number): Start | null {
    const skipped: Entry[] = [];
    for (const contender of contenders) {
      const aged = isAged(contender, this.#limits.maxBypass);
      const entry = this.#deps.entry(contender.head);
      const start = this.#preemption(entry, nowMs, aged);
      if (start !== null) for (const each of skipped) each.bypassed += 1;
      if (start !== null || !aged || entry.bypassed >= this.#limits.maxBypass) return start;
      if (isOverdue(contender, this.#limits.maxBypass)) return null;
      skipped.push(entry);
    }
    return null;
  }

  #makeRoom(entry: Entry, nowMs: number, aged: boolean): Start | null {
    const start = this.#preemption(entry, nowMs, aged);
    if (start !== null) return start;
    const paused = this.#deps.paused();
    if (paused.length === 0) return null;
    const evict = chooseEvictions(entry, { running: this.#deps.running(), paused }, this.#deps.capacity);
    return evict.length === 0 ? null : { aged, pause: [], evict };
  }

  /** Preemption, if the sequence would otherwise be late and there are rows that have to yield to it. */
  #preemption(entry: Entry, nowMs: number, aged: boolean): Start | null {
    if (entry.latestStartMs === Number.POSITIVE_INFINITY) return null;
    const { capacity, costs, paused } = this.#deps;
    const running = this.#deps.running();
    const rank = CLASS_RANK[entry.priority];
    if (!running.some((other) => mayYieldTo(rank, other, this.#limits))) return null;
    const roomMs = this.#reserve(entry).steps * costs.recentMs;
    const marginMs = MARGIN * (entry.latestStartMs - entry.arrivedMs);
    if (entry.latestStartMs - nowMs - marginMs >= roomMs) return null;
    const preemption = choosePreemption(entry, { running, paused: paused() }, capacity, this.#limits);
    return preemption === null ? null : { entry, aged, ...preemption };
  }

  #reserve(entry: Entry): Reservation {
    return reserve(entry, this.#deps.running(), this.#deps.capacity, this.#limits.prefillTokensPerStep);
  }

  #contenders(nowMs: number): readonly Contender[] {
    const contenders: Contender[] = [];
    for (const queue of this.#queues) {
      if (queue.size === 0) continue;
      for (const head of queue.policy.candidates()) {
        contenders.push({ queue, head, passed: queue.passed });
        break;
      }
    }
    if (contenders.length < 2) return contenders;
    return classOrder(contenders, nowMs, this.#limits.maxBypass, this.#deps.costs.costs, this.#limits);
  }

  #queue(priority: PriorityClass): ClassQueue {
    const queue = this.#queues[CLASS_RANK[priority]];
    if (queue === undefined) throw new RangeError(`no queue for ${priority}`);
    return queue;
  }
}

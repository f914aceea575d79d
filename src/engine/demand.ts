import { PRIORITY_CLASSES, type PriorityClass } from '../kernel/priority.ts';
import { CLASS_RANK } from './classes.ts';

/** Over how long demand is averaged, in milliseconds. */
const WINDOW_MS = 10_000;
/** How strongly one late start counts, and one in time: in balance when one in fifty is late. */
const CAUTION = { late: 1.2, inTime: 1 - 0.2 / 50, most: 64 } as const;

/** What is known of each class beyond the moment: how much it asks for, and how well predictions for it come true. */
export class ClassDemand {
  /** Rows that the accepted sequences of a class occupy in the mean, as of `atMs`. */
  readonly #rows = PRIORITY_CLASSES.map(() => ({ rows: 0, atMs: 0 }));
  readonly #caution = PRIORITY_CLASSES.map(() => 1);

  /** A sequence was accepted that will occupy a row for so long. */
  accepted(priority: PriorityClass, rowMs: number, nowMs: number): void {
    const rank = CLASS_RANK[priority];
    this.#rows[rank] = { rows: this.#current(rank, nowMs) + rowMs / WINDOW_MS, atMs: nowMs };
  }

  /** Rows that more urgent classes occupy in the mean. */
  rowsBefore(priority: PriorityClass, nowMs: number): number {
    let rows = 0;
    for (let rank = 0; rank < CLASS_RANK[priority]; rank++) rows += this.#current(rank, nowMs);
    return rows;
  }

  /** A sequence with a target started. */
  started(priority: PriorityClass, late: boolean): void {
    const rank = CLASS_RANK[priority];
    const next = this.caution(priority) * (late ? CAUTION.late : CAUTION.inTime);
    this.#caution[rank] = Math.min(CAUTION.most, Math.max(1, next));
  }

  /**
   * Factor on the work ahead of a new sequence. Fair policies let later arrivals overtake whoever is ahead of his
   * share, which no look at the queue foresees; so the factor follows how many starts are late in fact.
   */
  caution(priority: PriorityClass): number {
    return this.#caution[CLASS_RANK[priority]] ?? 1;
  }

  #current(rank: number, nowMs: number): number {
    const { rows, atMs } = this.#rows[rank] ?? { rows: 0, atMs: nowMs };
    return rows * Math.exp((atMs - nowMs) / WINDOW_MS);
  }
}

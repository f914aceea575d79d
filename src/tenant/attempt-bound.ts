import type { Clock } from '../kernel/clock.ts';

const WINDOW_MS = 60_000;
/** Most subjects that are remembered; beyond it, the one that was seen first is forgotten. */
const SUBJECTS_MAX = 10_000;

interface Window {
  readonly startMs: number;
  count: number;
}

/** Lets so many attempts of a subject pass in a minute, so that nobody can fill the audit log by repeating one. */
export class AttemptBound {
  readonly #clock: Clock;
  readonly #most: number;
  readonly #windows = new Map<string, Window>();

  constructor(most: number, clock: Clock) {
    this.#most = most;
    this.#clock = clock;
  }

  /** Whether this attempt is one of them. */
  admits(subject: string): boolean {
    const nowMs = this.#clock.monotonicMs();
    const known = this.#windows.get(subject);
    if (known !== undefined && nowMs - known.startMs < WINDOW_MS) {
      known.count += 1;
      return known.count <= this.#most;
    }
    // Deleting first keeps the map in the order of beginning, so that the oldest is the first to go.
    this.#windows.delete(subject);
    this.#windows.set(subject, { startMs: nowMs, count: 1 });
    const oldest = this.#windows.keys().next();
    if (this.#windows.size > SUBJECTS_MAX && !oldest.done) this.#windows.delete(oldest.value);
    return true;
  }
}

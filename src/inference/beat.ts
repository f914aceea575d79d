import type { Clock } from '../kernel/clock.ts';

/** What a {@link Beat} works with. */
export interface BeatDeps {
  readonly clock: Pick<Clock, 'monotonicMs'>;
  /** Resolves after the time, or at once when the signal fires. */
  readonly pause: (ms: number, signal: AbortSignal) => Promise<void>;
}

/**
 * A beat that all streams of a process share. Chunks that wait for it are committed in one round of metering and
 * written together, so that what a chunk costs besides its tokens (a transaction, a GraphQL execution, a frame) is
 * paid so many times a second and not once for each step of the engine.
 */
export class Beat {
  private readonly intervalMs: number;
  private readonly deps: BeatDeps;
  private waiting: Promise<void> | null = null;

  /** `intervalMs` 0 never makes anyone wait. */
  constructor(intervalMs: number, deps: BeatDeps) {
    this.intervalMs = intervalMs;
    this.deps = deps;
  }

  /** Resolves at the next multiple of the interval, or as soon as the signal fires. */
  async next(signal: AbortSignal): Promise<void> {
    if (this.intervalMs === 0 || signal.aborted) return;
    // One timer for all who wait: each with its own would come a millisecond apart, in a round of its own.
    this.waiting ??= this.tick();
    const beat = this.waiting;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        signal.removeEventListener('abort', done);
        resolve();
      };
      signal.addEventListener('abort', done);
      void beat.then(done);
    });
  }

  private async tick(): Promise<void> {
    const ms = this.intervalMs - (this.deps.clock.monotonicMs() % this.intervalMs);
    await this.deps.pause(ms, NEVER);
    this.waiting = null;
  }
}

const NEVER = new AbortController().signal;

import type { Clock } from '../kernel/clock.ts';

/** How often streams may hand out what they have. */
export interface BeatOptions {
  /** Chunks that all streams together may hand out in a second, as far as `intervalMsMax` allows; 0 is no bound. */
  readonly chunksPerSecond: number;
  /** Longest that a stream waits for the beat, however many there are. */
  readonly intervalMsMax: number;
}

/** What a {@link Beat} works with. */
export interface BeatDeps {
  readonly clock: Pick<Clock, 'monotonicMs'>;
  /** Resolves after the time, or at once when the signal fires. */
  readonly pause: (ms: number, signal: AbortSignal) => Promise<void>;
}

const NEVER = new AbortController().signal;

/**
 * A beat that all streams of a process share. Chunks that wait for it are committed in one round of metering and
 * written together, so that what a chunk costs besides its tokens (a transaction, a GraphQL execution, a frame) is
 * paid so many times a second and not once for each step of the engine. It slows down with the number of streams: one
 * stream gets each token as it comes.
 */
export class Beat {
  private readonly options: BeatOptions;
  private readonly deps: BeatDeps;
  private next: Promise<void> | null = null;
  private waiting = 0;
  private intervalMs = 0;
  private lastMs = Number.NEGATIVE_INFINITY;

  constructor(options: BeatOptions, deps: BeatDeps) {
    this.options = options;
    this.deps = deps;
  }

  /** Resolves at the next beat, or as soon as the signal fires. */
  async wait(signal: AbortSignal): Promise<void> {
    if (this.options.chunksPerSecond === 0 || signal.aborted) return;
    // One timer for all who wait: each with its own would come a millisecond apart, in a round of its own.
    this.next ??= this.tick();
    this.waiting += 1;
    const beat = this.next;
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
    const { clock, pause } = this.deps;
    await pause(Math.max(0, this.lastMs + this.intervalMs - clock.monotonicMs()), NEVER);
    const { chunksPerSecond, intervalMsMax } = this.options;
    this.lastMs = clock.monotonicMs();
    this.intervalMs = Math.min(intervalMsMax, (this.waiting * 1000) / chunksPerSecond);
    this.waiting = 0;
    this.next = null;
  }
}

import { setTimeout as delay } from 'node:timers/promises';
import { PatchbayError } from '../kernel/errors.ts';

/** How a {@link ClaimQueue} works. */
export interface ClaimQueueOptions {
  /** Claims that this process works on at the same time. */
  readonly concurrency: number;
  /** How often to look for work that no call announced, and to try again what the database did not take. */
  readonly pollMs: number;
  /** How often a claim is renewed: well within its lease. */
  readonly renewMs: number;
}

/** What a {@link ClaimQueue} does with rows of which kind. */
export interface ClaimWork<C> {
  /** Claims one row under a lease; null when there is none to claim. */
  claim(): Promise<C | null>;
  /** Holds a claim for another lease; false when it is lost, or nobody wants it any more. */
  renew(claim: C): Promise<boolean>;
  /** Does the work. The signal says that the claim is lost ({@link ClaimLost}) or that this process stops. */
  run(claim: C, signal: AbortSignal): Promise<void>;
  /** Decides once what becomes of a claim whose work failed. What it answers is tried until the database takes it. */
  conclude(claim: C, error: unknown): () => Promise<void>;
  /** Hears what the queue itself could not do; null where no claim was concerned. */
  onError(error: unknown, claim: C | null): void;
}

/** Why work on a claim is ended from outside: another process has it, or nobody wants it. */
export class ClaimLost extends Error {}

/**
 * Works off rows that wait in a table, off the request path. The queue is the table: any number of processes claim rows
 * under leases and renew them, so that another takes over when one dies. What a claim is, and how its end is
 * written down, is the caller's; every write has to name the claim, so that who lost it writes nothing.
 */
export class ClaimQueue<C> {
  readonly #options: ClaimQueueOptions;
  readonly #work: ClaimWork<C>;
  readonly #running = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #looking = false;
  #lookAgain = false;

  constructor(options: ClaimQueueOptions, work: ClaimWork<C>) {
    this.#options = options;
    this.#work = work;
  }

  /** Whether {@link close} was called. */
  get closing(): boolean {
    return this.#closing.signal.aborted;
  }

  /** Begins to look for work. */
  start(): void {
    this.#timer ??= setInterval(() => this.wake(), this.#options.pollMs);
    this.wake();
  }

  /** Looks for work now. */
  wake(): void {
    if (this.closing) return;
    if (this.#looking) {
      this.#lookAgain = true;
      return;
    }
    this.#looking = true;
    this.#look()
      .catch((error: unknown) => this.#work.onError(error, null))
      .finally(() => {
        this.#looking = false;
        if (!this.#lookAgain) return;
        this.#lookAgain = false;
        this.wake();
      });
  }

  /** Stops claiming, says so to what is running, and waits for it. */
  async close(): Promise<void> {
    this.#closing.abort();
    clearInterval(this.#timer);
    await Promise.all(this.#running);
  }

  async #look(): Promise<void> {
    while (!this.closing && this.#running.size < this.#options.concurrency) {
      const claim = await this.#work.claim();
      if (claim === null) return;
      const work: Promise<void> = this.#hold(claim)
        .catch((error: unknown) => this.#work.onError(error, claim))
        .finally(() => {
          this.#running.delete(work);
          this.wake();
        });
      this.#running.add(work);
    }
  }

  async #hold(claim: C): Promise<void> {
    const lost = new AbortController();
    const renewal = setInterval(() => {
      this.#work
        .renew(claim)
        .then((held) => {
          if (!held) lost.abort(new ClaimLost('the claim is lost'));
        })
        .catch((error: unknown) => this.#work.onError(error, claim));
    }, this.#options.renewMs);
    try {
      await this.#work.run(claim, AbortSignal.any([lost.signal, this.#closing.signal]));
    } catch (error) {
      await this.#write(this.#work.conclude(claim, error));
    } finally {
      clearInterval(renewal);
    }
  }

  /** What is not written counts as the death of this process, so it is worth waiting for the database. */
  async #write(end: () => Promise<void>): Promise<void> {
    for (;;) {
      try {
        await end();
        return;
      } catch (failure) {
        const away = failure instanceof PatchbayError && failure.code === 'DATABASE_UNAVAILABLE';
        if (!away || this.closing) throw failure;
        await delay(this.#options.pollMs, undefined, { signal: this.#closing.signal }).catch(() => {});
      }
    }
  }
}

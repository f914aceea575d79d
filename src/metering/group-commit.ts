import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';

/** Bounds of a {@link GroupCommitter}. */
export interface GroupCommitOptions {
  /**
   * Most items that may wait; beyond it, submit rejects with `DATABASE_UNAVAILABLE`. Items that are kept whatever
   * happens are exempt, because refusing one would lose it; their number is bounded by what was admitted.
   */
  readonly queueMax: number;
  /** Most items of one round. */
  readonly batchMax: number;
  /** First pause after a transient failure; doubles up to the largest. */
  readonly backoffMsMin: number;
  readonly backoffMsMax: number;
}

/** What a {@link GroupCommitter} works with. */
export interface GroupCommitDeps<Item, Result extends object> {
  /** Commits a batch in one transaction and returns one result for each item, in order. */
  readonly write: (items: readonly Item[]) => Promise<readonly Result[]>;
  /** Whether a failure says nothing about the items, so that the same write may succeed later. */
  readonly isTransient: (error: unknown) => boolean;
  /** Whether a transient failure may be due to the size of the round, so that halves of it may succeed. */
  readonly isTooMuch: (error: unknown) => boolean;
  readonly clock: Clock;
  /** Resolves after the time, or earlier when the signal fires. */
  readonly pause: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** How long a submitter is willing to wait while the database is away. */
export interface Patience {
  /** After this long without success the submitter is told `DATABASE_UNAVAILABLE`. */
  readonly patienceMs: number;
  /** `drop`: the item is then forgotten. `keep`: it stays queued and is written when the database is back. */
  readonly afterwards: 'drop' | 'keep';
}

interface Entry<Item, Result extends object> {
  readonly item: Item;
  readonly sinceMs: number;
  readonly patience: Patience;
  impatient: boolean;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Collects items while the previous transaction runs and commits them together: one item costs one transaction on a
 * quiet system, and a hundred items cost one transaction on a busy one, with no timer and no tuned delay.
 *
 * Writes must be idempotent, because a connection that breaks during COMMIT leaves the outcome unknown and the round
 * is then written again. A failure that is not transient is narrowed down by halving, so that one bad item fails
 * alone.
 */
export class GroupCommitter<Item, Result extends object> {
  private readonly options: GroupCommitOptions;
  private readonly deps: GroupCommitDeps<Item, Result>;
  private queue: Entry<Item, Result>[] = [];
  private running: Promise<void> | null = null;
  private readonly closing = new AbortController();

  constructor(options: GroupCommitOptions, deps: GroupCommitDeps<Item, Result>) {
    this.options = options;
    this.deps = deps;
  }

  /** Items that wait or are being written. */
  get depth(): number {
    return this.queue.length;
  }

  /** Whether items that may be dropped are refused. */
  get full(): boolean {
    return this.queue.length >= this.options.queueMax;
  }

  /** Queues an item; resolves once its transaction is committed. */
  submit(item: Item, patience: Patience): Promise<Result> {
    if (this.closing.signal.aborted) return Promise.reject(unavailable('The metering queue is closed.'));
    if (patience.afterwards === 'drop' && this.full) {
      return Promise.reject(unavailable('The metering queue is full.', { queueMax: this.options.queueMax }));
    }
    return new Promise((resolve, reject) => {
      const sinceMs = this.deps.clock.monotonicMs();
      this.queue.push({ item, sinceMs, patience, impatient: false, resolve, reject });
      this.running ??= this.run();
    });
  }

  /** Resolves when nothing waits any more. */
  async flush(): Promise<void> {
    while (this.running !== null) await this.running;
  }

  /** Writes what waits once more without pausing, then fails the rest; recovery settles what could not be written. */
  async close(): Promise<void> {
    this.closing.abort();
    await this.flush();
  }

  private async run(): Promise<void> {
    // Items that are submitted in the same turn of the event loop belong to the same round.
    await Promise.resolve();
    let failures = 0;
    while (this.queue.length > 0) {
      const batch = this.queue.slice(0, this.options.batchMax);
      const failure = await this.round(batch);
      if (failure === null) {
        failures = 0;
        continue;
      }
      this.giveUp(batch, failure.error);
      if (this.queue.length === 0) break;
      const ms = Math.min(this.options.backoffMsMax, this.options.backoffMsMin * 2 ** failures);
      failures += 1;
      await this.deps.pause(ms, this.closing.signal);
    }
    this.running = null;
  }

  /** Writes a batch; returns the error when it was transient and the items remain queued. */
  private async round(batch: readonly Entry<Item, Result>[]): Promise<{ readonly error: unknown } | null> {
    try {
      const results = await this.deps.write(batch.map((entry) => entry.item));
      if (results.length !== batch.length) throw new Error('A round returned the wrong number of results');
      this.remove(batch);
      for (const [index, entry] of batch.entries()) {
        const result = results[index];
        if (result !== undefined) entry.resolve(result);
      }
      return null;
    } catch (error) {
      const tooMuch = this.deps.isTooMuch(error);
      const [only] = batch;
      if (this.deps.isTransient(error) && (!tooMuch || batch.length === 1)) return { error };
      if (batch.length === 1 && only !== undefined) {
        this.remove(batch);
        only.reject(error);
        return null;
      }
      const middle = batch.length >> 1;
      const failure = await this.round(batch.slice(0, middle));
      if (failure !== null && !this.deps.isTooMuch(failure.error)) return failure;
      return (await this.round(batch.slice(middle))) ?? failure;
    }
  }

  /** Tells submitters whose patience ended; while closing, every submitter's patience has. */
  private giveUp(batch: readonly Entry<Item, Result>[], cause: unknown): void {
    const now = this.deps.clock.monotonicMs();
    const closing = this.closing.signal.aborted;
    const dropped: Entry<Item, Result>[] = closing ? [...batch] : [];
    for (const entry of this.queue) {
      if (!closing && now - entry.sinceMs < entry.patience.patienceMs) continue;
      if (!entry.impatient) entry.reject(unavailable('The database does not answer.', {}, cause));
      entry.impatient = true;
      if (entry.patience.afterwards === 'drop') dropped.push(entry);
    }
    this.remove(dropped);
  }

  private remove(entries: readonly Entry<Item, Result>[]): void {
    const gone = new Set(entries);
    this.queue = this.queue.filter((entry) => !gone.has(entry));
  }
}

function unavailable(message: string, meta: Readonly<Record<string, number>> = {}, cause?: unknown) {
  return new PatchbayError('DATABASE_UNAVAILABLE', message, {
    meta,
    ...(cause === undefined ? {} : { cause }),
  });
}

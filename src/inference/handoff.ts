/**
 * What became of an offered event. `written`: the consumer asked for the next one, so this one was written. `gone`:
 * the consumer has left. `interrupted`: the producer stopped waiting.
 */
export type Delivery = 'written' | 'gone' | 'interrupted';

/**
 * Hands events from a producer to one consumer, acknowledged by pull: asking for the next event says that the
 * previous one was written. Holds the event that is offered and, after an interruption, the last one; never more.
 */
export class Handoff<Event> implements AsyncIterableIterator<Event> {
  private readonly onReturn: () => Promise<void>;
  private readonly queue: Event[] = [];
  /** Resolves the offer that waits for its acknowledgement. */
  private offered: ((delivery: Delivery) => void) | null = null;
  /** Whether the event of the waiting offer is with the consumer. */
  private handed = false;
  private waiting: ((result: IteratorResult<Event>) => void) | null = null;
  private ended = false;
  private consumerGone = false;

  /** `onReturn` runs when the consumer leaves early; the consumer's `return()` waits for it. */
  constructor(onReturn: () => Promise<void>) {
    this.onReturn = onReturn;
  }

  /** Whether an event waits for the consumer to take it or to come back for the next. */
  get pending(): boolean {
    return this.offered !== null;
  }

  /** Offers an event and waits until it is written. One at a time. */
  offer(event: Event): Promise<Delivery> {
    if (this.consumerGone) return Promise.resolve('gone');
    return new Promise((resolve) => {
      this.offered = resolve;
      this.handed = false;
      this.push(event);
    });
  }

  /** Ends the wait of the current offer. Its event stays deliverable. */
  interrupt(): void {
    this.answer('interrupted');
  }

  /** Offers the last events without waiting for anyone to take them. */
  end(...events: readonly Event[]): void {
    this.answer('interrupted');
    this.ended = true;
    if (this.consumerGone) return;
    for (const event of events) this.push(event);
    if (this.queue.length === 0) this.settleWaiting({ done: true, value: undefined });
  }

  next(): Promise<IteratorResult<Event>> {
    if (this.handed) this.answer('written');
    const event = this.queue.shift();
    if (event !== undefined) {
      this.handed = this.offered !== null;
      return Promise.resolve({ done: false, value: event });
    }
    if (this.ended || this.consumerGone) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => {
      this.waiting = resolve;
    });
  }

  async return(): Promise<IteratorResult<Event>> {
    this.leave();
    await this.onReturn();
    return { done: true, value: undefined };
  }

  throw(): Promise<IteratorResult<Event>> {
    return this.return();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  private leave(): void {
    this.consumerGone = true;
    this.queue.length = 0;
    this.answer('gone');
    this.settleWaiting({ done: true, value: undefined });
  }

  private push(event: Event): void {
    if (this.waiting === null) {
      this.queue.push(event);
      return;
    }
    this.handed = this.offered !== null;
    this.settleWaiting({ done: false, value: event });
  }

  private answer(delivery: Delivery): void {
    const resolve = this.offered;
    this.offered = null;
    this.handed = false;
    resolve?.(delivery);
  }

  private settleWaiting(result: IteratorResult<Event>): void {
    const resolve = this.waiting;
    this.waiting = null;
    resolve?.(result);
  }
}

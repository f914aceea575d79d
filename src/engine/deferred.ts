/** A promise with its handles outside. */
export interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}

export function deferred<T>(): Deferred<T> {
  let resolve: (value: T) => void = () => {};
  let reject: (error: Error) => void = () => {};
  const promise = new Promise<T>((onValue, onError) => {
    resolve = onValue;
    reject = onError;
  });
  return { promise, resolve, reject };
}

/** Wakes one waiter; a notification that comes before the wait is not lost. */
export class Signal {
  #set = false;
  #wake: (() => void) | null = null;

  notify(): void {
    this.#set = true;
    this.#wake?.();
  }

  /** Resolves once notified since the last wait. */
  async wait(): Promise<void> {
    if (!this.#set) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#set = false;
    this.#wake = null;
  }
}

/** One reader's interest. It holds a flag that something is new, so that any number of events costs it the same. */
export class Watcher {
  #isClosed = false;
  #signalled = false;
  #wake: (() => void) | undefined;
  readonly #onClose: () => void;

  constructor(onClose: () => void) {
    this.#onClose = onClose;
  }

  get closed(): boolean {
    return this.#isClosed;
  }

  /** Says that something may be new. */
  signal(): void {
    this.#signalled = true;
    this.#wake?.();
  }

  /** Resolves when something was signalled since the last call, or it is closed. */
  async wait(): Promise<void> {
    if (!this.#signalled && !this.#isClosed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
    this.#signalled = false;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#wake?.();
    this.#onClose();
  }
}

import type { Logger } from '../observability/logger.ts';

/** Parts that were started and must be stopped in the opposite order, each whatever becomes of the others. */
export class Lifecycle {
  readonly #logger: Logger;
  readonly #closers: { readonly name: string; readonly close: () => unknown }[] = [];
  #closing: Promise<void> | null = null;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Remembers how to stop a part that was just started. */
  add(name: string, close: () => unknown): void {
    this.#closers.push({ name, close });
  }

  /** Stops everything, last started first. May be called again. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    for (;;) {
      const part = this.#closers.pop();
      if (part === undefined) return;
      try {
        await part.close();
      } catch (err) {
        this.#logger.error({ err, part: part.name }, 'A part did not stop cleanly');
      }
    }
  }
}

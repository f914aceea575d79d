/** How adapters move in the simulated engine. */
export interface AdapterCosts {
  /** Rank pages of each adapter. */
  readonly pages: number;
  readonly bytes: number;
  /** Reading one adapter into the host cache, in milliseconds; one after another, off the step path. */
  readonly loadMs: number;
  /** Copying one page into the bank, in milliseconds; part of the step. */
  readonly bankPageMs: number;
  /** What one load takes from the steps beside it, because they share the cores; nothing when absent. */
  readonly loadStepMs?: number | undefined;
  /** Adapters that the host cache holds. */
  readonly hostAdapters: number;
}

/** A set of bounded size that forgets the least recently used. */
export class LruSet {
  readonly #capacity: number;
  readonly #keys = new Set<string>();

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** Uses a key; false when it was not there. */
  use(key: string): boolean {
    const known = this.#keys.delete(key);
    this.#keys.add(key);
    for (const oldest of this.#keys) {
      if (this.#keys.size <= this.#capacity) break;
      this.#keys.delete(oldest);
    }
    return known;
  }
}

import { invariant } from '../kernel/errors.ts';

/** What sequences share: rows of a step, KV bytes and bank pages. */
export interface CapacityLimits {
  readonly maxBatch: number;
  readonly kvBudgetBytes: number;
  readonly bankPages: number;
}

/** What a sequence takes or gives back. */
export interface Demand {
  readonly rows: 0 | 1;
  readonly kvBytes: number;
  readonly pages: readonly { readonly digest: string; readonly pages: number }[];
}

export interface CapacityUse {
  readonly kvBytesUsed: number;
  readonly bankPagesUsed: number;
}

const NONE: readonly Demand[] = [];

/**
 * Accounts for what sequences hold: rows and pages while they run, KV bytes from their start until they end or are
 * evicted. An adapter's pages count once however many sequences use it, because they read the same copy in the bank.
 */
export class Capacity {
  readonly #limits: CapacityLimits;
  readonly #users = new Map<string, number>();
  #rows = 0;
  #kvBytes = 0;
  #pages = 0;

  constructor(limits: CapacityLimits) {
    this.#limits = limits;
  }

  get rowsFree(): number {
    return this.#limits.maxBatch - this.#rows;
  }

  /** Whether the demand fits beside everything that is held now. */
  fits(demand: Demand): boolean {
    return (
      this.#rows + demand.rows <= this.#limits.maxBatch &&
      this.#kvBytes + demand.kvBytes <= this.#limits.kvBudgetBytes &&
      (demand.pages.length === 0 || this.#pages + this.#newPages(demand) <= this.#limits.bankPages)
    );
  }

  /** Whether all of `added` would fit once `removed`, which is held now, were given back. */
  wouldFit(added: readonly Demand[], removed: readonly Demand[] = NONE): boolean {
    let rows = this.#rows;
    let kvBytes = this.#kvBytes;
    let pages = this.#pages;
    const users = new Map<string, number>();
    const change = (demand: Demand, sign: 1 | -1): void => {
      rows += sign * demand.rows;
      kvBytes += sign * demand.kvBytes;
      for (const adapter of demand.pages) {
        const before = users.get(adapter.digest) ?? this.#users.get(adapter.digest) ?? 0;
        users.set(adapter.digest, before + sign);
        if (before === (sign === 1 ? 0 : 1)) pages += sign * adapter.pages;
      }
    };
    for (const demand of removed) change(demand, -1);
    for (const demand of added) change(demand, 1);
    const { maxBatch, kvBudgetBytes, bankPages } = this.#limits;
    return rows <= maxBatch && kvBytes <= kvBudgetBytes && pages <= bankPages;
  }

  /** Takes a demand that {@link fits}. */
  take(demand: Demand): void {
    invariant(this.fits(demand), 'capacity is never over-committed');
    this.#rows += demand.rows;
    this.#kvBytes += demand.kvBytes;
    this.#pages += this.#newPages(demand);
    for (const { digest } of demand.pages) this.#users.set(digest, (this.#users.get(digest) ?? 0) + 1);
  }

  /** Gives back a demand that was taken, or a part of it. */
  release(demand: Demand): void {
    this.#rows -= demand.rows;
    this.#kvBytes -= demand.kvBytes;
    for (const { digest, pages } of demand.pages) {
      const users = (this.#users.get(digest) ?? 0) - 1;
      if (users > 0) {
        this.#users.set(digest, users);
      } else {
        this.#users.delete(digest);
        this.#pages -= pages;
      }
    }
    invariant(this.#rows >= 0 && this.#kvBytes >= 0 && this.#pages >= 0, 'only what was taken is released');
  }

  use(): CapacityUse {
    return { kvBytesUsed: this.#kvBytes, bankPagesUsed: this.#pages };
  }

  #newPages(demand: Demand): number {
    let pages = 0;
    for (const adapter of demand.pages) if (!this.#users.has(adapter.digest)) pages += adapter.pages;
    return pages;
  }
}

import { invariant } from '../kernel/errors.ts';

/** What running sequences share: rows, KV bytes and bank pages. */
export interface CapacityLimits {
  readonly maxBatch: number;
  readonly kvBudgetBytes: number;
  readonly bankPages: number;
}

/** What one sequence needs while it runs. */
export interface Demand {
  readonly kvBytes: number;
  readonly pages: readonly { readonly digest: string; readonly pages: number }[];
}

export interface CapacityUse {
  readonly kvBytesUsed: number;
  readonly bankPagesUsed: number;
}

/**
 * Accounts for what running sequences hold. An adapter's pages count once however many sequences use it, because
 * they read the same copy in the bank.
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
      this.rowsFree > 0 &&
      this.#kvBytes + demand.kvBytes <= this.#limits.kvBudgetBytes &&
      this.#pages + this.#newPages(demand) <= this.#limits.bankPages
    );
  }

  /** Takes a demand that {@link fits}. */
  take(demand: Demand): void {
    invariant(this.fits(demand), 'capacity is never over-committed');
    this.#rows += 1;
    this.#kvBytes += demand.kvBytes;
    this.#pages += this.#newPages(demand);
    for (const { digest } of demand.pages) this.#users.set(digest, (this.#users.get(digest) ?? 0) + 1);
  }

  /** Gives back a demand that was taken. */
  release(demand: Demand): void {
    this.#rows -= 1;
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

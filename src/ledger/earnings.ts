import type { LedgerDeps } from './types.ts';

/** How earnings are summed up. */
export interface EarningsRollupOptions {
  /** A transaction adds batches until they have so many rows, so that each is short. */
  readonly rowsMax: number;
}

/** Values that suit a server that seals once a second. */
export const EARNINGS_ROLLUP_DEFAULTS: EarningsRollupOptions = { rowsMax: 50_000 };

/**
 * Sums up what the chain's batches say of accounts of earnings, by hour and day, so that a statement reads sums. What
 * they do not hold yet readers add themselves. Any number of processes may call it: the database lets one add, and the
 * others find nothing to do.
 */
export class EarningsRollup {
  readonly #options: EarningsRollupOptions;
  readonly #database: Pick<LedgerDeps['database'], 'querySystem'>;

  constructor(
    options: EarningsRollupOptions,
    dependencies: { readonly database: Pick<LedgerDeps['database'], 'querySystem'> },
  ) {
    this.#options = options;
    this.#database = dependencies.database;
  }

  /** Adds every batch that is sealed; returns how many. */
  async run(): Promise<number> {
    for (let batches = 0; ; ) {
      const [row] = await this.#database.querySystem<{ readonly batches: number }>(
        'SELECT patchbay.roll_up_earnings($1) AS batches',
        [this.#options.rowsMax],
      );
      const added = row?.batches ?? 0;
      if (added === 0) return batches;
      batches += added;
    }
  }
}

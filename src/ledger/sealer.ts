import type { LedgerDeps } from './types.ts';

/** How batches are made. */
export interface SealerOptions {
  /** Most writing statements whose rows go into one batch; a statement of a group commit may write hundreds. */
  readonly statementsMax: number;
  /** Most batches that one run makes, so that a run ends. */
  readonly batchesMax: number;
}

/** Values that suit a server that seals once a second. */
export const SEALER_DEFAULTS: SealerOptions = { statementsMax: 500, batchesMax: 100 };

/** A batch just sealed: the chain's new head. */
export interface SealedBatch {
  readonly sequence: bigint;
  readonly rows: number;
  /** Lower-case hex SHA-256. */
  readonly hash: string;
}

/**
 * Puts what was written into the chain of hashes. Any number of processes may call it: the database lets one seal, and
 * the others find nothing to do. A sealer that dies leaves everything to the next one.
 */
export class LedgerSealer {
  private readonly options: SealerOptions;
  private readonly deps: Pick<LedgerDeps, 'clock'> & {
    readonly database: Pick<LedgerDeps['database'], 'querySystem'>;
  };

  constructor(options: SealerOptions, deps: LedgerSealer['deps']) {
    this.options = options;
    this.deps = deps;
  }

  /** Seals until nothing waits or the run has made its most; returns the new batches in order. */
  async run(): Promise<readonly SealedBatch[]> {
    const sealed: SealedBatch[] = [];
    while (sealed.length < this.options.batchesMax) {
      const batch = await this.sealOne();
      if (batch === null) break;
      sealed.push(batch);
    }
    return sealed;
  }

  private async sealOne(): Promise<SealedBatch | null> {
    const [row] = await this.deps.database.querySystem<{
      readonly sequence: string;
      readonly row_count: number;
      readonly hash: Buffer;
    }>('SELECT sequence::text, row_count, hash FROM patchbay.ledger_seal($1, $2)', [
      new Date(this.deps.clock.nowMs()).toISOString(),
      this.options.statementsMax,
    ]);
    if (row === undefined) return null;
    return { sequence: BigInt(row.sequence), rows: row.row_count, hash: row.hash.toString('hex') };
  }
}

import type { PoolClient } from 'pg';
import type { Database } from '../db/client.ts';
import { type Batch, checkBatch, readBatches } from './chain.ts';
import { GENESIS } from './encoding.ts';
import { findStrays, findWrongSums } from './strays.ts';

/** Something that is not as it was written. */
export interface LedgerProblem {
  /** The batch that holds the row; null for what no batch holds. */
  readonly batch: bigint | null;
  readonly table: string;
  /** Which row: its primary key, the parts joined by `/`. */
  readonly row: string;
  readonly message: string;
}

/** A point of the chain: what to keep outside of the database. */
export interface LedgerHead {
  readonly sequence: bigint;
  /** Lower-case hex SHA-256. */
  readonly hash: string;
}

/** What a verification found. */
export interface LedgerReport {
  readonly batches: number;
  /** Rows of all batches. */
  readonly rows: number;
  /** Facts that wait to be sealed: their sums are checked, and nothing vouches yet for their bytes. */
  readonly unsealed: number;
  /** Null when nothing was ever sealed. */
  readonly head: LedgerHead | null;
  /** The first one first: batches in order and rows within, then what no batch holds. */
  readonly problems: readonly LedgerProblem[];
}

/** How to verify. */
export interface VerifyOptions {
  /** A head that was kept outside: the chain must pass through it. */
  readonly expected?: LedgerHead;
  /** After this many problems the search ends. */
  readonly problemsMax?: number;
  /** Told after each batch how many are done, of how many. */
  readonly onBatch?: (done: number, total: number) => void;
}

const PROBLEMS_MAX = 100;

/**
 * Reads the whole ledger in one snapshot and recomputes everything: each row's hash, each batch's, the chain, the sums
 * of transfers, limits and balances. It hashes what it reads by itself and calls no function of the database that the
 * ledger brought. What it cannot see: a chain that was rewritten or cut as a whole, unless a head is given that was kept
 * elsewhere; and changes of rows that no batch holds yet.
 */
export async function verifyLedger(
  database: Pick<Database, 'withSystemPg'>,
  options: VerifyOptions = {},
): Promise<LedgerReport> {
  return database.withSystemPg(async (client) => {
    await client.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY');
    await client.query('SET LOCAL statement_timeout = 0');
    await client.query('SET LOCAL idle_in_transaction_session_timeout = 0');
    return new Verification(client, options).run();
  });
}

class Verification {
  private readonly client: PoolClient;
  private readonly options: VerifyOptions;
  private readonly max: number;
  private readonly problems: LedgerProblem[] = [];

  constructor(client: PoolClient, options: VerifyOptions) {
    this.client = client;
    this.options = options;
    this.max = options.problemsMax ?? PROBLEMS_MAX;
  }

  async run(): Promise<LedgerReport> {
    const total = await count(this.client, 'SELECT count(*)::text AS count FROM ledger_batch');
    let head: LedgerHead | null = null;
    let batches = 0;
    let rows = 0;
    let met = this.options.expected === undefined;
    for await (const batch of readBatches(this.client)) {
      if (this.full) break;
      this.add(checkLink(batch, head));
      this.add(await checkBatch(this.client, batch, this.max - this.problems.length));
      head = { sequence: batch.sequence, hash: batch.hash.toString('hex') };
      met ||= head.sequence === this.options.expected?.sequence && head.hash === this.options.expected.hash;
      batches += 1;
      rows += batch.rowCount;
      this.options.onBatch?.(batches, total);
    }
    if (!met && !this.full) this.add([unmet(this.options.expected)]);
    if (!this.full) this.add(await findStrays(this.client, this.max));
    if (!this.full) this.add(await findWrongSums(this.client, this.max));
    const unsealed = await count(this.client, COUNT_UNSEALED);
    return { batches, rows, unsealed, head, problems: this.problems };
  }

  private get full(): boolean {
    return this.problems.length >= this.max;
  }

  private add(found: readonly LedgerProblem[]): void {
    this.problems.push(...found.slice(0, this.max - this.problems.length));
  }
}

function checkLink(batch: Batch, before: LedgerHead | null): readonly LedgerProblem[] {
  const sequence = (before?.sequence ?? 0n) + 1n;
  const previous = before?.hash ?? GENESIS.toString('hex');
  const problem = (message: string): LedgerProblem => ({
    batch: batch.sequence,
    table: 'ledger_batch',
    row: String(batch.sequence),
    message,
  });
  if (batch.sequence !== sequence) return [problem(`Batch ${sequence} is missing before it.`)];
  if (batch.previousHash.toString('hex') === previous) return [];
  return [problem('It does not follow the batch before it: the previous hash differs.')];
}

function unmet(expected: LedgerHead | undefined): LedgerProblem {
  return {
    batch: expected?.sequence ?? null,
    table: 'ledger_batch',
    row: String(expected?.sequence ?? ''),
    message: 'The chain does not pass through the head that was given: it was cut or rewritten.',
  };
}

const COUNT_UNSEALED = 'SELECT coalesce(sum(cardinality(ids)), 0)::text AS count FROM ledger_unsealed';

async function count(client: PoolClient, text: string): Promise<number> {
  const { rows } = await client.query<{ readonly count: string }>(text);
  return Number(rows[0]?.count ?? 0);
}

import type { Database } from '../../db/client.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { AnchoredEpoch } from '../attribution-anchor.ts';
import type { ChainOutbox } from '../outbox/outbox.ts';
import type { Order, Problem, TransactionStatus } from '../outbox/types.ts';

/** An epoch that is closed, and not anchored for good. */
export interface OpenEpoch {
  readonly epoch: AnchoredEpoch;
  /** The epoch before; null for the first of all. */
  readonly before: AnchoredEpoch | null;
  /** How many transactions were ordered for it. */
  readonly orders: number;
}

/** Where epochs are anchored. */
export interface AnchorPlace {
  readonly chainId: bigint;
  readonly contract: string;
}

const OPEN = `
SELECT e.number::text, e.size::text, '0x' || encode(e.digest, 'hex') AS root, '0x' || encode(e.previous, 'hex') AS previous,
       b.size::text AS before_size, '0x' || encode(b.previous, 'hex') AS before_previous, coalesce(a.orders, 0) AS orders
FROM epoch e
LEFT JOIN epoch b ON b.number = e.number - 1
LEFT JOIN epoch_anchor a ON a.chain_id = $1 AND a.contract = $2 AND a.epoch = e.number
WHERE e.number >= $3 AND a.state IS DISTINCT FROM 'ANCHORED' ORDER BY e.number LIMIT $4`;

type OpenRow = {
  readonly number: string;
  readonly size: string;
  readonly root: string;
  readonly previous: string;
  readonly before_size: string | null;
  readonly before_previous: string | null;
  readonly orders: number;
};

const SEEN = `
INSERT INTO anchor_contract AS c (chain_id, address, first_epoch) VALUES ($1, $2, $3)
ON CONFLICT (chain_id, address) DO UPDATE SET first_epoch = EXCLUDED.first_epoch WHERE c.first_epoch IS NULL`;

const TROUBLE = `
INSERT INTO anchor_contract AS c (chain_id, address, problem_code, problem, problem_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (chain_id, address) DO UPDATE SET problem_code = $3, problem = $4, problem_at = $5
WHERE (c.problem_code, c.problem) IS DISTINCT FROM ($3, $4) AND c.problem_code IS DISTINCT FROM 'CHAIN_ANCHOR_DIFFERS'`;

const ORDERED = `
INSERT INTO epoch_anchor AS a (chain_id, contract, epoch, orders, state) VALUES ($1, $2, $3, $4, 'ORDERED')
ON CONFLICT (chain_id, contract, epoch) DO UPDATE SET orders = EXCLUDED.orders
WHERE a.state = 'ORDERED' AND a.orders < EXCLUDED.orders`;

const ENDED = `
INSERT INTO epoch_anchor AS a (chain_id, contract, epoch, orders, state, hash, block_number, block_hash)
VALUES ($1, $2, $3, 0, $4, $5, $6, $7)
ON CONFLICT (chain_id, contract, epoch) DO UPDATE
SET state = EXCLUDED.state, hash = EXCLUDED.hash, block_number = EXCLUDED.block_number, block_hash = EXCLUDED.block_hash
WHERE a.state = 'ORDERED'`;

/** What is kept of anchors in one contract. All of it may be written by several processes at once. */
export class AnchorStore {
  readonly #place: readonly [chainId: string, contract: string];
  readonly #deps: {
    readonly database: Pick<Database, 'querySystem' | 'withSystemPg'>;
    readonly clock: Clock;
    readonly outbox: ChainOutbox;
  };

  constructor(
    { chainId, contract }: AnchorPlace,
    deps: {
      readonly database: Pick<Database, 'querySystem' | 'withSystemPg'>;
      readonly clock: Clock;
      readonly outbox: ChainOutbox;
    },
  ) {
    this.#place = [String(chainId), contract];
    this.#deps = deps;
  }

  /** Whether the contract was found to have another epoch than this database. */
  async isStopped(): Promise<boolean> {
    const rows = await this.#deps.database.querySystem(
      `SELECT FROM anchor_contract c
       WHERE c.chain_id = $1 AND c.address = $2 AND c.problem_code = 'CHAIN_ANCHOR_DIFFERS'`,
      this.#place,
    );
    return rows.length > 0;
  }

  /** Remembers what the contract begins with. */
  async seen(firstEpoch: bigint): Promise<void> {
    await this.#deps.database.querySystem(SEEN, [...this.#place, String(firstEpoch)]);
  }

  /** Number of the newest epoch that is closed; null before the first. */
  async newest(): Promise<bigint | null> {
    const [row] = await this.#deps.database.querySystem<{ readonly number: string | null }>(
      `SELECT max(e.number)::text AS number FROM epoch e`,
      [],
    );
    return row === undefined || row.number === null ? null : BigInt(row.number);
  }

  /** Epochs from one on that are not anchored for good, in their order. */
  async open(first: bigint, limit: number): Promise<readonly OpenEpoch[]> {
    const rows = await this.#deps.database.querySystem<OpenRow>(OPEN, [...this.#place, String(first), limit]);
    return rows.map(toOpen);
  }

  /** What has become of the last transaction that was ordered for an epoch. */
  async transaction(number: bigint, orders: number): Promise<TransactionStatus | null> {
    return orders === 0 ? null : this.#deps.outbox.stateOf(this.#purpose(number, orders));
  }

  /** Orders a transaction for an epoch. */
  async order(number: bigint, orders: number, call: Order['call']): Promise<void> {
    await this.#deps.database.withSystemPg(async (client) => {
      await client.query(ORDERED, [...this.#place, String(number), orders]);
      await this.#deps.outbox.enqueue(client, { purpose: this.#purpose(number, orders), call });
    });
  }

  /** Writes down what became of an epoch for good. */
  async ended(
    number: bigint,
    state: 'ANCHORED' | 'DIFFERS',
    included: TransactionStatus['included'],
  ): Promise<void> {
    const { hash = null, block = null } = included ?? {};
    const facts = [String(number), state, hash, block?.number ?? null, block?.hash ?? null];
    await this.#deps.database.querySystem(ENDED, [...this.#place, ...facts]);
  }

  /** Writes down what is in the way, or that nothing is. */
  async trouble(problem: Problem | null): Promise<void> {
    const at = problem === null ? null : new Date(this.#deps.clock.nowMs()).toISOString();
    const facts = [problem?.code ?? null, problem?.message ?? null, at];
    await this.#deps.database.querySystem(TROUBLE, [...this.#place, ...facts]);
  }

  #purpose(number: bigint, orders: number): string {
    const [, contract] = this.#place;
    return `anchor:${number}@${contract}${orders > 1 ? `#${orders}` : ''}`;
  }
}

function toOpen(row: OpenRow): OpenEpoch {
  const { number: text, root, previous: previousRoot, before_size, before_previous, orders } = row;
  const number = BigInt(text);
  const epoch = { number, size: BigInt(row.size), root, previousRoot };
  const before =
    before_size === null || before_previous === null
      ? null
      : {
          number: number - 1n,
          size: BigInt(before_size),
          root: previousRoot,
          previousRoot: before_previous,
        };
  return { epoch, before, orders };
}

import type { PoolClient } from 'pg';
import type { Database } from '../../db/client.ts';
import type { Clock } from '../../kernel/clock.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import { newId } from '../../kernel/ids.ts';
import { insertOrder, orderFacts } from './insert.ts';
import { readStatus } from './status.ts';
import type { Order, TransactionState, TransactionStatus } from './types.ts';

const IS_SAME = `
SELECT lower(t.recipient) = lower($3) AND t.data = $4 AND t.value_wei = $5::numeric AS same
FROM chain_transaction t WHERE t.chain_id = $1 AND t.purpose = $2`;

/**
 * Transactions that are to happen on one chain, each once. Whoever wants one writes it here, in the database transaction in
 * which it was decided; the sender does everything else.
 */
export class ChainOutbox {
  readonly chainId: bigint;
  readonly #deps: { readonly database: Pick<Database, 'querySystem'>; readonly clock: Clock };

  constructor(
    options: { readonly chainId: bigint },
    deps: { readonly database: Pick<Database, 'querySystem'>; readonly clock: Clock },
  ) {
    this.chainId = options.chainId;
    this.#deps = deps;
  }

  /**
   * Orders a transaction. The same order again changes nothing, whatever has become of the first.
   * @param client of the system role, in the caller's transaction.
   * @throws PatchbayError CHAIN_PURPOSE_TAKEN when the purpose stands for another call.
   */
  async enqueue(client: PoolClient, order: Order): Promise<void> {
    const { clock } = this.#deps;
    const { purpose } = order;
    const facts = orderFacts(this.chainId, order);
    await insertOrder(client, newId(clock), facts, clock.nowMs());
    const { rows } = await client.query<{ readonly same: boolean }>(IS_SAME, facts);
    if (rows[0]?.same === true) return;
    throw new PatchbayError('CHAIN_PURPOSE_TAKEN', `Another call was ordered for ${purpose}.`, {
      meta: { purpose },
    });
  }

  /** What has become of a purpose; null when nothing was ordered for it. */
  async stateOf(purpose: string): Promise<TransactionStatus | null> {
    return (await this.statesOf([purpose])).get(purpose) ?? null;
  }

  /** The same for several purposes; those for which nothing was ordered are left out. */
  async statesOf(purposes: readonly string[]): Promise<ReadonlyMap<string, TransactionStatus>> {
    const { database } = this.#deps;
    return readStatus((text, values) => database.querySystem(text, values), this.chainId, purposes);
  }

  /** How many transactions are in each of the states in which there are any. */
  async counts(): Promise<ReadonlyMap<TransactionState, number>> {
    const rows = await this.#deps.database.querySystem<{
      readonly state: TransactionState;
      readonly many: string;
    }>(
      `SELECT t.state, count(*)::text AS many FROM chain_transaction t WHERE t.chain_id = $1 GROUP BY t.state`,
      [String(this.chainId)],
    );
    return new Map(rows.map(({ state, many }) => [state, Number(many)]));
  }
}

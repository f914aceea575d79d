import type { PoolClient } from 'pg';
import { DISTRIBUTOR_ABI } from '../../chain/royalty-distributor.ts';
import type { Database } from '../../db/client.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Uuid } from '../../kernel/ids.ts';
import { lockDistributor } from './distributors.ts';
import { addPublication, queryOn } from './tree-store.ts';
import type { Distributor, TransactionOutbox } from './types.ts';

/** A tree that is to be published. */
interface PublishedTree {
  readonly id: Uuid;
  readonly sequence: bigint;
  readonly root: string;
  readonly total: bigint;
}

/** Orders the transaction that publishes a tree, in the caller's transaction. */
export async function orderPublication(
  client: PoolClient,
  outbox: TransactionOutbox,
  distributor: Distributor,
  tree: PublishedTree,
  { attempt, at }: { readonly attempt: number; readonly at: string },
): Promise<void> {
  const { chainId, distributor: to } = distributor;
  const { id: treeId, sequence, root, total } = tree;
  const again = attempt === 1 ? '' : `:${attempt}`;
  const purpose = `publish:${chainId}:${to}:${sequence}${again}`;
  await addPublication(queryOn(client), { treeId, attempt, purpose, at });
  const data = DISTRIBUTOR_ABI.encodeFunctionData('publish', [sequence, root, total]);
  await outbox.enqueue(client, { purpose, call: { to, data } });
}

interface OpenRow {
  readonly id: Uuid;
  readonly sequence: string;
  readonly root: Buffer;
  readonly total: string;
  readonly attempt: number;
  readonly purpose: string;
}

/** The last attempts to publish trees that the chain has not. */
const OPEN = `
SELECT t.id, t.sequence::text, t.root, t.total_units::text AS total, p.attempt, p.purpose
FROM payout_tree t
JOIN LATERAL (
  SELECT p.* FROM payout_tree_publication p WHERE p.tree_id = t.id ORDER BY p.attempt DESC LIMIT 1) p ON true
WHERE t.distributor_id = $1 AND NOT EXISTS (SELECT FROM payout_tree_settlement s WHERE s.tree_id = t.id)
  AND NOT EXISTS (
    SELECT FROM payout_chain_event e
    WHERE e.distributor_id = t.distributor_id AND e.kind = 'PUBLISHED' AND e.sequence = t.sequence)
ORDER BY t.sequence`;

/**
 * Publishes again what a contract refused in a block, such as when the gas ran out or the account did not have the role: what
 * would be refused again is not sent. Publishing is the same however often it is done.
 */
export class Republication {
  readonly #deps: {
    readonly database: Database;
    readonly clock: Clock;
    readonly outbox: TransactionOutbox;
  };

  constructor(deps: {
    readonly database: Database;
    readonly clock: Clock;
    readonly outbox: TransactionOutbox;
  }) {
    this.#deps = deps;
  }

  /** Answers the numbers of the trees that are published again. */
  async run(distributor: Distributor): Promise<readonly bigint[]> {
    const { clock, database, outbox } = this.#deps;
    const open = await database.querySystem<OpenRow>(OPEN, [distributor.id]);
    const states = await outbox.statesOf(open.map(({ purpose }) => purpose));
    const refused = open.filter(({ purpose }) => states.get(purpose)?.state === 'REVERTED');
    if (refused.length === 0) return [];
    return database.withSystemPg(async (client) => {
      await lockDistributor(client, distributor.id);
      const { rows } = await client.query<OpenRow>(OPEN, [distributor.id]);
      const again: bigint[] = [];
      for (const { id, sequence, root, total, attempt, purpose } of rows) {
        // Another process was quicker.
        if (!refused.some((one) => one.purpose === purpose)) continue;
        const tree = {
          ...{ id, sequence: BigInt(sequence), root: `0x${root.toString('hex')}` },
          total: BigInt(total),
        };
        const at = new Date(clock.nowMs()).toISOString();
        await orderPublication(client, outbox, distributor, tree, { attempt: attempt + 1, at });
        again.push(tree.sequence);
      }
      return again;
    });
  }
}

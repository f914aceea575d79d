import type { Uuid } from '../../kernel/ids.ts';
import type { Query } from './tree-store.ts';

/** What of a distributor is known from final blocks. */
export interface Followed {
  /** The last block that was read. */
  readonly block: number;
  /** What it held after this block. */
  readonly balance: bigint;
  /** What was claimed until then in all. */
  readonly claimed: bigint;
  /** The number of the tree in force; zero for none. */
  readonly published: bigint;
}

const FOLLOWED = `
SELECT f.block_number::text AS block, f.balance_units::text AS balance, f.claimed_units::text AS claimed,
       f.published::text AS published
FROM payout_chain_follow f WHERE f.distributor_id = $1`;

/** How far the chain was read, and what it said. */
export async function readFollowed(query: Query, distributorId: Uuid): Promise<Followed> {
  const [row] = await query<{
    readonly block: string;
    readonly balance: string;
    readonly claimed: string;
    readonly published: string;
  }>(FOLLOWED, [distributorId]);
  if (row === undefined) throw new Error('A distributor that is stored is followed.');
  return {
    block: Number(row.block),
    balance: BigInt(row.balance),
    claimed: BigInt(row.claimed),
    published: BigInt(row.published),
  };
}

const FOREIGN = `
SELECT e.sequence::text, '0x' || encode(e.transaction_hash, 'hex') AS transaction
FROM payout_chain_event e
WHERE e.distributor_id = $1 AND e.kind = 'PUBLISHED' AND NOT EXISTS (
  SELECT FROM payout_tree t
  WHERE t.distributor_id = e.distributor_id AND t.sequence = e.sequence AND t.root = e.root)
ORDER BY e.sequence LIMIT 1`;

/** The first tree on the chain that is none of ours; null while there is none. */
export async function foreignTree(
  query: Query,
  distributorId: Uuid,
): Promise<{ readonly sequence: bigint; readonly transaction: string } | null> {
  const [row] = await query<{ readonly sequence: string; readonly transaction: string }>(FOREIGN, [
    distributorId,
  ]);
  return row === undefined ? null : { sequence: BigInt(row.sequence), transaction: row.transaction };
}

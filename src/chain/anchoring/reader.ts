import type { Database } from '../../db/client.ts';
import type { ErrorCode } from '../../kernel/codes.ts';
import type { BlockRef, Problem, TransactionState } from '../outbox/types.ts';
import type { AnchorPlace } from './store.ts';

/**
 * How far the anchoring of an epoch is. `WAITING`: for the epochs before it. `QUEUED`, `SENT`, `INCLUDED`: its transaction is
 * ordered, signed, in a block that may still be replaced. `ANCHORED`: for good. `DIFFERS`: the chain has another epoch of this
 * number for good.
 */
export type AnchorState = 'WAITING' | 'QUEUED' | 'SENT' | 'INCLUDED' | 'ANCHORED' | 'DIFFERS';

/** What is known of the anchoring of an epoch. */
export interface EpochAnchor {
  readonly epoch: bigint;
  readonly chainId: bigint;
  readonly contract: string;
  readonly state: AnchorState;
  /** The transaction that is, or is to be, in a block; null while there is none, and for what somebody else anchored. */
  readonly transaction: string | null;
  readonly block: BlockRef | null;
  readonly problem: (Problem & { readonly since: Date }) | null;
}

// Of several transactions for one epoch, the last one counts.
const ANCHORS = `
SELECT e.number::text AS epoch, a.state, t.state AS transaction_state,
       coalesce(a.hash, t.hash, (
         SELECT s.hash FROM chain_attempt s JOIN chain_nonce n
           ON n.chain_id = s.chain_id AND n.account = s.account AND n.nonce = s.nonce
         WHERE n.transaction_id = t.id AND n.taken_by IS NULL ORDER BY s.number DESC LIMIT 1)) AS hash,
       coalesce(a.block_number, t.block_number)::text AS block_number, coalesce(a.block_hash, t.block_hash) AS block_hash,
       t.problem_code, t.problem, t.problem_at
FROM epoch e
LEFT JOIN anchor_contract c ON c.chain_id = $1 AND c.address = $2
LEFT JOIN epoch_anchor a ON a.chain_id = $1 AND a.contract = $2 AND a.epoch = e.number
LEFT JOIN chain_transaction t ON a.state = 'ORDERED' AND t.chain_id = $1
  AND t.purpose = format('anchor:%s@%s', e.number, $2::text) || CASE WHEN a.orders > 1 THEN '#' || a.orders ELSE '' END
WHERE e.number = ANY ($3::bigint[]) AND e.number >= coalesce(c.first_epoch, 0)
ORDER BY e.number`;

type AnchorRow = {
  readonly epoch: string;
  readonly state: 'ORDERED' | 'ANCHORED' | 'DIFFERS' | null;
  readonly transaction_state: TransactionState | null;
  readonly hash: string | null;
  readonly block_number: string | null;
  readonly block_hash: string | null;
  readonly problem_code: ErrorCode | null;
  readonly problem: string | null;
  readonly problem_at: Date | null;
};

const SENDING: Readonly<Record<TransactionState, AnchorState>> = {
  QUEUED: 'QUEUED',
  SIGNED: 'SENT',
  INCLUDED: 'INCLUDED',
  // The transaction is final, and that the contract has the epoch is not written down yet; or it was refused, and another follows.
  FINAL: 'INCLUDED',
  REVERTED: 'WAITING',
};

/** Says what became of epochs on the chain, out of the database. */
export class AnchorReader {
  readonly #place: AnchorPlace;
  readonly #database: Pick<Database, 'querySystem'>;

  constructor(place: AnchorPlace, database: Pick<Database, 'querySystem'>) {
    this.#place = place;
    this.#database = database;
  }

  /** Anchors of epochs by number; those that the contract does not begin with, or that are not closed, are left out. */
  async of(epochs: readonly bigint[]): Promise<readonly EpochAnchor[]> {
    const { chainId, contract } = this.#place;
    const rows = await this.#database.querySystem<AnchorRow>(ANCHORS, [
      String(chainId),
      contract,
      epochs.map(String),
    ]);
    return rows.map((row) => ({ ...toAnchor(row), chainId, contract }));
  }
}

function toAnchor(row: AnchorRow): Omit<EpochAnchor, 'chainId' | 'contract'> {
  const { epoch, state, transaction_state: sending, hash, block_number, block_hash } = row;
  const block =
    block_number === null || block_hash === null ? null : { number: Number(block_number), hash: block_hash };
  const problem =
    row.problem_code === null || row.problem === null || row.problem_at === null
      ? null
      : { code: row.problem_code, message: row.problem, since: row.problem_at };
  const isOver = state === 'ANCHORED' || state === 'DIFFERS';
  const current = isOver ? state : sending === null ? 'WAITING' : SENDING[sending];
  const waits = current === 'WAITING';
  return {
    epoch: BigInt(epoch),
    state: current,
    transaction: waits ? null : hash,
    block: waits ? null : block,
    problem,
  };
}

import type { ErrorCode } from '../../kernel/codes.ts';
import type { TransactionState, TransactionStatus } from './types.ts';

// The last problem is the transaction's own, or else that of the sender of its account, as long as it is open. What is queued
// has no account yet: any sender of the chain may be the one that is stuck, and the latest word counts.
const STATUS = `
SELECT t.purpose, t.state, t.hash, t.block_number::text, t.block_hash, t.reason, n.account, n.nonce::text,
       coalesce((SELECT array_agg(a.hash ORDER BY a.number) FROM chain_attempt a
                 WHERE a.chain_id = n.chain_id AND a.account = n.account AND a.nonce = n.nonce), '{}') AS hashes,
       coalesce(t.problem_code, w.problem_code) AS problem_code,
       CASE WHEN t.problem_code IS NULL THEN w.problem ELSE t.problem END AS problem,
       CASE WHEN t.problem_code IS NULL THEN w.problem_at ELSE t.problem_at END AS problem_at
FROM chain_transaction t
LEFT JOIN chain_nonce n ON n.transaction_id = t.id AND n.taken_by IS NULL
LEFT JOIN LATERAL (
  SELECT w.problem_code, w.problem, w.problem_at FROM chain_writer w
  WHERE w.chain_id = t.chain_id AND (n.account IS NULL OR w.account = n.account) AND w.problem_code IS NOT NULL
    AND t.state IN ('QUEUED', 'SIGNED', 'INCLUDED')
  ORDER BY w.problem_at DESC LIMIT 1) w ON true
WHERE t.chain_id = $1 AND t.purpose = ANY ($2)`;

type StatusRow = {
  readonly purpose: string;
  readonly state: TransactionState;
  readonly hash: string | null;
  readonly block_number: string | null;
  readonly block_hash: string | null;
  readonly reason: string | null;
  readonly account: string | null;
  readonly nonce: string | null;
  readonly hashes: readonly string[];
  readonly problem_code: ErrorCode | null;
  readonly problem: string | null;
  readonly problem_at: Date | null;
};

/** Reads what is known of purposes. */
export async function readStatus(
  query: (text: string, values: readonly unknown[]) => Promise<readonly StatusRow[]>,
  chainId: bigint,
  purposes: readonly string[],
): Promise<ReadonlyMap<string, TransactionStatus>> {
  const rows = await query(STATUS, [String(chainId), purposes]);
  return new Map(rows.map((row) => [row.purpose, toStatus(row)]));
}

function toStatus(row: StatusRow): TransactionStatus {
  const { purpose, state, reason, hashes } = row;
  const signed =
    row.account === null || row.nonce === null ? null : { account: row.account, nonce: Number(row.nonce) };
  const included =
    row.hash === null || row.block_number === null || row.block_hash === null
      ? null
      : { hash: row.hash, block: { number: Number(row.block_number), hash: row.block_hash } };
  const problem =
    row.problem_code === null || row.problem === null || row.problem_at === null
      ? null
      : { code: row.problem_code, message: row.problem, atMs: row.problem_at.getTime() };
  return { purpose, state, signed, hashes, included, reason, problem };
}

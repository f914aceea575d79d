/**
 * What the hashes of batches cannot tell: rows that no batch holds, and derived tables that do not say what the facts
 * say. Plain SQL over tables, whose answer is empty for a ledger that is whole.
 */
import type { PoolClient } from 'pg';
import type { LedgerProblem } from './verify.ts';

interface ProblemRow {
  readonly table: string;
  readonly row: string;
  readonly message: string;
}

const members = (fact: string): string => `
  SELECT unnest(${fact}_ids) AS id FROM ledger_batch
  UNION ALL SELECT unnest(ids) FROM ledger_unsealed WHERE what = '${fact}'`;

/** Facts that are in no batch and in no queue, in two places at once, or in a queue and nowhere else. */
const unlisted = (fact: string): string => `
SELECT 'ledger_${fact}' AS "table", coalesce(f.id, m.id)::text AS "row",
       CASE WHEN f.id IS NULL THEN 'It waits to be sealed, and there is no such row.'
            WHEN m.id IS NULL THEN 'No batch holds the row, and it does not wait to be sealed.'
            ELSE 'The row is sealed more than once.' END AS message
FROM ledger_${fact} f FULL JOIN (SELECT id, count(*) AS times FROM (${members(fact)}) l GROUP BY id) m ON m.id = f.id
WHERE f.id IS NULL OR m.id IS NULL OR m.times > 1`;

const STRAYS = [
  unlisted('account'),
  unlisted('limit'),
  unlisted('transfer'),
  `SELECT 'ledger_posting' AS "table", p.transfer_id::text || '/' || p.line::text AS "row",
          'The row belongs to no transfer, or was added to one.' AS message
   FROM ledger_posting p LEFT JOIN ledger_transfer t ON t.id = p.transfer_id
   WHERE t.id IS NULL OR p.line > t.lines OR p.line < 1`,
];

/** Of each transfer: lines, zero, amount, and what it says of the hold that it resolves. */
const TRANSFERS = `
SELECT 'ledger_transfer' AS "table", t.id::text AS "row", 'The transfer is out of balance.' AS message
FROM ledger_transfer t
LEFT JOIN LATERAL (
  SELECT count(*) AS lines, coalesce(sum(p.amount), 0) AS net,
         coalesce(sum(p.amount) FILTER (WHERE p.amount > 0), 0) AS moved,
         coalesce(sum(p.amount) FILTER (WHERE p.account_id = t.account_id), 0) AS payer,
         coalesce(bool_and(coalesce(a.asset = t.asset AND a.tenant_id = p.tenant_id, false)), true) AS fits
  FROM ledger_posting p LEFT JOIN ledger_account a ON a.id = p.account_id WHERE p.transfer_id = t.id
) s ON true
LEFT JOIN ledger_transfer h ON h.id = t.pending_id
WHERE s.lines <> t.lines OR s.net <> 0 OR s.moved <> t.amount OR NOT s.fits
   OR (t.kind = 'POST' AND s.payer <> -t.amount)
   OR (t.pending_id IS NOT NULL AND (h.kind, h.account_id, h.tenant_id, h.held)
       IS DISTINCT FROM ('PENDING', t.account_id, t.tenant_id, t.held))`;

const BALANCES = `
WITH open AS (
  SELECT t.account_id, sum(t.held) AS held FROM ledger_transfer t
  WHERE t.kind = 'PENDING' AND NOT EXISTS (SELECT FROM ledger_transfer r WHERE r.pending_id = t.id)
  GROUP BY t.account_id
), posted AS (
  SELECT account_id, sum(amount) AS amount FROM ledger_posting GROUP BY account_id
), latest AS (
  SELECT DISTINCT ON (account_id) account_id, credit_limit FROM ledger_limit ORDER BY account_id, number DESC
), expected AS (
  SELECT a.id, a.tenant_id, a.kind = 'CUSTOMER' AS limited,
         CASE WHEN a.kind = 'CUSTOMER' THEN coalesce(p.amount, 0) ELSE 0 END AS posted,
         coalesce(o.held, 0) AS held, coalesce(l.credit_limit, 0) AS credit_limit
  FROM ledger_account a
  LEFT JOIN posted p ON p.account_id = a.id
  LEFT JOIN open o ON o.account_id = a.id
  LEFT JOIN latest l ON l.account_id = a.id
)
SELECT 'ledger_balance' AS "table", coalesce(e.id, b.account_id)::text AS "row",
       'The balance is not the sum of the facts.' AS message
FROM expected e FULL JOIN ledger_balance b ON b.account_id = e.id
WHERE (e.tenant_id, e.limited, e.posted, e.held, e.credit_limit)
      IS DISTINCT FROM (b.tenant_id, b.limited, b.posted::numeric, b.held::numeric, b.credit_limit)`;

const FOLDS = `
WITH expected AS (
  SELECT p.account_id, p.tenant_id, sum(p.amount) AS posted, count(*) AS postings
  FROM (SELECT unnest(transfer_ids) AS id FROM ledger_batch) m
  JOIN ledger_posting p ON p.transfer_id = m.id
  JOIN ledger_account a ON a.id = p.account_id AND a.kind <> 'CUSTOMER'
  GROUP BY p.account_id, p.tenant_id
)
SELECT 'ledger_fold' AS "table", coalesce(e.account_id, f.account_id)::text AS "row",
       'The folded sum is not the sum of the sealed postings.' AS message
FROM expected e FULL JOIN ledger_fold f ON f.account_id = e.account_id AND f.tenant_id = e.tenant_id
WHERE (e.posted, e.postings) IS DISTINCT FROM (f.posted, f.postings)`;

const OPEN_HOLDS = `
WITH expected AS (
  SELECT t.id, t.tenant_id, t.expires_at FROM ledger_transfer t
  WHERE t.kind = 'PENDING' AND NOT EXISTS (SELECT FROM ledger_transfer r WHERE r.pending_id = t.id)
)
SELECT 'ledger_open_hold' AS "table", coalesce(e.id, o.transfer_id)::text AS "row",
       'It is not what the pending transfers say.' AS message
FROM expected e FULL JOIN ledger_open_hold o ON o.transfer_id = e.id
WHERE (e.id, e.tenant_id, e.expires_at) IS DISTINCT FROM (o.transfer_id, o.tenant_id, o.expires_at)`;

/** Rows that are nowhere in the chain. */
export function findStrays(client: PoolClient, max: number): Promise<readonly LedgerProblem[]> {
  return collect(client, STRAYS, max);
}

/** Transfers out of balance, and derived rows that differ from the facts. */
export function findWrongSums(client: PoolClient, max: number): Promise<readonly LedgerProblem[]> {
  return collect(client, [TRANSFERS, BALANCES, FOLDS, OPEN_HOLDS], max);
}

async function collect(
  client: PoolClient,
  queries: readonly string[],
  max: number,
): Promise<readonly LedgerProblem[]> {
  const problems: LedgerProblem[] = [];
  for (const query of queries) {
    const text = `SELECT * FROM (${query}) found ORDER BY "row" LIMIT $1`;
    const { rows } = await client.query<ProblemRow>(text, [max]);
    problems.push(...rows.map((row) => ({ batch: null, ...row })));
  }
  return problems;
}

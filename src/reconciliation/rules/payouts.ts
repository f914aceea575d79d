import { inPeriod, inScope, type SqlRule } from './rule.ts';

const OF_TENANT = (column: string): string => `($3::uuid IS NULL OR ${column} = $3::uuid)`;

/**
 * What the statements of beneficiaries say of the period, as CTEs: by the time of the posting and by what its transfer is
 * about, as `patchbay.earnings_statement` reads them.
 */
const STATEMENTS = `account AS (
  SELECT a.id, a.tenant_id FROM ledger_account a WHERE a.kind = 'EARNINGS' AND ${OF_TENANT('a.tenant_id')}
), statement AS (
  SELECT p.account_id, t.reference_type, p.subject_id, p.amount
  FROM account a
  JOIN ledger_posting p ON p.account_id = a.id
  JOIN ledger_transfer t ON t.id = p.transfer_id
  WHERE ${inPeriod('p.created_at')}
)`;

/** What beneficiaries are told that they earned and were paid, and the ledger. */
export const PAYOUT_RULES: readonly SqlRule[] = [
  {
    rule: 'STATEMENT_EARNED',
    subject: 'BENEFICIARY',
    // From all callers, whatever tenant is asked for: it is the beneficiary's.
    sql: `
WITH ${STATEMENTS}, earned AS (
  SELECT a.id AS account_id, p.subject_id, sum(p.amount) AS amount
  FROM account a
  JOIN ledger_posting p ON p.account_id = a.id
  JOIN ledger_transfer t ON t.id = p.transfer_id AND t.kind = 'POST'
  JOIN usage_record r ON r.id = t.reference_id AND r.hold_id = t.pending_id
  WHERE ${inPeriod('r.ended_at')}
  GROUP BY a.id, p.subject_id
), told AS (
  SELECT s.account_id, s.subject_id, sum(s.amount) AS amount FROM statement s WHERE s.reference_type = 'inference'
  GROUP BY s.account_id, s.subject_id
)
SELECT a.tenant_id AS subject_id, a.tenant_id, coalesce(e.subject_id, s.subject_id)::text AS detail,
       e.amount::text AS expected, s.amount::text AS actual
FROM earned e
FULL JOIN told s ON s.account_id = e.account_id
  AND coalesce(s.subject_id, s.account_id) = coalesce(e.subject_id, e.account_id)
JOIN account a ON a.id = coalesce(e.account_id, s.account_id)
WHERE coalesce(e.amount, 0) <> coalesce(s.amount, 0)`,
  },
  {
    rule: 'STATEMENT_PAID',
    subject: 'BENEFICIARY',
    sql: `
WITH ${STATEMENTS}, moved AS (
  SELECT p.account_id, p.amount_nano AS amount FROM payout p
  WHERE p.state = 'PAID' AND ${inScope('p.state_changed_at', 'p.tenant_id')}
  UNION ALL
  -- When what came back had been paid is known from its capture alone.
  SELECT p.account_id, p.amount_nano FROM payout p JOIN ledger_transfer t ON t.pending_id = p.hold_id AND t.kind = 'POST'
  WHERE p.state = 'RETURNED' AND ${inScope('t.created_at', 'p.tenant_id')}
  UNION ALL
  SELECT p.account_id, -p.amount_nano FROM payout p
  WHERE p.state = 'RETURNED' AND ${inScope('p.state_changed_at', 'p.tenant_id')}
), paid AS (
  SELECT m.account_id, sum(m.amount) AS amount FROM moved m GROUP BY m.account_id
), told AS (
  SELECT s.account_id, -sum(s.amount) AS amount FROM statement s WHERE s.reference_type IN ('payout', 'payout_return')
  GROUP BY s.account_id
)
SELECT a.tenant_id AS subject_id, a.tenant_id, NULL AS detail, p.amount::text AS expected, s.amount::text AS actual
FROM account a LEFT JOIN paid p ON p.account_id = a.id LEFT JOIN told s ON s.account_id = a.id
WHERE coalesce(p.amount, 0) <> coalesce(s.amount, 0)`,
  },
  {
    rule: 'PAYOUT_MONEY',
    subject: 'PAYOUT',
    // Payouts of the period, and those that were made before and have not ended before: what is unknown is still held.
    sql: `
WITH wanted AS (
  SELECT * FROM payout p
  WHERE p.created_at < $2::timestamptz AND ${OF_TENANT('p.tenant_id')}
    AND (p.state IN ('PENDING', 'SENDING', 'UNKNOWN') OR p.state_changed_at >= $1::timestamptz)
), found AS (
  SELECT p.id,
         CASE WHEN p.state IN ('PENDING', 'SENDING', 'UNKNOWN') THEN 'held'
              WHEN p.state IN ('PAID', 'RETURNED') THEN 'paid' ELSE 'released' END || ' ' || p.amount_nano
           || CASE p.state WHEN 'RETURNED' THEN ', returned ' || p.amount_nano ELSE '' END AS expected,
         CASE WHEN h.id IS NULL THEN NULL
              WHEN (h.tenant_id, h.account_id, h.asset, h.reference_id) <> (p.tenant_id, p.account_id, p.currency, p.id)
                THEN 'held for another'
              WHEN t.id IS NULL AND o.transfer_id IS NOT NULL THEN 'held ' || h.held
              WHEN t.kind = 'POST' THEN 'paid ' || coalesce(c.amount, 0) || coalesce(', returned ' || -b.amount, '')
              WHEN t.kind = 'VOID' THEN 'released ' || t.held END AS actual
  FROM wanted p
  LEFT JOIN ledger_transfer h ON h.id = p.hold_id AND h.kind = 'PENDING' AND h.reference_type = 'payout'
  LEFT JOIN ledger_open_hold o ON o.transfer_id = h.id
  LEFT JOIN ledger_transfer t ON t.pending_id = h.id
  LEFT JOIN LATERAL (
    SELECT sum(l.amount) AS amount FROM ledger_posting l JOIN ledger_account a ON a.id = l.account_id
    WHERE l.transfer_id = t.id AND a.kind = 'CASH') c ON true
  LEFT JOIN LATERAL (
    SELECT sum(l.amount) AS amount FROM ledger_posting l JOIN ledger_account a ON a.id = l.account_id
    WHERE l.transfer_id = p.return_transfer_id AND a.kind = 'CASH') b ON true
)
SELECT p.id AS subject_id, p.tenant_id, NULL AS detail, f.expected, f.actual
FROM wanted p JOIN found f ON f.id = p.id WHERE f.actual IS DISTINCT FROM f.expected`,
  },
  {
    rule: 'PAYOUT_HOLD',
    subject: 'TRANSFER',
    sql: `
SELECT t.id AS subject_id, t.tenant_id, t.reference_id::text AS detail, NULL AS expected, t.held::text AS actual
FROM ledger_transfer t
WHERE t.kind = 'PENDING' AND t.reference_type = 'payout' AND ${inScope('t.created_at', 't.tenant_id')}
  AND NOT EXISTS (SELECT FROM payout p WHERE p.hold_id = t.id)`,
  },
  {
    rule: 'PAYOUT_BATCH',
    subject: 'PAYOUT_BATCH',
    // A batch concerns many beneficiaries, so it is looked at when none is asked for.
    sql: `
SELECT b.id AS subject_id, NULL::uuid AS tenant_id, NULL AS detail, b.payout_count || ' of ' || b.total_nano AS expected,
       s.payouts || ' of ' || s.total AS actual
FROM payout_batch b
CROSS JOIN LATERAL (
  SELECT count(*) AS payouts, coalesce(sum(p.amount_nano), 0) AS total FROM payout p WHERE p.batch_id = b.id) s
WHERE ${inPeriod('b.created_at')} AND $3::uuid IS NULL AND (s.payouts, s.total) <> (b.payout_count, b.total_nano)`,
  },
];

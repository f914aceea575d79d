import { inPeriod, inScope, type SqlRule } from './rule.ts';

/** What concerns many, and is looked at when no tenant is asked for. */
const FOR_ALL = '$3::uuid IS NULL';

/**
 * Payouts on a chain, and what final blocks of it say. Trees and what they promise are looked at by when they were made; what is
 * summed up over the life of a distributor, of every one that there was when the period ended, as it is now.
 */
export const CHAIN_RULES: readonly SqlRule[] = [
  {
    rule: 'CHAIN_ORDER',
    subject: 'PAYOUT',
    sql: `
WITH said AS (
  SELECT p.id, p.tenant_id, d.account_reference || ' ' || p.amount_nano AS text, p.payment_key, p.batch_id
  FROM payout p JOIN payout_batch b ON b.id = p.batch_id JOIN payout_destination d ON d.id = p.destination_id
  WHERE b.rail = 'CHAIN' AND b.state IN ('SUBMITTED', 'SETTLED') AND ${inScope('p.created_at', 'p.tenant_id')}
), ordered AS (
  SELECT o.payment_key, o.beneficiary_id, t.batch_id, o.account || ' ' || o.amount_nano AS text
  FROM payout_tree t JOIN payout_tree_payment o ON o.tree_id = t.id
), compared AS (
  SELECT s.id, s.tenant_id, s.text AS expected, o.text AS actual
  FROM said s
  LEFT JOIN ordered o ON o.payment_key = s.payment_key AND o.beneficiary_id = s.tenant_id AND o.batch_id = s.batch_id
  UNION ALL
  -- What was handed over and is no payout is named by who is paid.
  SELECT o.beneficiary_id, o.beneficiary_id, NULL, o.text
  FROM ordered o JOIN payout_tree t ON t.batch_id = o.batch_id
  WHERE ${inScope('t.created_at', 'o.beneficiary_id')}
    AND NOT EXISTS (SELECT FROM payout p WHERE p.payment_key = o.payment_key AND p.batch_id = o.batch_id)
)
SELECT c.id AS subject_id, c.tenant_id, NULL AS detail, c.expected, c.actual
FROM compared c WHERE c.expected IS DISTINCT FROM c.actual`,
  },
  {
    rule: 'CHAIN_TREE',
    subject: 'PAYOUT_TREE',
    sql: `
SELECT t.id AS subject_id, NULL::uuid AS tenant_id, c.account AS detail, c.expected, c.actual
FROM payout_tree t
CROSS JOIN LATERAL (
  SELECT account, e.units::text AS expected, l.units::text AS actual
  FROM patchbay.payout_entitlements(t.distributor_id, t.sequence) e
  FULL JOIN (SELECT o.account, o.units FROM payout_tree_leaf o WHERE o.tree_id = t.id) l USING (account)
  WHERE e.units IS DISTINCT FROM l.units) c
WHERE ${FOR_ALL} AND ${inPeriod('t.created_at')}
UNION ALL
SELECT t.id, NULL, NULL, s.total::text, t.total_units::text
FROM payout_tree t
CROSS JOIN LATERAL (SELECT sum(o.units) AS total FROM payout_tree_leaf o WHERE o.tree_id = t.id) s
WHERE ${FOR_ALL} AND ${inPeriod('t.created_at')} AND s.total IS DISTINCT FROM t.total_units`,
  },
  {
    rule: 'CHAIN_PUBLISHED',
    subject: 'DISTRIBUTOR',
    sql: `
SELECT e.distributor_id AS subject_id, NULL::uuid AS tenant_id, e.sequence::text AS detail,
       '0x' || encode(t.root, 'hex') AS expected, '0x' || encode(e.root, 'hex') AS actual
FROM payout_chain_event e
LEFT JOIN payout_tree t ON t.distributor_id = e.distributor_id AND t.sequence = e.sequence
WHERE ${FOR_ALL} AND e.kind = 'PUBLISHED' AND ${inPeriod('e.seen_at')}
  AND (t.root, t.total_units) IS DISTINCT FROM (e.root, e.units)`,
  },
  {
    rule: 'CHAIN_PAID',
    subject: 'PAYOUT',
    sql: `
SELECT p.id AS subject_id, p.tenant_id, NULL AS detail, s.reference AS expected, p.bank_reference AS actual
FROM payout p
JOIN payout_batch b ON b.id = p.batch_id AND b.rail = 'CHAIN'
LEFT JOIN LATERAL (
  SELECT t.sequence || ':0x' || encode(e.transaction_hash, 'hex') AS reference
  FROM payout_tree_payment o
  JOIN payout_tree t ON t.id = o.tree_id
  JOIN payout_tree_settlement s ON s.tree_id = t.id
  JOIN payout_chain_event e ON e.distributor_id = t.distributor_id AND e.kind = 'PUBLISHED'
    AND e.sequence = t.sequence AND e.root = t.root
  WHERE o.payment_key = p.payment_key) s ON true
WHERE p.state = 'PAID' AND ${inScope('p.state_changed_at', 'p.tenant_id')} AND s.reference IS DISTINCT FROM p.bank_reference`,
  },
  {
    rule: 'CHAIN_CLAIMED',
    subject: 'DISTRIBUTOR',
    sql: `
WITH claim AS (
  SELECT e.distributor_id, e.account, sum(e.units) AS units, max(e.cumulative) AS cumulative
  FROM payout_chain_event e JOIN payout_distributor d ON d.id = e.distributor_id
  WHERE ${FOR_ALL} AND e.kind = 'CLAIMED' AND d.created_at < $2::timestamptz
  GROUP BY e.distributor_id, e.account
)
SELECT c.distributor_id AS subject_id, NULL::uuid AS tenant_id, c.account AS detail, c.cumulative::text AS expected,
       c.units::text AS actual
FROM claim c WHERE c.units <> c.cumulative
UNION ALL
SELECT e.distributor_id, NULL, e.account, coalesce(l.units, 0)::text, e.cumulative::text
FROM payout_chain_event e
LEFT JOIN payout_tree t ON t.distributor_id = e.distributor_id AND t.sequence = e.sequence
LEFT JOIN payout_tree_leaf l ON l.tree_id = t.id AND l.account = e.account
WHERE ${FOR_ALL} AND e.kind = 'CLAIMED' AND ${inPeriod('e.seen_at')} AND e.cumulative > coalesce(l.units, 0)`,
  },
  {
    rule: 'CHAIN_BALANCE',
    subject: 'DISTRIBUTOR',
    // As of the last block that was read.
    sql: `
SELECT d.id AS subject_id, NULL::uuid AS tenant_id, f.block_number::text AS detail,
       (d.opening_units + s.received - s.claimed)::text AS expected, f.balance_units::text AS actual
FROM payout_distributor d
JOIN payout_chain_follow f ON f.distributor_id = d.id
CROSS JOIN LATERAL (
  SELECT coalesce(sum(e.units) FILTER (WHERE e.kind = 'RECEIVED'), 0) AS received,
         coalesce(sum(e.units) FILTER (WHERE e.kind = 'CLAIMED'), 0) AS claimed
  FROM payout_chain_event e WHERE e.distributor_id = d.id AND e.block_number <= f.block_number) s
WHERE ${FOR_ALL} AND d.created_at < $2::timestamptz AND d.opening_units + s.received - s.claimed <> f.balance_units`,
  },
];

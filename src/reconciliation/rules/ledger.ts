import { inPeriod, inScope, PRICED_RECORDS, type SqlRule } from './rule.ts';

/** What was captured for the usage records of the scope, as CTEs. */
const CAPTURES = `${PRICED_RECORDS}, capture AS (
  SELECT r.id AS request_id, t.*
  FROM record r JOIN ledger_transfer t ON t.pending_id = r.hold_id
  WHERE t.kind = 'POST' AND ${inPeriod('t.created_at')}
), line AS (
  SELECT c.request_id, a.kind, a.tenant_id, p.subject_id, p.amount
  FROM capture c
  JOIN ledger_posting p ON p.transfer_id = c.id
  JOIN ledger_account a ON a.id = p.account_id
)`;

/** Usage records and the ledger. */
export const LEDGER_RULES: readonly SqlRule[] = [
  {
    rule: 'RECORD_CAPTURE',
    subject: 'REQUEST',
    sql: `
WITH ${CAPTURES}
SELECT r.id AS subject_id, r.tenant_id, NULL AS detail, r.amount_nano::text AS expected, t.amount::text AS actual
FROM record r LEFT JOIN capture t ON t.request_id = r.id
WHERE coalesce(t.amount, 0) <> r.amount_nano OR (r.hold_id IS NOT NULL AND t.id IS NULL)
   OR (t.tenant_id, t.asset, t.reference_type, t.reference_id) <> (r.tenant_id, r.currency, 'inference', r.id)`,
  },
  {
    rule: 'CAPTURE_RECORD',
    subject: 'REQUEST',
    sql: `
SELECT coalesce(t.reference_id, t.id) AS subject_id, t.tenant_id, NULL AS detail, NULL AS expected, t.amount::text AS actual
FROM ledger_transfer t
WHERE t.kind = 'POST' AND t.reference_type = 'inference' AND ${inScope('t.created_at', 't.tenant_id')}
  AND NOT EXISTS (
    SELECT FROM usage_record r
    WHERE r.id = t.reference_id AND r.hold_id = t.pending_id AND r.tenant_id = t.tenant_id AND ${inPeriod('r.ended_at')})`,
  },
  {
    rule: 'CUSTOMER',
    subject: 'REQUEST',
    sql: `
WITH ${CAPTURES}, paid AS (
  SELECT l.request_id, l.tenant_id, -sum(l.amount) AS amount FROM line l WHERE l.kind = 'CUSTOMER'
  GROUP BY l.request_id, l.tenant_id
)
SELECT r.id AS subject_id, r.tenant_id, NULL AS detail, r.amount_nano::text AS expected, p.amount::text AS actual
FROM record r LEFT JOIN paid p ON p.request_id = r.id
WHERE coalesce(p.amount, 0) <> r.amount_nano OR p.tenant_id <> r.tenant_id`,
  },
  {
    rule: 'EARNINGS',
    subject: 'REQUEST',
    sql: `
WITH ${CAPTURES}, earned AS (
  SELECT c.request_id, c.adapter_version_id AS version_id, sum(c.royalty_nano - c.fee_nano) AS amount
  FROM record r JOIN usage_charge c ON c.request_id = r.id
  WHERE c.adapter_version_id IS NOT NULL GROUP BY c.request_id, c.adapter_version_id
), credited AS (
  SELECT l.request_id, l.subject_id AS version_id, sum(l.amount) AS amount FROM line l WHERE l.kind = 'EARNINGS'
  GROUP BY l.request_id, l.subject_id
)
SELECT r.id AS subject_id, r.tenant_id, coalesce(e.version_id, c.version_id)::text AS detail, e.amount::text AS expected,
       c.amount::text AS actual
FROM earned e
FULL JOIN credited c ON c.request_id = e.request_id AND c.version_id = e.version_id
JOIN record r ON r.id = coalesce(e.request_id, c.request_id)
WHERE coalesce(e.amount, 0) <> coalesce(c.amount, 0)`,
  },
  {
    rule: 'PLATFORM',
    subject: 'REQUEST',
    sql: `
WITH ${CAPTURES}, due AS (
  SELECT c.request_id, sum(c.total_nano - c.royalty_nano + c.fee_nano) AS amount
  FROM record r JOIN usage_charge c ON c.request_id = r.id GROUP BY c.request_id
), credited AS (
  SELECT l.request_id, sum(l.amount) AS amount FROM line l WHERE l.kind IN ('PLATFORM_BASE', 'PLATFORM_FEE')
  GROUP BY l.request_id
)
SELECT r.id AS subject_id, r.tenant_id, NULL AS detail, d.amount::text AS expected, c.amount::text AS actual
FROM record r LEFT JOIN due d ON d.request_id = r.id LEFT JOIN credited c ON c.request_id = r.id
WHERE coalesce(d.amount, 0) <> coalesce(c.amount, 0)`,
  },
  {
    rule: 'OPEN_HOLD',
    subject: 'REQUEST',
    // As of now: requests that run have ended in no period yet.
    sql: `
SELECT coalesce(q.id, t.reference_id, t.id) AS subject_id, coalesce(q.tenant_id, t.tenant_id) AS tenant_id, NULL AS detail,
       q.hold_id::text AS expected, t.id::text AS actual
FROM (SELECT id, tenant_id, hold_id FROM inference_request WHERE hold_id IS NOT NULL) q
FULL JOIN (
  SELECT t.id, t.tenant_id, t.reference_id FROM ledger_open_hold o JOIN ledger_transfer t ON t.id = o.transfer_id
  WHERE t.reference_type = 'inference') t ON t.id = q.hold_id
WHERE (q.id IS NULL OR t.id IS NULL) AND ($3::uuid IS NULL OR coalesce(q.tenant_id, t.tenant_id) = $3::uuid)`,
  },
];

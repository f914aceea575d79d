import { inScope, type SqlRule } from './rule.ts';

/**
 * Usage records and the log of receipts. A process numbers everything that it settles or nothing, so that one receipt of its
 * run shows that proofs were on; what is signed and logged a moment later has ten minutes for it.
 */
export const RECEIPT_RULES: readonly SqlRule[] = [
  {
    rule: 'RECORD_RECEIPT',
    subject: 'REQUEST',
    sql: `
WITH record AS (
  SELECT r.id, r.tenant_id, r.instance_id, r.settled_by, r.ended_at,
         EXISTS (SELECT FROM receipt c WHERE c.request_id = r.id) AS signed,
         EXISTS (SELECT FROM receipt_pending p WHERE p.request_id = r.id) AS pending,
         EXISTS (SELECT FROM log_leaf l WHERE l.entry_id = r.id) AS logged
  FROM usage_record r WHERE ${inScope('r.ended_at', 'r.tenant_id')}
)
SELECT r.id AS subject_id, r.tenant_id, NULL AS detail, 'in the log' AS expected,
       CASE WHEN r.signed THEN 'signed' WHEN r.pending THEN 'numbered' WHEN r.logged THEN 'a leaf' END AS actual
FROM record r
WHERE (r.signed AND r.logged) IS NOT TRUE
  AND CASE WHEN r.signed OR r.pending THEN r.ended_at < now() - interval '10 minutes'
           ELSE r.logged OR (r.settled_by = 'engine' AND r.instance_id IN (SELECT n.instance_id FROM record n WHERE n.signed))
      END`,
  },
];

import { inPeriod, inScope, PRICED_RECORDS, type SqlRule } from './rule.ts';

/** Usage records, what they were charged with, and what owners are shown of them. */
export const CHARGE_RULES: readonly SqlRule[] = [
  {
    rule: 'RECORD_CHARGES',
    subject: 'REQUEST',
    sql: `
WITH ${PRICED_RECORDS}, charge AS (
  SELECT r.id, sum(c.total_nano) AS amount,
         bool_and(c.input_tokens + c.cached_tokens = r.prompt_tokens AND c.cached_tokens = r.cached_prompt_tokens
           AND c.output_tokens = r.completion_tokens) AS same_tokens,
         bool_and((c.tenant_id, c.ended_at, c.currency) = (r.tenant_id, r.ended_at, r.currency)) AS same_bill
  FROM record r JOIN usage_charge c ON c.request_id = r.id GROUP BY r.id
)
SELECT r.id AS subject_id, r.tenant_id, NULL AS detail, r.amount_nano::text AS expected,
       CASE WHEN NOT c.same_tokens THEN 'other tokens'
            WHEN NOT c.same_bill THEN 'another tenant, time or currency' ELSE c.amount::text END AS actual
FROM record r LEFT JOIN charge c ON c.id = r.id
WHERE (c.amount = r.amount_nano AND c.same_tokens AND c.same_bill) IS NOT TRUE`,
  },
  {
    rule: 'CHARGE_RECORD',
    subject: 'REQUEST',
    sql: `
SELECT c.request_id AS subject_id, c.tenant_id, NULL AS detail, NULL AS expected, sum(c.total_nano)::text AS actual
FROM usage_charge c
WHERE ${inScope('c.ended_at', 'c.tenant_id')}
  AND NOT EXISTS (
    SELECT FROM usage_record r
    WHERE r.id = c.request_id AND r.tenant_id = c.tenant_id AND r.amount_nano IS NOT NULL AND ${inPeriod('r.ended_at')})
GROUP BY c.request_id, c.tenant_id`,
  },
  {
    rule: 'RECORD_SHARES',
    subject: 'REQUEST',
    sql: `
WITH ${PRICED_RECORDS}, charged AS (
  SELECT c.*, r.prompt_tokens, r.cached_prompt_tokens, r.completion_tokens
  FROM record r JOIN usage_charge c ON c.request_id = r.id WHERE c.adapter_version_id IS NOT NULL
), shared AS (
  SELECT s.* FROM record r JOIN usage_share s ON s.request_id = r.id
)
SELECT coalesce(c.request_id, s.request_id) AS subject_id, coalesce(c.tenant_id, s.tenant_id) AS tenant_id,
       coalesce(c.adapter_version_id, s.adapter_version_id)::text AS detail, c.royalty_nano::text AS expected,
       CASE WHEN m.same_tokens IS FALSE THEN 'other tokens'
            WHEN m.same_terms IS FALSE THEN 'another owner, share or fee' ELSE s.royalty_nano::text END AS actual
FROM charged c
FULL JOIN shared s ON s.request_id = c.request_id AND s.adapter_version_id = c.adapter_version_id
CROSS JOIN LATERAL (
  SELECT (s.prompt_tokens, s.cached_prompt_tokens, s.completion_tokens)
           = (c.prompt_tokens, c.cached_prompt_tokens, c.completion_tokens) AS same_tokens,
         (s.owner_tenant_id, s.fee_nano, s.currency, s.share_numerator * c.share_denominator)
           = (c.owner_tenant_id, c.fee_nano, c.currency, c.share_numerator * s.share_denominator) AS same_terms) m
WHERE (s.royalty_nano = c.royalty_nano AND m.same_tokens AND m.same_terms) IS NOT TRUE`,
  },
];

/**
 * What the requests `$1` were charged with, and what everybody earned of it, as CTEs `charge` and `earned`. Earnings are divided
 * by the split in force, the largest remainders first: docs/concepts/pricing.md, formula 7.
 */
export const EARNED = `charge AS (
  SELECT * FROM usage_charge WHERE request_id = ANY ($1::uuid[])
), divided AS (
  SELECT c.request_id, c.adapter_version_id AS version_id, c.currency, b.tenant_id, b.place, c.earned,
         div(c.earned * b.parts, coalesce(s.whole, 1)) AS whole_part,
         mod(c.earned * b.parts, coalesce(s.whole, 1)) AS remainder
  FROM (
    SELECT *, (royalty_nano - fee_nano)::numeric AS earned FROM charge WHERE adapter_version_id IS NOT NULL
  ) c
  LEFT JOIN LATERAL (SELECT * FROM split_version s WHERE s.id = c.split_version OFFSET 0) s ON true
  CROSS JOIN LATERAL unnest(coalesce(s.beneficiaries, ARRAY[c.owner_tenant_id]), coalesce(s.parts, ARRAY[1::bigint]))
    WITH ORDINALITY AS b(tenant_id, parts, place)
  WHERE c.earned > 0
), earned AS (
  SELECT d.request_id, d.version_id, d.currency, d.tenant_id,
         d.whole_part + CASE
           WHEN row_number() OVER (part ORDER BY d.remainder DESC, d.place) <= d.earned - sum(d.whole_part) OVER part
           THEN 1 ELSE 0 END AS amount
  FROM divided d WINDOW part AS (PARTITION BY d.request_id, d.version_id)
)`;

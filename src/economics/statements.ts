import { NO_ADAPTER } from '../metering/statements.ts';

/** By what figures are broken down. */
export type EconomicsGroup = 'adapter' | 'tenant';

const SUBJECT: Readonly<Record<EconomicsGroup, { readonly column: string; readonly kind: string }>> = {
  adapter: { column: 'adapter_id', kind: 'caller' },
  tenant: { column: 'tenant_id', kind: 'tenant' },
};

const NAMES: Readonly<Record<EconomicsGroup, string>> = {
  adapter: `SELECT a.id AS subject, t.slug || '/' || a.name AS name FROM adapter a JOIN tenant t ON t.id = a.tenant_id`,
  tenant: 'SELECT id AS subject, slug AS name FROM tenant',
};

/** Where the claim ends when all claims to the same are laid end to end; cut there, whole parts add up to the whole. */
const part = (amount: string): string =>
  `sum(div(${amount} * upto, whole) - div(${amount} * (upto - weight), whole))`;

/**
 * Figures of a period ($1 to $2, whole hours) by adapter or by tenant, from hourly rows alone. What was in memory in an
 * hour is borne by those who used it then, in proportion to their requests: by version, and within it by the tenant that
 * asked. What nobody used in the hour is borne by the versions that carry the digest, equally, and so by their owners;
 * what no version carries has no subject. Revenue is in the rollups as the settlements wrote it.
 */
export function figuresStatement(group: EconomicsGroup): string {
  const { column, kind } = SUBJECT[group];
  return `
WITH used AS (
  SELECT r.bucket, v.digest, r.adapter_id, r.adapter_version_id AS version_id, r.tenant_id, sum(r.requests) AS weight
  FROM usage_rollup r JOIN adapter_version v ON v.id = r.adapter_version_id
  WHERE r.kind = 'caller' AND r.bucket >= $1 AND r.bucket < $2
  GROUP BY 1, 2, 3, 4, 5
), held AS (
  SELECT bucket, digest, sum(host_byte_us) AS host_byte_us, sum(bank_byte_us) AS bank_byte_us, sum(loads) AS loads,
         sum(bytes_loaded) AS bytes_loaded, sum(load_us) AS load_us
  FROM adapter_residency WHERE bucket >= $1 AND bucket < $2
  GROUP BY 1, 2
), claim AS (
  SELECT h.*, u.adapter_id, u.version_id, u.tenant_id, u.weight
  FROM held h JOIN used u ON u.bucket = h.bucket AND u.digest = h.digest
  UNION ALL
  SELECT h.*, v.adapter_id, v.id, v.tenant_id, 1
  FROM held h
  LEFT JOIN adapter_version v ON v.digest = h.digest AND v.created_at < h.bucket + interval '1 hour'
  WHERE NOT EXISTS (SELECT FROM used u WHERE u.bucket = h.bucket AND u.digest = h.digest)
), cut AS (
  SELECT c.*, sum(weight) OVER (PARTITION BY bucket, digest ORDER BY version_id, tenant_id) AS upto,
         sum(weight) OVER (PARTITION BY bucket, digest) AS whole
  FROM claim c
), taken AS (
  SELECT ${column} AS subject, ${part('host_byte_us')} AS host_byte_us, ${part('bank_byte_us')} AS bank_byte_us,
         ${part('loads')} AS loads, ${part('bytes_loaded')} AS bytes_loaded, ${part('load_us')} AS load_us
  FROM cut GROUP BY 1
), earned AS (
  SELECT ${column} AS subject, sum(requests) AS requests, sum(attributed_us) AS compute_us,
         sum(amount_nano) AS revenue, sum(earned_nano) AS earned,
         extract(epoch FROM max(bucket) - min(bucket))::bigint / 3600 + 1 AS span_hours
  FROM usage_rollup WHERE kind = '${kind}' AND bucket >= $1 AND bucket < $2
  GROUP BY 1
)
SELECT nullif(subject, '${NO_ADAPTER}') AS subject, subject IS NULL AS unclaimed, n.name,
       coalesce(e.requests, 0)::text AS requests, coalesce(e.compute_us, 0)::text AS compute_us,
       coalesce(e.revenue, 0)::text AS revenue, coalesce(e.earned, 0)::text AS earned,
       coalesce(e.span_hours, 0)::text AS span_hours, coalesce(t.host_byte_us, 0)::text AS host_byte_us,
       coalesce(t.bank_byte_us, 0)::text AS bank_byte_us, coalesce(t.loads, 0)::text AS loads,
       coalesce(t.bytes_loaded, 0)::text AS bytes_loaded, coalesce(t.load_us, 0)::text AS load_us
FROM earned e FULL JOIN taken t USING (subject) LEFT JOIN (${NAMES[group]}) n USING (subject)`;
}

/** The machines of a period. */
export const MACHINES = `
SELECT coalesce(sum(alive_us), 0)::text AS alive_us, coalesce(sum(capacity_byte_us), 0)::text AS capacity_byte_us
FROM engine_hour WHERE bucket >= $1 AND bucket < $2`;

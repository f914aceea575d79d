import { NO_ADAPTER } from '../metering/statements.ts';

/** By what figures are broken down. */
export type EconomicsGroup = 'adapter' | 'tenant';

const SUBJECT: Readonly<
  Record<EconomicsGroup, { readonly column: 'adapter_id' | 'tenant_id'; readonly kind: string }>
> = {
  adapter: { column: 'adapter_id', kind: 'caller' },
  tenant: { column: 'tenant_id', kind: 'tenant' },
};

const NAMES: Readonly<Record<EconomicsGroup, string>> = {
  adapter: `SELECT a.id AS subject, t.slug || '/' || a.name AS name FROM adapter a JOIN tenant t ON t.id = a.tenant_id`,
  tenant: 'SELECT id AS subject, slug AS name FROM tenant',
};

/** From where the claim before ends to where this one does, when all claims to a sum are laid end to end. */
const part = (amount: string): string =>
  `sum(CASE WHEN weight = whole THEN ${amount}
            ELSE div(${amount} * upto, whole) - div(${amount} * (upto - weight), whole) END) AS ${amount}`;

/**
 * Figures of a period ($1 to $2, whole hours) by adapter or by tenant, from hourly rows alone. What was in memory in an
 * hour is borne by those who used it then, in proportion to their requests. What nobody used in the hour is borne by the
 * versions that carry the digest, equally, and so by their adapters or owners; what no version carries has no subject.
 * Revenue is in the rollups as the settlements wrote it.
 */
export function figuresStatement(group: EconomicsGroup): string {
  const { column, kind } = SUBJECT[group];
  return `
WITH used AS (
  SELECT r.bucket, v.digest, r.${column} AS subject, sum(r.requests)::bigint AS weight
  FROM usage_rollup r JOIN adapter_version v ON v.id = r.adapter_version_id
  WHERE r.kind = 'caller' AND r.bucket >= $1 AND r.bucket < $2
  GROUP BY 1, 2, 3
), held AS (
  SELECT bucket, digest, sum(host_byte_us) AS host_byte_us, sum(bank_byte_us) AS bank_byte_us, sum(loads) AS loads,
         sum(bytes_loaded) AS bytes_loaded, sum(load_us) AS load_us
  FROM adapter_residency WHERE bucket >= $1 AND bucket < $2
  GROUP BY 1, 2
), claim AS (
  SELECT h.*, coalesce(u.subject, v.${column}) AS subject, v.id AS version_id, coalesce(u.weight, 1) AS weight
  FROM held h
  LEFT JOIN used u ON u.bucket = h.bucket AND u.digest = h.digest
  -- Null, and so found nowhere, for what was used.
  LEFT JOIN adapter_version v
    ON v.digest = CASE WHEN u.subject IS NULL THEN h.digest END AND v.created_at < h.bucket + interval '1 hour'
), cut AS (
  SELECT c.*, sum(weight) OVER (PARTITION BY bucket, digest ORDER BY subject, version_id) AS upto,
         sum(weight) OVER (PARTITION BY bucket, digest) AS whole
  FROM claim c
), taken AS (
  SELECT subject, ${['host_byte_us', 'bank_byte_us', 'loads', 'bytes_loaded', 'load_us'].map(part).join(', ')}
  FROM cut GROUP BY 1
), earned AS (
  SELECT ${column} AS subject, sum(requests) AS requests, sum(attributed_us) AS compute_us,
         sum(amount_nano) AS revenue, sum(earned_nano) AS earned,
         min(bucket) AS first_used, max(bucket) AS last_used
  FROM usage_rollup WHERE kind = '${kind}' AND bucket >= $1 AND bucket < $2
  GROUP BY 1
)
SELECT nullif(subject, '${NO_ADAPTER}') AS subject, subject IS NULL AS unclaimed, n.name,
       coalesce(e.requests, 0)::text AS requests, coalesce(e.compute_us, 0)::text AS compute_us,
       coalesce(e.revenue, 0)::text AS revenue, coalesce(e.earned, 0)::text AS earned,
       e.first_used, e.last_used, coalesce(t.host_byte_us, 0)::text AS host_byte_us,
       coalesce(t.bank_byte_us, 0)::text AS bank_byte_us, coalesce(t.loads, 0)::text AS loads,
       coalesce(t.bytes_loaded, 0)::text AS bytes_loaded, coalesce(t.load_us, 0)::text AS load_us
FROM earned e FULL JOIN taken t USING (subject) LEFT JOIN (${NAMES[group]}) n USING (subject)`;
}

/** The machines of a period. */
export const MACHINES = `
SELECT coalesce(sum(alive_us), 0)::text AS alive_us, coalesce(sum(capacity_byte_us), 0)::text AS capacity_byte_us
FROM engine_hour WHERE bucket >= $1 AND bucket < $2`;

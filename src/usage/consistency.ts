import type { Uuid } from '../kernel/ids.ts';
import type { SystemDatabase } from '../metering/lease.ts';
import { NO_ADAPTER } from '../metering/statements.ts';
import type { RollupKind } from './sums.ts';

/** A rollup that does not say what the records say. Null sums: there is no such row on that side. */
export interface RollupDifference {
  readonly kind: RollupKind;
  readonly tenantId: Uuid;
  readonly versionId: Uuid;
  readonly bucket: Date;
  /** requests; prompt, cached and completion tokens; computed and attributed microseconds; nano-units paid and earned. */
  readonly records: readonly bigint[] | null;
  readonly rollup: readonly bigint[] | null;
}

interface DifferenceRow {
  readonly kind: RollupKind;
  readonly tenant_id: Uuid;
  readonly adapter_version_id: Uuid;
  readonly bucket: Date;
  readonly records: readonly string[] | null;
  readonly rollup: readonly string[] | null;
}

/** One statement, hence one snapshot: a settlement is either in both sides or in none. */
const COMPARE = `
WITH record AS (
  SELECT id, tenant_id, date_trunc('hour', ended_at, 'UTC') AS bucket, prompt_tokens, cached_prompt_tokens,
         completion_tokens, compute_us, amount_nano
  FROM usage_record WHERE ended_at >= $1 AND ended_at < $2
), share AS (
  SELECT r.*, s.adapter_version_id, s.owner_tenant_id, s.royalty_nano, c.total_nano,
         c.royalty_nano - c.fee_nano AS earned_nano,
         div(r.compute_us * sum(s.share_numerator) OVER before, s.share_denominator)
           - div(r.compute_us * (sum(s.share_numerator) OVER before - s.share_numerator), s.share_denominator)
           AS attributed_us
  FROM record r
  JOIN usage_share s ON s.request_id = r.id
  LEFT JOIN usage_charge c ON c.request_id = r.id AND c.adapter_version_id = s.adapter_version_id
  WINDOW before AS (PARTITION BY r.id ORDER BY s.adapter_version_id)
), earned AS (
  SELECT r.id, sum(c.royalty_nano - c.fee_nano) AS earned_nano
  FROM record r JOIN usage_charge c ON c.request_id = r.id GROUP BY r.id
), counted AS (
  SELECT 'tenant' AS kind, r.tenant_id, '${NO_ADAPTER}'::uuid AS adapter_version_id, r.bucket, r.prompt_tokens,
         r.cached_prompt_tokens, r.completion_tokens, r.compute_us, r.compute_us::numeric AS attributed_us,
         r.amount_nano, e.earned_nano
  FROM record r LEFT JOIN earned e ON e.id = r.id
  UNION ALL
  SELECT 'caller', tenant_id, adapter_version_id, bucket, prompt_tokens, cached_prompt_tokens, completion_tokens,
         compute_us, attributed_us, total_nano, earned_nano
  FROM share
  UNION ALL
  SELECT 'caller', tenant_id, '${NO_ADAPTER}'::uuid, bucket, prompt_tokens, cached_prompt_tokens,
         completion_tokens, compute_us, compute_us, amount_nano, 0
  FROM record r WHERE NOT EXISTS (SELECT FROM usage_share s WHERE s.request_id = r.id)
  UNION ALL
  SELECT 'owner', owner_tenant_id, adapter_version_id, bucket, prompt_tokens, cached_prompt_tokens,
         completion_tokens, compute_us, attributed_us, royalty_nano, earned_nano
  FROM share
), expected AS (
  SELECT kind, tenant_id, adapter_version_id, bucket,
         ARRAY[count(*), sum(prompt_tokens), sum(cached_prompt_tokens), sum(completion_tokens),
               coalesce(sum(compute_us), 0), coalesce(sum(attributed_us), 0), coalesce(sum(amount_nano), 0),
               coalesce(sum(earned_nano), 0)]::numeric[] AS records
  FROM counted GROUP BY 1, 2, 3, 4
), actual AS (
  SELECT kind, tenant_id, adapter_version_id, bucket,
         ARRAY[sum(requests), sum(prompt_tokens), sum(cached_prompt_tokens), sum(completion_tokens),
               sum(compute_us), sum(attributed_us), sum(amount_nano), sum(earned_nano)]::numeric[] AS rollup
  FROM usage_rollup WHERE bucket >= $1 AND bucket < $2
  GROUP BY 1, 2, 3, 4
)
SELECT kind, tenant_id, adapter_version_id, bucket, records::text[], rollup::text[]
FROM expected FULL JOIN actual USING (kind, tenant_id, adapter_version_id, bucket)
WHERE records IS DISTINCT FROM rollup
ORDER BY bucket, kind, tenant_id, adapter_version_id`;

/**
 * Recomputes all rollups of a period (whole hours; `to` exclusive) from the records and returns every difference.
 * Reads all records of the period: for tests and audits, not for dashboards.
 */
export async function findRollupDifferences(
  database: SystemDatabase,
  period: { readonly from: Date; readonly to: Date },
): Promise<readonly RollupDifference[]> {
  const rows = await database.querySystem<DifferenceRow>(COMPARE, [period.from, period.to]);
  return rows.map((row) => ({
    kind: row.kind,
    tenantId: row.tenant_id,
    versionId: row.adapter_version_id,
    bucket: row.bucket,
    records: row.records?.map(BigInt) ?? null,
    rollup: row.rollup?.map(BigInt) ?? null,
  }));
}

import type { QueryResultRow } from 'pg';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Uuid } from '../kernel/ids.ts';
import { NO_ADAPTER } from '../metering/statements.ts';
import { alignRange, type UsageRange } from './range.ts';

/** Sums over requests. */
export interface UsageTotals {
  readonly requests: bigint;
  readonly promptTokens: bigint;
  readonly cachedPromptTokens: bigint;
  readonly completionTokens: bigint;
  readonly computeUs: bigint;
}

/** By what sums are broken down, besides time. */
export const SUM_GROUPS = ['time', 'adapter', 'version', 'tenant'] as const;
export type SumGroup = (typeof SUM_GROUPS)[number];

/** Sums over one time bucket and group. The ids are null where the group does not say them. */
export interface UsageSum extends UsageTotals {
  readonly start: Date;
  /** Null for the plain backbone too, as is the version. */
  readonly adapterId: Uuid | null;
  readonly versionId: Uuid | null;
  readonly tenantId: Uuid | null;
}

/** Whose sums: every request once, the caller's by adapter version, or the owner's by adapter version. */
export type RollupKind = 'tenant' | 'caller' | 'owner';

/** Which sums are asked for. */
export interface SumQuery {
  readonly kind: RollupKind;
  readonly range: UsageRange;
  /** Null for all tenants. */
  readonly tenantId: Uuid | null;
  readonly adapterId: Uuid | null;
  readonly by: SumGroup;
  /** Most sums to read. */
  readonly most: number;
}

/** A row of {@link sumStatement}: sums as decimal text. */
export interface SumRow extends QueryResultRow {
  readonly start: Date;
  readonly tenant_id: Uuid | null;
  readonly adapter_id: Uuid | null;
  readonly adapter_version_id: Uuid | null;
  readonly requests: string;
  readonly prompt_tokens: string;
  readonly cached_prompt_tokens: string;
  readonly completion_tokens: string;
  readonly compute_us: string;
}

const COUNTS = 'requests, prompt_tokens, cached_prompt_tokens, completion_tokens, compute_us';
const NONE = 'NULL::uuid';
const KEYS: Readonly<Record<SumGroup, string>> = {
  time: `${NONE}, ${NONE}, ${NONE}`,
  adapter: `${NONE}, adapter_id, ${NONE}`,
  version: `${NONE}, adapter_id, adapter_version_id`,
  tenant: `tenant_id, ${NONE}, ${NONE}`,
};

/**
 * Which sums of days answer a question, and of which tenant they are; null for every tenant's own. Where it can be, they
 * are the coarse ones: an owner's over all adapters, and everybody's, which the platform's tenant has.
 */
function daysOf({ kind, tenantId, adapterId, by }: SumQuery): {
  readonly kind: string;
  readonly tenantId: Uuid | null;
} {
  if (tenantId !== null) {
    return { kind: kind === 'owner' && by === 'time' && adapterId === null ? 'owner_sum' : kind, tenantId };
  }
  return by === 'tenant' ? { kind, tenantId } : { kind: `all_${kind}`, tenantId: PLATFORM_TENANT_ID };
}

/**
 * The statement that sums up. Days that are over come from the sums of days, as far as the same snapshot has them, and
 * hours from there on: both together are every hour once.
 */
export function sumStatement(query: SumQuery): {
  readonly text: string;
  readonly values: readonly unknown[];
} {
  const { kind, range, tenantId, adapterId, by, most } = query;
  const summed = daysOf(query);
  const { from, to, bucket } = alignRange(range);
  const [tenant, adapter, version] = KEYS[by].split(', ');
  const ofAdapter = '($5::uuid IS NULL OR adapter_id = $5)';
  const days = `SELECT day AS bucket, tenant_id, adapter_id, adapter_version_id, ${COUNTS} FROM usage_rollup_day
     WHERE kind = $8 AND ($9::uuid IS NULL OR tenant_id = $9) AND day >= $1 AND day < (SELECT at FROM mark)
       AND ${ofAdapter}`;
  const hours = (of: string): string =>
    `SELECT bucket, tenant_id, adapter_id, adapter_version_id, ${COUNTS} FROM usage_rollup
     WHERE kind = $4 AND bucket >= (SELECT at FROM mark) AND bucket < $2 AND ${ofAdapter} ${of}`;
  // Hours have no index by adapter, for the sake of settlements; its versions are known from the days.
  const versions =
    bucket === 'hour' && adapterId !== null
      ? `AND adapter_version_id = ANY (ARRAY(
           SELECT adapter_version_id FROM usage_rollup_day WHERE tenant_id = $6 AND kind = $4 AND adapter_id = $5
           UNION
           SELECT adapter_version_id FROM usage_rollup
           WHERE tenant_id = $6 AND kind = $4 AND adapter_id = $5
             AND bucket >= (SELECT coalesce(until, '-infinity') FROM usage_rolled)))`
      : '';
  const hoursOfAsked =
    tenantId === null
      ? // Hours are found by their tenant alone, so that settlements keep one index less.
        `SELECT h.* FROM tenant t CROSS JOIN LATERAL (${hours('AND tenant_id = t.id OFFSET 0')}) h
         WHERE $6::uuid IS NULL`
      : hours(`AND tenant_id = $6 ${versions}`);
  return {
    text: `
      WITH mark AS (
        SELECT CASE $3 WHEN 'day' THEN least(greatest(coalesce(until, $1), $1), $2::timestamptz)
                       ELSE $1::timestamptz END AS at
        FROM usage_rolled
      )
      SELECT date_trunc($3, bucket, 'UTC') AS start, ${tenant} AS tenant_id, ${adapter} AS adapter_id,
             ${version} AS adapter_version_id, sum(requests) AS requests, sum(prompt_tokens) AS prompt_tokens,
             sum(cached_prompt_tokens) AS cached_prompt_tokens, sum(completion_tokens) AS completion_tokens,
             sum(compute_us) AS compute_us
      FROM (${days} UNION ALL ${hoursOfAsked}) part
      GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4 LIMIT $7`,
    values: [from, to, bucket, kind, adapterId, tenantId, most, summed.kind, summed.tenantId],
  };
}

/** Reads a row of {@link sumStatement}. */
export function toSum(row: SumRow): UsageSum {
  return {
    start: row.start,
    tenantId: row.tenant_id,
    adapterId: row.adapter_id === NO_ADAPTER ? null : row.adapter_id,
    versionId: row.adapter_version_id === NO_ADAPTER ? null : row.adapter_version_id,
    requests: BigInt(row.requests),
    promptTokens: BigInt(row.prompt_tokens),
    cachedPromptTokens: BigInt(row.cached_prompt_tokens),
    completionTokens: BigInt(row.completion_tokens),
    computeUs: BigInt(row.compute_us),
  };
}

/** Adds sums up. */
export function totalOf(sums: readonly UsageTotals[]): UsageTotals {
  return sums.reduce<UsageTotals>(
    (total, sum) => ({
      requests: total.requests + sum.requests,
      promptTokens: total.promptTokens + sum.promptTokens,
      cachedPromptTokens: total.cachedPromptTokens + sum.cachedPromptTokens,
      completionTokens: total.completionTokens + sum.completionTokens,
      computeUs: total.computeUs + sum.computeUs,
    }),
    { requests: 0n, promptTokens: 0n, cachedPromptTokens: 0n, completionTokens: 0n, computeUs: 0n },
  );
}

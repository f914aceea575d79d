import type { PoolClient } from 'pg';
import type { Database } from '../db/client.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { isUuid, type Uuid } from '../kernel/ids.ts';
import { NO_ADAPTER } from '../metering/statements.ts';
import { alignRange, type UsageRange } from './range.ts';
import {
  type OwnedShare,
  RECORD_COLUMNS,
  type RecordRow,
  SHARE_COLUMNS,
  type ShareRow,
  toOwnedShare,
  toUsageRecord,
  type UsageRecord,
} from './records.ts';

/** Most items of one page. */
export const PAGE_MAX = 100;

/** Sums over requests. */
export interface UsageTotals {
  readonly requests: bigint;
  readonly promptTokens: bigint;
  readonly cachedPromptTokens: bigint;
  readonly completionTokens: bigint;
  readonly computeUs: bigint;
}

/** Sums over one time bucket, and over one adapter version or tenant when grouped so. */
export interface UsageSum extends UsageTotals {
  readonly start: Date;
  /** Null for sums over all, and for the plain backbone. */
  readonly adapterId: Uuid | null;
  readonly versionId: Uuid | null;
  readonly tenantId: Uuid;
}

/** Which requests a page of records holds. */
export interface RecordFilter {
  /** Only requests that ended at or after this time. */
  readonly from?: Date;
  /** Only requests that ended before this time. */
  readonly to?: Date;
  /** Only requests that used this adapter. */
  readonly adapterId?: Uuid;
}

/** A page, newest first. `after` is the request id that the previous page ended with. */
export interface PageRequest {
  readonly first: number;
  readonly after?: Uuid;
}

/** Items and whether there are more behind them. */
export interface Page<T> {
  readonly items: readonly T[];
  readonly hasNext: boolean;
}

/** Where a request is in its life. */
export type RequestView =
  | { readonly state: 'running'; readonly requestId: Uuid; readonly admittedAt: Date }
  | {
      readonly state: 'settled';
      readonly requestId: Uuid;
      readonly admittedAt: Date;
      readonly usage: UsageRecord;
    };

/** Whose sums: every request once, the caller's by adapter version, or the owner's by adapter version. */
export type RollupKind = 'tenant' | 'caller' | 'owner';

interface SumRow {
  readonly start: Date;
  readonly tenant_id: Uuid;
  readonly adapter_id: Uuid;
  readonly adapter_version_id: Uuid;
  readonly requests: string;
  readonly prompt_tokens: string;
  readonly cached_prompt_tokens: string;
  readonly completion_tokens: string;
  readonly compute_us: string;
}

const SUMS = `
SELECT date_trunc($3, bucket, 'UTC') AS start, tenant_id, adapter_id, adapter_version_id,
       sum(requests) AS requests, sum(prompt_tokens) AS prompt_tokens,
       sum(cached_prompt_tokens) AS cached_prompt_tokens, sum(completion_tokens) AS completion_tokens,
       sum(compute_us) AS compute_us
FROM usage_rollup
WHERE kind = $4 AND bucket >= $1 AND bucket < $2 AND ($5::uuid IS NULL OR adapter_id = $5)
  AND ($6::uuid IS NULL OR tenant_id = $6)
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4`;

const RECORDS = `
SELECT ${RECORD_COLUMNS} FROM usage_record u
WHERE u.tenant_id = $1 AND ($2::uuid IS NULL OR u.id < $2)
  AND ($3::timestamptz IS NULL OR u.ended_at >= $3) AND ($4::timestamptz IS NULL OR u.ended_at < $4)
  AND ($5::uuid IS NULL OR EXISTS (SELECT FROM usage_share s WHERE s.request_id = u.id AND s.adapter_id = $5))
ORDER BY u.id DESC LIMIT $6`;

const SHARES = `
SELECT ${SHARE_COLUMNS} FROM usage_share s WHERE s.request_id = ANY($1::uuid[])
ORDER BY s.request_id, s.adapter_version_id`;

const OWNED_SHARES = `
SELECT ${SHARE_COLUMNS} FROM usage_share s
WHERE s.owner_tenant_id = $1 AND ($2::uuid IS NULL OR s.adapter_id = $2)
  AND ($3::uuid IS NULL OR (s.request_id, s.adapter_version_id) < ($3, $4))
ORDER BY s.request_id DESC, s.adapter_version_id DESC LIMIT $5`;

/**
 * Reads usage as a tenant, behind row-level security. Sums come from rollups, which the transaction that writes a
 * record keeps in step.
 */
export class UsageService {
  private readonly database: Pick<Database, 'withTenantPg' | 'querySystem'>;

  constructor(deps: { readonly database: Pick<Database, 'withTenantPg' | 'querySystem'> }) {
    this.database = deps.database;
  }

  /**
   * Sums of a tenant by time bucket: of kind `tenant`, every request once; of kind `caller` or `owner`, by adapter
   * version, where a blend counts once for each of its adapters.
   */
  sums(
    tenantId: Uuid,
    kind: RollupKind,
    range: UsageRange,
    filter: { readonly adapterId?: Uuid } = {},
  ): Promise<readonly UsageSum[]> {
    const values = sumValues(kind, range, filter.adapterId, tenantId);
    return this.database.withTenantPg(tenantId, async (client) => {
      return (await client.query<SumRow>(SUMS, values)).rows.map(toSum);
    });
  }

  /** Sums of all tenants, for operators. The caller must have checked that it is one. */
  async sumsOfAllTenants(
    kind: RollupKind,
    range: UsageRange,
    filter: { readonly adapterId?: Uuid } = {},
  ): Promise<readonly UsageSum[]> {
    const values = sumValues(kind, range, filter.adapterId, null);
    return (await this.database.querySystem<SumRow>(SUMS, values)).map(toSum);
  }

  /** Usage records of a tenant, newest first. */
  records(tenantId: Uuid, page: PageRequest, filter: RecordFilter = {}): Promise<Page<UsageRecord>> {
    const { first, after } = checkedPage(page);
    const { from, to, adapterId } = filter;
    const values = [tenantId, after ?? null, from ?? null, to ?? null, adapterId ?? null, first + 1];
    return this.database.withTenantPg(tenantId, async (client) => {
      const { rows } = await client.query<RecordRow>(RECORDS, values);
      const items = await withShares(client, rows.slice(0, first));
      return { items, hasNext: rows.length > first };
    });
  }

  /** A request of a tenant, or null when the tenant has none with this id. */
  request(tenantId: Uuid, requestId: Uuid): Promise<RequestView | null> {
    if (!isUuid(requestId)) return Promise.resolve(null);
    return this.database.withTenantPg(tenantId, async (client) => {
      const running = await client.query<{ readonly admitted_at: Date }>(
        'SELECT admitted_at FROM inference_request WHERE id = $1',
        [requestId],
      );
      const [admission] = running.rows;
      if (admission !== undefined) return { state: 'running', requestId, admittedAt: admission.admitted_at };
      // Looked for second: a settlement between the two statements moves the request from the first to this one.
      const settled = await client.query<RecordRow>(
        `SELECT ${RECORD_COLUMNS} FROM usage_record u WHERE u.id = $1`,
        [requestId],
      );
      const [usage] = await withShares(client, settled.rows);
      return usage === undefined
        ? null
        : { state: 'settled', requestId, admittedAt: usage.admittedAt, usage };
    });
  }

  /** What others and the owner ran on the owner's adapter versions, newest first, without who ran it. */
  ownedShares(
    ownerTenantId: Uuid,
    page: { readonly first: number; readonly after?: { readonly requestId: Uuid; readonly versionId: Uuid } },
    filter: { readonly adapterId?: Uuid } = {},
  ): Promise<Page<OwnedShare>> {
    const { first } = checkedPage({ first: page.first });
    const { requestId = null, versionId = null } = page.after ?? {};
    const values = [ownerTenantId, filter.adapterId ?? null, requestId, versionId, first + 1];
    return this.database.withTenantPg(ownerTenantId, async (client) => {
      const { rows } = await client.query<ShareRow>(OWNED_SHARES, values);
      return { items: rows.slice(0, first).map(toOwnedShare), hasNext: rows.length > first };
    });
  }
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

async function withShares(client: PoolClient, rows: readonly RecordRow[]): Promise<readonly UsageRecord[]> {
  if (rows.length === 0) return [];
  const shares = await client.query<ShareRow>(SHARES, [rows.map((row) => row.id)]);
  return rows.map((row) =>
    toUsageRecord(
      row,
      shares.rows.filter((share) => share.request_id === row.id),
    ),
  );
}

function sumValues(
  kind: RollupKind,
  range: UsageRange,
  adapterId: Uuid | undefined,
  tenantId: Uuid | null,
): unknown[] {
  const { from, to, bucket } = alignRange(range);
  return [from, to, bucket, kind, adapterId ?? null, tenantId];
}

function toSum(row: SumRow): UsageSum {
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

function checkedPage(page: PageRequest): PageRequest {
  if (!Number.isInteger(page.first) || page.first < 1 || page.first > PAGE_MAX) {
    throw new PatchbayError('BAD_INPUT', `A page has 1 to ${PAGE_MAX} items.`, { field: 'first' });
  }
  if (page.after !== undefined && !isUuid(page.after)) {
    throw new PatchbayError('BAD_INPUT', 'The cursor is malformed.', { field: 'after' });
  }
  return page;
}

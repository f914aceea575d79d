import type { PoolClient } from 'pg';
import type { Database } from '../db/client.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { isUuid, type Uuid } from '../kernel/ids.ts';
import type { UsageRange } from './range.ts';
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
import {
  type RollupKind,
  type SumGroup,
  type SumQuery,
  type SumRow,
  sumStatement,
  toSum,
  type UsageSum,
} from './sums.ts';

/** Most items of one page. */
export const PAGE_MAX = 100;

/** Which requests a page of records holds. */
export interface RecordFilter {
  /** Only requests that ended at or after this time. */
  readonly from?: Date;
  /** Only requests that ended before this time. */
  readonly to?: Date;
  /** Only requests that used this adapter. */
  readonly adapterId?: Uuid;
}

/** Which sums are wanted, and how many of them at most. */
export interface SumFilter {
  readonly adapterId?: Uuid;
  readonly by?: SumGroup;
  readonly most?: number;
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

/**
 * Requests that ended before `$4` have ids before this one: nobody ends before it was admitted, and the clock of the process
 * that made the id is at most an hour ahead of the database's.
 */
const BOUND = "patchbay.uuidv7_floor($4::timestamptz + interval '1 hour')";

const RECORDS = `
SELECT ${RECORD_COLUMNS} FROM usage_record u
WHERE u.tenant_id = $1 AND ($2::uuid IS NULL OR u.id < $2)
  AND ($3::timestamptz IS NULL OR u.ended_at >= $3)
  AND ($4::timestamptz IS NULL OR (u.ended_at < $4 AND u.id < ${BOUND}))
  AND ($5::uuid IS NULL
       OR u.id = ANY (ARRAY(SELECT patchbay.own_requests_of($5, $2, ${BOUND}, $3, $4, $6::integer))))
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
   * version unless the filter says otherwise, where a blend counts once for each of its adapters.
   */
  sums(
    tenantId: Uuid,
    kind: RollupKind,
    range: UsageRange,
    filter: SumFilter = {},
  ): Promise<readonly UsageSum[]> {
    const { text, values } = sumStatement(sumQuery(kind, range, tenantId, filter));
    return this.database.withTenantPg(tenantId, async (client) => {
      return (await client.query<SumRow>(text, [...values])).rows.map(toSum);
    });
  }

  /** Sums of all tenants, for operators. The caller must have checked that it is one. */
  async sumsOfAllTenants(
    kind: RollupKind,
    range: UsageRange,
    filter: SumFilter = {},
  ): Promise<readonly UsageSum[]> {
    const { text, values } = sumStatement(sumQuery(kind, range, null, filter));
    return (await this.database.querySystem<SumRow>(text, values)).map(toSum);
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

  /** Salt of the commitments of a settled request of a tenant, hexadecimal; null when there is none, or none any more. */
  commitmentSalt(tenantId: Uuid, requestId: Uuid): Promise<string | null> {
    return this.database.withTenantPg(tenantId, async (client) => {
      const { rows } = await client.query<{ readonly salt: string }>(
        "SELECT encode(salt, 'hex') AS salt FROM usage_salt WHERE request_id = $1 AND tenant_id = $2",
        [requestId, tenantId],
      );
      return rows[0]?.salt ?? null;
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

/** Most sums of one reading that is not bounded otherwise. */
const SUMS_MAX = 1_000_000;

function sumQuery(kind: RollupKind, range: UsageRange, tenantId: Uuid | null, filter: SumFilter): SumQuery {
  const { adapterId = null, by = 'version', most = SUMS_MAX } = filter;
  return { kind, range, tenantId, adapterId, by, most };
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

function checkedPage(page: PageRequest): PageRequest {
  if (!Number.isInteger(page.first) || page.first < 1 || page.first > PAGE_MAX) {
    throw new PatchbayError('BAD_INPUT', `A page has 1 to ${PAGE_MAX} items.`, { field: 'first' });
  }
  if (page.after !== undefined && !isUuid(page.after)) {
    throw new PatchbayError('BAD_INPUT', 'The cursor is malformed.', { field: 'after' });
  }
  return page;
}

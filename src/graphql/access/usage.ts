import { type Principal, reaches, requireOperator, requireScope } from '../../auth/principal.ts';
import type { Page, PageRequest } from '../../db/page.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import type { Uuid } from '../../kernel/ids.ts';
import { alignRange, type UsageRange } from '../../usage/range.ts';
import type { OwnedShare, UsageRecord } from '../../usage/records.ts';
import type { RequestView, UsageService } from '../../usage/service.ts';
import {
  type RollupKind,
  type SumGroup,
  totalOf,
  type UsageSum,
  type UsageTotals,
} from '../../usage/sums.ts';

/** By what sums are broken down, besides time. */
export type UsageGroup = 'ADAPTER' | 'ADAPTER_VERSION' | 'TENANT';

/** Which sums a caller asks for. */
interface UsageQuery extends UsageRange {
  /** As the tenant that sent the requests, or as the owner of the adapters that they ran on. */
  readonly perspective: 'CALLER' | 'OWNER';
  readonly groupBy: UsageGroup | null;
  readonly adapterId: Uuid | null;
  /** Null for the caller's own tenant; for operators, all tenants. */
  readonly tenantId: Uuid | null;
}

/** Sums over one bucket and group. The ids are null where the group does not say them. */
export interface UsageRow {
  readonly start: Date;
  readonly adapterId: Uuid | null;
  readonly versionId: Uuid | null;
  readonly tenantId: Uuid | null;
  readonly totals: UsageTotals;
}

/** Usage over a period. */
export interface UsageSummary {
  readonly from: Date;
  readonly to: Date;
  readonly totals: UsageTotals;
  readonly rows: readonly UsageRow[];
}

const GROUPS: Readonly<Record<UsageGroup, SumGroup>> = {
  ADAPTER: 'adapter',
  ADAPTER_VERSION: 'version',
  TENANT: 'tenant',
};

/** Most rows of one summary; it is not paged. */
const ROWS_MAX = 5_000;

/** Which records a caller asks for. */
interface RecordQuery {
  readonly from: Date | null;
  readonly to: Date | null;
  readonly adapterId: Uuid | null;
  readonly tenantId: Uuid | null;
}

/** A page of {@link UsageAccess.owned}: a request may have used several versions of one owner. */
export interface OwnedUsagePage {
  readonly first: number;
  readonly after: { readonly requestId: Uuid; readonly versionId: Uuid } | null;
}

/** Usage as a principal may read it: the service below reads as whichever tenant it is told. */
export class UsageAccess {
  readonly #usage: UsageService;

  constructor(dependencies: { readonly usage: UsageService }) {
    this.#usage = dependencies.usage;
  }

  async summary(principal: Principal, query: UsageQuery): Promise<UsageSummary> {
    requireScope(principal, 'usage:read');
    if (query.groupBy === 'TENANT') requireOperator(principal);
    const tenantId = query.tenantId ?? (principal.kind === 'TENANT' ? principal.tenantId : null);
    assertReaches(principal, tenantId);
    const range = alignRange(query);
    const byAdapter = query.groupBy === 'ADAPTER' || query.groupBy === 'ADAPTER_VERSION';
    const split = byAdapter || query.adapterId !== null;
    const kind: RollupKind = query.perspective === 'OWNER' ? 'owner' : split ? 'caller' : 'tenant';
    const by = query.groupBy === null ? 'time' : GROUPS[query.groupBy];
    const sums = await this.#sums(tenantId, kind, range, query.adapterId, by);
    if (sums.length > ROWS_MAX) {
      throw new PatchbayError(
        'QUERY_TOO_COMPLEX',
        `The summary has more than ${ROWS_MAX} rows, which is the most that is answered.`,
        {
          fix: 'Ask for a shorter period, for wider buckets, or for one adapter.',
          meta: { rowsMax: ROWS_MAX },
        },
      );
    }
    // Split by adapter, a blend is in several sums; the total counts it once.
    const whole =
      kind === 'caller' && query.adapterId === null
        ? await this.#sums(tenantId, 'tenant', range, null, 'time')
        : sums;
    const rows = sums.map(({ start, adapterId, versionId, tenantId: of, ...totals }) => ({
      start,
      adapterId,
      versionId,
      tenantId: of,
      totals,
    }));
    return { from: range.from, to: range.to, totals: totalOf(whole), rows };
  }

  async records(
    principal: Principal,
    query: RecordQuery,
    { first, after }: PageRequest,
  ): Promise<Page<UsageRecord>> {
    requireScope(principal, 'usage:read');
    assertReaches(principal, query.tenantId);
    const { items, hasNext } = await this.#usage.records(
      query.tenantId ?? principal.tenantId,
      { first, ...(after === null ? {} : { after }) },
      {
        ...(query.from === null ? {} : { from: query.from }),
        ...(query.to === null ? {} : { to: query.to }),
        ...(query.adapterId === null ? {} : { adapterId: query.adapterId }),
      },
    );
    return { items, hasNextPage: hasNext };
  }

  /** What requests of anyone used of the principal's own adapters; {@link OwnedUsagePage.after} continues a page. */
  async owned(principal: Principal, adapterId: Uuid | null, { first, after }: OwnedUsagePage) {
    requireScope(principal, 'usage:read');
    const { items, hasNext } = await this.#usage.ownedShares(
      principal.tenantId,
      { first, ...(after === null ? {} : { after }) },
      adapterId === null ? {} : { adapterId },
    );
    return { items, hasNextPage: hasNext } satisfies Page<OwnedShare>;
  }

  request(principal: Principal, id: Uuid): Promise<RequestView | null> {
    requireScope(principal, 'usage:read');
    return this.#usage.request(principal.tenantId, id);
  }

  /** Salt of the commitments of a request that the principal's tenant sent; null when there is none, or none any more. */
  commitmentSalt(principal: Principal, requestId: Uuid): Promise<string | null> {
    requireScope(principal, 'usage:read');
    return this.#usage.commitmentSalt(principal.tenantId, requestId);
  }

  #sums(
    tenantId: Uuid | null,
    kind: RollupKind,
    range: UsageRange,
    adapterId: Uuid | null,
    by: SumGroup,
  ): Promise<readonly UsageSum[]> {
    const filter = { by, most: ROWS_MAX + 1, ...(adapterId === null ? {} : { adapterId }) };
    return tenantId === null
      ? this.#usage.sumsOfAllTenants(kind, range, filter)
      : this.#usage.sums(tenantId, kind, range, filter);
  }
}

/** Another tenant is not told from one that does not exist. */
function assertReaches(principal: Principal, tenantId: Uuid | null): void {
  if (tenantId === null || reaches(principal, tenantId)) return;
  throw new PatchbayError('NOT_FOUND', 'No such tenant is visible to you.', { field: 'tenant' });
}

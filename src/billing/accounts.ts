import { type Actor, reaches, requireScope } from '../auth/principal.ts';
import type { Database } from '../db/client.ts';
import { badCursor, type Page, type PageRequest, requirePageSize } from '../db/page.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { isUuid, type Uuid } from '../kernel/ids.ts';
import { ownBalancesOn } from '../ledger/accounts.ts';
import { runOn } from '../ledger/statements.ts';
import type { Balance } from '../ledger/types.ts';
import {
  type Earning,
  type EntryKind,
  type EntryRow,
  type LedgerEntry,
  type LineRow,
  toEntries,
} from './entries.ts';

/** Which transfers a caller asks for. */
export interface EntryQuery {
  /** Null for the actor's own tenant. */
  readonly tenantId: Uuid | null;
  readonly from: Date | null;
  readonly to: Date | null;
  readonly kinds: readonly EntryKind[] | null;
}

/** A page of {@link AccountService.earnings}, and where it starts. */
export interface EarningPage {
  readonly first: number;
  readonly after: { readonly currency: string; readonly versionId: Uuid } | null;
}

/** Longest period that earnings are summed over at once. */
const EARNINGS_DAYS_MAX = 366;
const DAY_MS = 86_400_000;
/** How far the time inside of an id may be from the time of its row: ids come from processes, and their clocks differ. */
const SLACK = "interval '1 hour'";

/** A tenant's money as its keys may read it. Everything is read as the tenant, so that its rows are all there is. */
export class AccountService {
  readonly #database: Database;

  constructor(dependencies: { readonly database: Database }) {
    this.#database = dependencies.database;
  }

  /** The balances of every account, by currency and kind. */
  async balances(actor: Actor, tenantId: Uuid | null): Promise<readonly Balance[]> {
    const id = this.#mayRead(actor, tenantId);
    const found = await this.#database.withTenantPg(id, (client) => ownBalancesOn(runOn(client)));
    return found.toSorted((a, b) => compare(a.asset, b.asset) || compare(a.kind, b.kind));
  }

  /** Transfers that were made for the tenant, the newest first. */
  async entries(actor: Actor, query: EntryQuery, page: PageRequest): Promise<Page<LedgerEntry>> {
    const id = this.#mayRead(actor, query.tenantId);
    requirePageSize(page.first);
    if (page.after !== null && !isUuid(page.after)) throw badCursor();
    return this.#database.withTenantPg(id, async (client) => {
      const { rows } = await client.query<EntryRow>(
        query.kinds === null || query.kinds.some((kind) => kind === 'PENDING' || kind === 'POST')
          ? entriesOf('$5::text[] IS NULL OR kind = ANY ($5)')
          : // Each kind by its own index, which has no others: there may be hundreds of thousands of those.
            `SELECT t.* FROM unnest($5::text[]) AS k(kind) CROSS JOIN LATERAL (
               ${entriesOf("kind = k.kind AND kind NOT IN ('PENDING', 'POST')")}) t
             ORDER BY t.id DESC LIMIT $6`,
        [
          id,
          page.after,
          query.from,
          query.to,
          query.kinds === null ? null : [...new Set(query.kinds)],
          page.first + 1,
        ],
      );
      const shown = rows.slice(0, page.first);
      const lines = await client.query<LineRow>(
        `SELECT p.transfer_id, a.kind AS account, p.amount::text, p.subject_id
         FROM ledger_posting p JOIN ledger_account a ON a.id = p.account_id
         WHERE p.transfer_id = ANY ($1::uuid[]) AND p.tenant_id = $2
         ORDER BY p.transfer_id, p.line`,
        [shown.map((row) => row.id), id],
      );
      return { items: toEntries(shown, lines.rows), hasNextPage: rows.length > page.first };
    });
  }

  /** What each adapter version earned the tenant, out of the postings on its accounts of earnings. */
  async earnings(
    actor: Actor,
    query: { readonly tenantId: Uuid | null; readonly from: Date; readonly to: Date },
    page: EarningPage,
  ): Promise<Page<Earning>> {
    const id = this.#mayRead(actor, query.tenantId);
    requirePageSize(page.first);
    requirePeriod(query.from, query.to);
    return this.#database.withTenantPg(id, async (client) => {
      const { rows } = await client.query<EarningRow>(
        `SELECT e.asset, e.subject_id, e.amount::text, e.postings::text
         FROM patchbay.own_earnings($1, $2) e
         WHERE $3::text IS NULL OR (e.asset, e.subject_id) > ($3, $4::uuid)
         ORDER BY e.asset, e.subject_id LIMIT $5`,
        [query.from, query.to, page.after?.currency ?? null, page.after?.versionId ?? null, page.first + 1],
      );
      const items = rows.slice(0, page.first).map((row) => ({
        adapterVersionId: row.subject_id,
        currency: row.asset,
        amount: BigInt(row.amount),
        postings: BigInt(row.postings),
      }));
      return { items, hasNextPage: rows.length > page.first };
    });
  }

  #mayRead(actor: Actor, tenantId: Uuid | null): Uuid {
    const id = tenantId ?? actor.tenantId;
    requireScope(actor, 'billing:read');
    if (reaches(actor, id)) return id;
    throw new PatchbayError('NOT_FOUND', 'No such tenant is visible to you.', { field: 'tenant' });
  }
}

/** A page of a tenant's transfers that are so. */
function entriesOf(condition: string): string {
  return `SELECT id, kind, asset, amount::text, held::text, pending_id, reference_type, reference_id, created_at
    FROM ledger_transfer
    WHERE tenant_id = $1 AND ($2::uuid IS NULL OR id < $2)
      AND ($3::timestamptz IS NULL OR (created_at >= $3 AND id >= patchbay.uuidv7_floor($3 - ${SLACK})))
      AND ($4::timestamptz IS NULL OR (created_at < $4 AND id < patchbay.uuidv7_floor($4 + ${SLACK})))
      AND (${condition})
    ORDER BY id DESC LIMIT $6`;
}

interface EarningRow {
  readonly asset: string;
  readonly subject_id: Uuid;
  readonly amount: string;
  readonly postings: string;
}

function requirePeriod(from: Date, to: Date): void {
  if (to <= from) {
    throw new PatchbayError('BAD_INPUT', 'The period ends before it starts.', { field: 'to' });
  }
  if (to.getTime() - from.getTime() > EARNINGS_DAYS_MAX * DAY_MS) {
    throw new PatchbayError('BAD_INPUT', `The period is longer than ${EARNINGS_DAYS_MAX} days.`, {
      field: 'to',
    });
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

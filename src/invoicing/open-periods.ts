import { z } from 'zod';
import { type Actor, requireOperatorScope } from '../auth/principal.ts';
import { badCursor, type Page, type PageRequest, requirePageSize } from '../db/page.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { isUuid, type Uuid } from '../kernel/ids.ts';
import { findPeriod, parsePeriod } from '../kernel/period.ts';
import { auditDenied, type RequestContext } from '../tenant/audit.ts';
import { CLOSE_GRACE_MS, type PeriodCloser, requireOver } from './closing.ts';
import type { InvoicingDeps } from './operation.ts';
import type { Invoice } from './rows.ts';

/** A month of a tenant that is over and has no bill that counts. */
export interface OpenPeriod {
  readonly tenantId: Uuid;
  readonly customerName: string;
  readonly start: Date;
  /** Requests that were admitted before the month's end and are not settled: while there are any it cannot be closed. */
  readonly unsettled: number;
}

/** A month to close for every tenant. */
export interface ClosePeriodsInput {
  readonly idempotencyKey: string;
  /** Such as `2028-02`. */
  readonly period: string;
  /** At most so many tenants, after this one: a long list is closed in several steps. */
  readonly first: number;
  readonly after: Uuid | null;
}

/** What became of the tenants of one step. */
export interface ClosedPeriods {
  readonly closed: readonly Invoice[];
  /** How many were closed before. */
  readonly alreadyClosed: number;
  readonly refused: readonly { readonly tenantId: Uuid; readonly error: PatchbayError }[];
  /** What to go on after; null when this was the last step. */
  readonly next: Uuid | null;
}

const KEY_CHARS_MAX = 100;
const openRows = z.array(
  z.object({ tenant_id: z.string(), name: z.string(), start: z.coerce.date(), unsettled: z.number() }),
);
const tenantRows = z.array(z.object({ id: z.string(), is_closed: z.boolean() }));

/** Closes a month for all tenants, and tells which months are open. */
export class PeriodsCloser {
  readonly #closer: Pick<PeriodCloser, 'close'>;
  readonly #deps: InvoicingDeps;

  constructor(closer: Pick<PeriodCloser, 'close'>, dependencies: InvoicingDeps) {
    this.#closer = closer;
    this.#deps = dependencies;
  }

  /** Closes a month of the next tenants, each in a transaction of its own, so that one that is refused stops no other. */
  async closeAll(
    actor: Actor,
    input: ClosePeriodsInput,
    context: RequestContext = {},
  ): Promise<ClosedPeriods> {
    const action = { actor, action: 'period.close', targetType: 'tenant', targetId: null, context };
    await auditDenied(this.#deps, action, () => requireOperatorScope(actor, 'billing:write'));
    requirePageSize(input.first);
    requireKey(input.idempotencyKey);
    const period = parsePeriod(input.period);
    requireOver(period, this.#deps.clock.nowMs());
    const rows = tenantRows.parse(
      await this.#deps.database.withSystem(
        (tx) => tx.$queryRaw`
          SELECT t.id, EXISTS (SELECT FROM invoice i WHERE i.tenant_id = t.id
                               AND i.period_start = ${period.start}::timestamptz AND i.state <> 'VOID') AS is_closed
          FROM tenant t
          WHERE patchbay.is_billable(t.id, ${period.start}::timestamptz)
            AND (${input.after}::uuid IS NULL OR t.id > ${input.after}::uuid)
          ORDER BY t.id LIMIT ${input.first + 1}::integer`,
      ),
    );
    const step = rows.slice(0, input.first);
    const closed: Invoice[] = [];
    const refused: { readonly tenantId: Uuid; readonly error: PatchbayError }[] = [];
    for (const { id: tenantId, is_closed: isClosed } of step) {
      if (isClosed) continue;
      const one = { tenantId, period: input.period, idempotencyKey: `${input.idempotencyKey}:${tenantId}` };
      try {
        closed.push(await this.#closer.close(actor, one, context));
      } catch (error) {
        if (!(error instanceof PatchbayError)) throw error;
        refused.push({ tenantId, error });
      }
    }
    return {
      ...{ closed, refused },
      alreadyClosed: step.filter(({ is_closed: isClosed }) => isClosed).length,
      next: rows.length > step.length ? (step.at(-1)?.id ?? null) : null,
    };
  }

  /** The months that are over and open, the oldest first. Its cursors are month and tenant. */
  async open(actor: Actor, page: PageRequest): Promise<Page<OpenPeriod>> {
    requireOperatorScope(actor, 'billing:read');
    requirePageSize(page.first);
    const { start: after, tenantId } = positionOf(page.after);
    const until = new Date(this.#deps.clock.nowMs() - CLOSE_GRACE_MS);
    const rows = openRows.parse(
      await this.#deps.database.withSystem(
        (tx) => tx.$queryRaw`
          SELECT t.id AS tenant_id, t.name, m.start,
                 (SELECT count(*)::integer FROM inference_request r
                  WHERE r.tenant_id = t.id AND r.admitted_at < m.start + interval '1 month') AS unsettled
          FROM tenant t
          CROSS JOIN LATERAL generate_series(
            date_trunc('month', t.created_at AT TIME ZONE 'UTC'),
            date_trunc('month', ${until}::timestamptz AT TIME ZONE 'UTC') - interval '1 month',
            interval '1 month') g(month)
          CROSS JOIN LATERAL (SELECT g.month AT TIME ZONE 'UTC' AS start) m
          WHERE patchbay.is_billable(t.id, m.start)
            AND NOT EXISTS (SELECT FROM invoice i
                            WHERE i.tenant_id = t.id AND i.period_start = m.start AND i.state <> 'VOID')
            AND (${after}::timestamptz IS NULL OR (m.start, t.id) > (${after}::timestamptz, ${tenantId}::uuid))
          ORDER BY m.start, t.id LIMIT ${page.first + 1}::integer`,
      ),
    );
    const items = rows.slice(0, page.first).map((row) => ({
      ...{ tenantId: row.tenant_id, customerName: row.name },
      ...{ start: row.start, unsettled: row.unsettled },
    }));
    return { items, hasNextPage: rows.length > page.first };
  }
}

/** The key of a step leaves room for the tenants, each of which is closed under a key of its own. */
function requireKey(key: string): void {
  if (key.length >= 1 && key.length <= KEY_CHARS_MAX) return;
  throw new PatchbayError('BAD_INPUT', `The key has 1 to ${KEY_CHARS_MAX} characters.`, {
    field: 'idempotencyKey',
  });
}

/** Month and tenant of a cursor's text. */
function positionOf(after: string | null): { readonly start: Date | null; readonly tenantId: Uuid | null } {
  if (after === null) return { start: null, tenantId: null };
  const [label = '', tenantId = '', ...rest] = after.split('/');
  const period = findPeriod(label);
  if (period === null || !isUuid(tenantId) || rest.length > 0) throw badCursor();
  return { start: period.start, tenantId };
}

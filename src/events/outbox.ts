/**
 * Reads the outbox. Events before the oldest transaction that still runs are decided: none can be added there any more.
 * Whoever reads up to that horizon, and next time goes on from there, passes over nothing and gets nothing twice,
 * however late a transaction commits.
 */
import type { PoolClient } from 'pg';
import { z } from 'zod';
import type { Database } from '../db/client.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { placeBefore } from './place.ts';
import type { EventFilter, EventPlace, OutboxEvent } from './types.ts';

/** Events in order, and how far the reader may go on from: behind the last of them, or behind all that is decided. */
export interface EventBatch {
  readonly events: readonly OutboxEvent[];
  readonly next: EventPlace;
}

const COLUMNS = 'transaction::text, position::text, id, tenant_id, kind, subject_id, payload, created_at';
/** What every settlement writes. Of everything else there is little, and an index of it by kind. */
const FREQUENT = 'request.settled';

/** Reads events of the kinds of $1 that are so, in the order of `by`; most of them is $2. */
function select({ kinds }: EventFilter, condition: string, by: 'ASC' | 'DESC'): string {
  const page = (seen: string): string =>
    `SELECT ${COLUMNS} FROM outbox_event
     WHERE ${seen} AND ${condition}
     ORDER BY outbox_event.transaction ${by}, outbox_event.position ${by} LIMIT $2`;
  if (kinds.includes(FREQUENT)) return page('kind = ANY ($1::text[])');
  return `SELECT e.* FROM unnest($1::text[]) AS k(name)
    CROSS JOIN LATERAL (${page(`kind = k.name AND kind <> '${FREQUENT}'`)}) e
    ORDER BY e.transaction::bigint ${by}, e.position::bigint ${by} LIMIT $2`;
}

interface EventRow {
  readonly transaction: string;
  readonly position: string;
  readonly id: Uuid;
  readonly tenant_id: Uuid;
  readonly kind: string;
  readonly subject_id: Uuid | null;
  readonly payload: unknown;
  readonly created_at: Date;
}

/** The tenant's next events behind the place, oldest first. */
export async function readAfter(
  database: Pick<Database, 'withTenantPg'>,
  tenantId: Uuid,
  filter: EventFilter,
  after: EventPlace,
  most: number,
): Promise<EventBatch> {
  return database.withTenantPg(tenantId, async (client) => {
    const horizon = await readHorizon(client);
    const { rows } = await client.query<EventRow>(
      select(
        filter,
        '(transaction, position) > ($3::bigint, $4::bigint) AND transaction < $5::bigint',
        'ASC',
      ),
      [filter.kinds, most, String(after.transaction), String(after.position), String(horizon)],
    );
    const events = rows.map(toEvent);
    const last = events.at(-1);
    if (events.length === most && last !== undefined) return { events, next: last.place };
    const decided = placeBefore(horizon);
    return { events, next: decided.transaction > after.transaction ? decided : after };
  });
}

/** The tenant's events before the place, or the newest ones that are decided; the newest first. */
export async function readBefore(
  database: Pick<Database, 'withTenantPg'>,
  tenantId: Uuid,
  filter: EventFilter,
  before: EventPlace | null,
  most: number,
): Promise<readonly OutboxEvent[]> {
  return database.withTenantPg(tenantId, async (client) => {
    const horizon = await readHorizon(client);
    // The place of an undecided event would be a cursor that passes over those that are decided later.
    const bound = before ?? { transaction: horizon, position: 0n };
    const { rows } = await client.query<EventRow>(
      select(
        filter,
        '(transaction, position) < ($3::bigint, $4::bigint) AND transaction < $5::bigint',
        'DESC',
      ),
      [filter.kinds, most, String(bound.transaction), String(bound.position), String(horizon)],
    );
    return rows.map(toEvent);
  });
}

/**
 * Where a reader starts: behind the event that it read last, or behind everything that is decided now.
 *
 * @throws PatchbayError `EVENTS_EXPIRED` when that event is gone. Events are removed oldest first, so that as long as one
 * is there, so is everything behind it.
 */
export async function startingPlace(
  database: Pick<Database, 'withTenantPg'>,
  tenantId: Uuid,
  after: EventPlace | null,
): Promise<EventPlace> {
  return database.withTenantPg(tenantId, async (client) => {
    if (after === null) return placeBefore(await readHorizon(client));
    const { rowCount } = await client.query(
      'SELECT 1 FROM outbox_event WHERE (transaction, position) = ($1::bigint, $2::bigint)',
      [String(after.transaction), String(after.position)],
    );
    if (rowCount === 1) return after;
    throw new PatchbayError('EVENTS_EXPIRED', 'The event of this cursor is no longer kept.', {
      field: 'after',
    });
  });
}

/** The oldest transaction that still runs, or the next one. */
async function readHorizon(client: PoolClient): Promise<bigint> {
  const { rows } = await client.query<{ readonly horizon: string }>(
    'SELECT patchbay.outbox_horizon()::text AS horizon',
  );
  return BigInt(rows[0]?.horizon ?? 0);
}

const payloadShape = z.record(z.string(), z.unknown());

function toEvent(row: EventRow): OutboxEvent {
  return {
    place: { transaction: BigInt(row.transaction), position: BigInt(row.position) },
    id: row.id,
    tenantId: row.tenant_id,
    kind: row.kind,
    subjectId: row.subject_id,
    payload: flatten(payloadShape.parse(row.payload)),
    createdAt: row.created_at,
  };
}

/** The payload with what is nested as JSON text, because that is what the API's objects can carry. */
function flatten(payload: Readonly<Record<string, unknown>>): OutboxEvent['payload'] {
  return Object.fromEntries(
    Object.entries(payload).map(([name, value]) => [
      name,
      value === null || typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
        ? value
        : JSON.stringify(value),
    ]),
  );
}

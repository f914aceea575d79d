import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EVENT_KINDS } from '../../../src/events/kinds.ts';
import { readAfter, readBefore, startingPlace } from '../../../src/events/outbox.ts';
import { purgeEvents } from '../../../src/events/purge.ts';
import type { EventFilter, EventPlace } from '../../../src/events/types.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { waitFor } from '../../kit/wait.ts';
import { numbers } from '../billing/charge.ts';
import { SEED } from '../ledger/kit.ts';

const ALL: EventFilter = { kinds: Object.keys(EVENT_KINDS) };
const START: EventPlace = { transaction: 0n, position: 0n };
const EMIT = `SELECT patchbay.emit_event($1, $2, NULL, jsonb_build_object('n', $3::integer))`;

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.dispose());

const tenant = (): Uuid => newId(systemClock);

async function emit(tenantId: Uuid, n: number, kind = 'budget.threshold'): Promise<void> {
  await db.database.querySystem(EMIT, [tenantId, kind, n]);
}

/** A connection with a transaction that has begun to write, so that it has an id. */
async function begun(tenantId: Uuid, n: number): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: db.systemUrl });
  await client.connect();
  await client.query('BEGIN');
  await client.query(EMIT, [tenantId, 'budget.threshold', n]);
  return client;
}

async function finish(client: pg.Client, how: 'COMMIT' | 'ROLLBACK'): Promise<void> {
  await client.query(how);
  await client.end();
}

/** Numbers of the events behind the place, and where to go on. */
async function behind(tenantId: Uuid, place: EventPlace, filter = ALL, most = 100) {
  const { events, next } = await readAfter(db.database, tenantId, filter, place, most);
  return { seen: events.map(({ payload }) => payload['n']), next };
}

/** Other databases of the server hold the horizon back as well, so what is committed is decided a moment later. */
async function decided(tenantId: Uuid, count: number): Promise<void> {
  await waitFor(async () => (await behind(tenantId, START)).seen.length >= count, { what: 'the events' });
}

describe('a reader', () => {
  test('does not pass over what commits late, and gets nothing twice', async () => {
    const id = tenant();
    const early = await begun(id, 1);
    await emit(id, 2);
    // The second one has committed, and still nothing is decided: the first has the lower place.
    const before = await behind(id, START);
    expect(before.seen).toEqual([]);
    const late = await begun(id, 3);
    await finish(early, 'COMMIT');
    await decided(id, 2);
    const both = await behind(id, before.next);
    expect(both.seen).toEqual([1, 2]);
    await emit(id, 4);
    await finish(late, 'COMMIT');
    await decided(id, 4);
    expect((await behind(id, both.next)).seen).toEqual([3, 4]);
  });

  test('goes on when a transaction that it waited for is rolled back', async () => {
    const id = tenant();
    const undone = await begun(id, 1);
    await emit(id, 2);
    expect((await behind(id, START)).seen).toEqual([]);
    await finish(undone, 'ROLLBACK');
    await decided(id, 1);
    expect((await behind(id, START)).seen).toEqual([2]);
  });

  test('gets each event of writers that race once and in one order, whatever the size of its pages', async () => {
    const id = tenant();
    const draw = numbers(SEED);
    const WRITERS = 8;
    const EACH = 12;
    let writing = WRITERS;
    const writers = Array.from({ length: WRITERS }, async (_, writer) => {
      const client = new pg.Client({ connectionString: db.systemUrl });
      await client.connect();
      for (let round = 0; round < EACH; round += 1) {
        const undone = draw(4) === 0;
        await client.query('BEGIN');
        await client.query(EMIT, [id, 'budget.threshold', writer * 1_000 + round]);
        if (draw(2) === 0) await client.query('SELECT pg_sleep(0.002)');
        await client.query(undone ? 'ROLLBACK' : 'COMMIT');
      }
      await client.end();
      writing -= 1;
    });
    const seen: unknown[] = [];
    let place = START;
    let idle = 0;
    // Done when nothing came for two reads after the last writer had ended, and everything is decided.
    while (idle < 2) {
      const isOver = writing === 0;
      const batch = await behind(id, place, ALL, 1 + draw(5));
      seen.push(...batch.seen);
      place = batch.next;
      const rows = await db.admin<{ rows: number }>(
        'SELECT count(*)::integer AS rows FROM outbox_event WHERE tenant_id = $1',
        [id],
      );
      idle = isOver && rows[0]?.rows === seen.length ? idle + 1 : 0;
    }
    await Promise.all(writers);
    const written = await db.admin<{ n: number }>(
      `SELECT (payload ->> 'n')::integer AS n FROM outbox_event WHERE tenant_id = $1 ORDER BY transaction, position`,
      [id],
    );
    expect(seen, `seed ${SEED}`).toEqual(written.map(({ n }) => n));
    expect(seen.length).toBeGreaterThan(EACH);
  });

  test('sees its own events alone, and of those the ones that it asks for and may see', async () => {
    const [id, other] = [tenant(), tenant()];
    await emit(id, 1);
    await emit(other, 2);
    await emit(id, 3, 'adapter.state');
    await emit(id, 4, 'invoice.finalised');
    await decided(id, 3);
    const seen = async (filter: EventFilter) => (await behind(id, START, filter)).seen;
    expect(await seen(ALL)).toEqual([1, 3, 4]);
    expect(await seen({ kinds: ['adapter.state'] })).toEqual([3]);
    expect(await seen({ kinds: ['invoice.finalised', 'adapter.state'] })).toEqual([3, 4]);
    await emit(id, 5, 'request.settled');
    await decided(id, 4);
    expect(await seen({ kinds: ['request.settled', 'adapter.state'] })).toEqual([3, 5]);
    expect(await seen({ kinds: ['invoice.finalised'] })).toEqual([4]);
    const quiet = { kinds: ALL.kinds.filter((kind) => kind !== 'request.settled') };
    const back = await readBefore(db.database, id, quiet, null, 2);
    expect(back.map(({ payload }) => payload['n'])).toEqual([4, 3]);
    const further = await readBefore(db.database, id, quiet, back.at(-1)?.place ?? null, 2);
    expect(further.map(({ payload }) => payload['n'])).toEqual([1]);
  });

  test('that looks back sees only what is decided, so that every place is one to go on from', async () => {
    const id = tenant();
    const early = await begun(id, 1);
    await emit(id, 2);
    expect(await readBefore(db.database, id, ALL, null, 10)).toEqual([]);
    await finish(early, 'COMMIT');
    await decided(id, 2);
    expect(await readBefore(db.database, id, ALL, null, 10)).toHaveLength(2);
  });
});

describe('a cursor', () => {
  test('is good as long as its event is kept, to the tenant that it is of', async () => {
    const [id, other] = [tenant(), tenant()];
    await emit(id, 1);
    await emit(id, 2);
    await decided(id, 2);
    const [first] = (await readAfter(db.database, id, ALL, START, 1)).events;
    const place = first?.place ?? START;
    expect(await startingPlace(db.database, id, place)).toEqual(place);
    const refused = await startingPlace(db.database, other, place).catch((error: unknown) => error);
    const missing = { ...place, position: place.position + 1_000_000n };
    const absent = await startingPlace(db.database, id, missing).catch((error: unknown) => error);
    if (!(refused instanceof PatchbayError) || !(absent instanceof PatchbayError))
      throw new Error('Not refused.');
    expect(refused.toPublic()).toEqual(absent.toPublic());
    expect(refused.code).toBe('EVENTS_EXPIRED');
  });
});

describe('old events', () => {
  const HOUR_MS = 3_600_000;

  /** Makes events as old as the hours say. Nothing may change them, so the guard steps aside for it. */
  async function aged(id: Uuid, hours: readonly number[]): Promise<void> {
    for (const [n] of hours.entries()) await emit(id, n);
    await db.admin('ALTER TABLE outbox_event DISABLE TRIGGER append_only');
    for (const [n, hour] of hours.entries()) {
      await db.admin(
        `UPDATE outbox_event SET created_at = $3 WHERE tenant_id = $1 AND payload = jsonb_build_object('n', $2::integer)`,
        [id, n, new Date(NOW - hour * HOUR_MS)],
      );
    }
    await db.admin('ALTER TABLE outbox_event ENABLE TRIGGER append_only');
    await decided(id, hours.length);
  }

  const NOW = Date.UTC(2030, 0, 1);

  test('are removed by the clock, oldest first, in batches; whose cursor is gone is told so', async () => {
    await db.admin('DELETE FROM outbox_event');
    const id = tenant();
    // The fourth is out of order: a transaction that began early and wrote late.
    await aged(id, [50, 49, 48, 10, 30, 5]);
    const places = (await readAfter(db.database, id, ALL, START, 100)).events.map(({ place }) => place);
    expect(await purgeEvents(db.database, NOW - 60 * HOUR_MS)).toBe(0);
    expect(await purgeEvents(db.database, NOW - 24 * HOUR_MS, 2)).toBe(3);
    // The fifth is old enough and stays: it comes behind one that is not.
    expect((await behind(id, START)).seen).toEqual([3, 4, 5]);
    const [, second = START, , fourth = START] = places;
    await expect(startingPlace(db.database, id, second)).rejects.toMatchObject({ code: 'EVENTS_EXPIRED' });
    expect((await behind(id, await startingPlace(db.database, id, fourth))).seen).toEqual([4, 5]);
    expect(await purgeEvents(db.database, NOW)).toBe(3);
    expect((await behind(id, START)).seen).toEqual([]);
  });

  test('are left alone while they are not decided', async () => {
    const id = tenant();
    const early = await begun(id, 1);
    await emit(id, 2);
    expect(await purgeEvents(db.database, Date.now() + HOUR_MS)).toBe(0);
    await finish(early, 'COMMIT');
    await decided(id, 2);
    expect(await purgeEvents(db.database, Date.now() + HOUR_MS)).toBe(2);
  });

  test('are not removed by a tenant, and never changed by anybody', async () => {
    const id = tenant();
    await emit(id, 1);
    const remove = db.database.withTenantPg(id, (client) => client.query('DELETE FROM outbox_event'));
    await expect(remove).rejects.toThrow(/permission denied/);
    await expect(db.admin('UPDATE outbox_event SET kind = kind')).rejects.toThrow();
  });
});

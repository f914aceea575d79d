import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Database } from '../../../src/db/client.ts';
import { deferred } from '../../../src/engine/deferred.ts';
import { EVENT_FEED_DEFAULTS, EventFeed } from '../../../src/events/feed.ts';
import { EVENT_KINDS } from '../../../src/events/kinds.ts';
import { startingPlace } from '../../../src/events/outbox.ts';
import type { EventFilter, OutboxEvent } from '../../../src/events/types.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { waitFor } from '../../kit/wait.ts';

const ALL: EventFilter = { kinds: Object.keys(EVENT_KINDS) };
const EMIT = `SELECT patchbay.emit_event($1, 'budget.threshold', NULL, jsonb_build_object('n', n))
  FROM generate_series($2::integer, $3::integer) n`;

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.dispose());

const tenant = (): Uuid => newId(systemClock);
const emit = (tenantId: Uuid, from: number, to = from) => db.database.querySystem(EMIT, [tenantId, from, to]);

/** A feed, and what it asked of the database: looks for new events of anybody, and pages of somebody's. */
function open(over: Partial<typeof EVENT_FEED_DEFAULTS> = {}) {
  const counts = { looks: 0, pages: 0, done: 0 };
  const fails = { looks: false, pages: false };
  /** What the next looks wait for before the database hears of them. */
  const gate = { open: Promise.resolve() };
  const errors: unknown[] = [];
  const database: Pick<Database, 'querySystem' | 'withTenantPg'> = {
    querySystem: async (text, values) => {
      counts.looks += 1;
      await gate.open;
      if (fails.looks) throw new Error('away');
      return db.database.querySystem(text, values);
    },
    withTenantPg: async (tenantId, work) => {
      counts.pages += 1;
      if (fails.pages) throw new Error('away');
      return db.database.withTenantPg(tenantId, work).finally(() => {
        counts.done += 1;
      });
    },
  };
  const onError = (error: unknown): void => {
    errors.push(error);
  };
  const feed = new EventFeed({ ...EVENT_FEED_DEFAULTS, pollMs: 5, ...over }, { database, onError });
  return { feed, counts, fails, gate, errors };
}

/** Waits until no transaction on the server can come before what the tenant has; others' tests run there as well. */
async function decided(tenantId: Uuid): Promise<void> {
  await waitFor(async () => {
    const [row] = await db.admin<{ decided: boolean }>(
      'SELECT bool_and(transaction < patchbay.outbox_horizon()) AS decided FROM outbox_event WHERE tenant_id = $1',
      [tenantId],
    );
    return row?.decided === true;
  });
}

/** Follows the tenant from now on. */
async function follow(feed: EventFeed, tenantId: Uuid) {
  return feed.watch(tenantId, ALL, await startingPlace(db.database, tenantId, null));
}

async function take(events: AsyncIterator<OutboxEvent>, count: number): Promise<unknown[]> {
  const taken: unknown[] = [];
  while (taken.length < count) {
    const { value, done } = await events.next();
    if (done === true) break;
    taken.push(value.payload['n']);
  }
  return taken;
}

describe('a feed', () => {
  test('brings everybody their own events, from when they began to follow', async () => {
    const { feed } = open();
    const [one, two] = [tenant(), tenant()];
    await emit(one, 0);
    await decided(one);
    const first = await follow(feed, one);
    const again = await follow(feed, one);
    const second = await follow(feed, two);
    const taken = Promise.all([take(first, 4), take(again, 4), take(second, 2)]);
    await emit(one, 1, 3);
    await emit(two, 10, 11);
    await emit(one, 4);
    expect(await taken).toEqual([
      [1, 2, 3, 4],
      [1, 2, 3, 4],
      [10, 11],
    ]);
    await feed.close();
    expect(await first.next()).toEqual({ done: true, value: undefined });
  });

  test('resumes behind any event without a gap or a repetition', async () => {
    const { feed } = open({ pageMax: 2 });
    const id = tenant();
    const following = await follow(feed, id);
    await emit(id, 1, 7);
    const events: OutboxEvent[] = [];
    while (events.length < 7) {
      const { value } = await following.next();
      events.push(value);
    }
    for (const [index, { place }] of events.entries()) {
      const resumed = feed.watch(id, ALL, await startingPlace(db.database, id, place));
      await emit(id, 100 + index);
      const rest = 7 - index - 1 + index + 1;
      expect(await take(resumed, rest)).toEqual([
        ...events.slice(index + 1).map(({ payload }) => payload['n']),
        ...Array.from({ length: index + 1 }, (_, nth) => 100 + nth),
      ]);
      await resumed.return?.();
    }
    await feed.close();
  });

  test('asks the database only while somebody follows, once for all of them', async () => {
    const { feed, counts } = open();
    const { feed: other, counts: others } = open();
    /** Lets as much time pass as another feed takes for three looks. */
    const pause = async (): Promise<void> => {
      const until = others.looks + 3;
      await waitFor(() => others.looks >= until, { what: 'looks of another feed' });
    };
    const elsewhere = await follow(other, tenant());
    const waiting = elsewhere.next();
    await pause();
    expect([feed.isPolling, counts.looks]).toEqual([false, 0]);
    const followed = await Promise.all(Array.from({ length: 10 }, () => follow(feed, tenant())));
    const pending = followed.map((events) => events.next());
    expect(feed.isPolling).toBe(true);
    // Each reads at its start, and those that were there at the first look once more, because it wakes everybody.
    await waitFor(() => counts.looks >= 3 && counts.pages >= 10, { what: 'the first pages' });
    // After that each look is one statement for all ten: nobody reads a page while nothing is new.
    let [looks, pages] = [0, -1];
    while (pages !== counts.pages) {
      ({ looks, pages } = counts);
      await waitFor(() => counts.looks >= looks + 3, { what: 'more looks' });
    }
    expect(pages).toBeLessThanOrEqual(20);
    for (const events of followed) await events.return?.();
    expect(await Promise.all(pending)).toEqual(followed.map(() => ({ done: true, value: undefined })));
    expect(feed.isPolling).toBe(false);
    await feed.close();
    const asked = counts.looks;
    await pause();
    expect(counts.looks).toBe(asked);
    await other.close();
    expect(await waiting).toEqual({ done: true, value: undefined });
  });

  test('holds a place for who reads slowly, makes nobody wait for it, and reads no further ahead than a page', async () => {
    const { feed, counts } = open({ pageMax: 5 });
    const id = tenant();
    const [slow, fast] = [await follow(feed, id), await follow(feed, id)];
    await emit(id, 1);
    expect(await take(slow, 1)).toEqual([1]);
    await emit(id, 2, 300);
    const { pages } = counts;
    expect(await take(fast, 300)).toEqual(Array.from({ length: 300 }, (_, index) => index + 1));
    // The slow one took no page meanwhile: two readers would have taken twice as many.
    expect(counts.pages - pages).toBeLessThan((1.5 * 300) / 5);
    expect(await take(slow, 299)).toEqual(Array.from({ length: 299 }, (_, index) => index + 2));
    await feed.close();
  });

  test('wakes who began to follow while a look was under way', async () => {
    const { feed, counts, gate } = open();
    const waiting = (await follow(feed, tenant())).next();
    await waitFor(() => counts.looks >= 2, { what: 'the first looks' });
    const held = deferred<void>();
    gate.open = held.promise;
    const { looks } = counts;
    await waitFor(() => counts.looks > looks, { what: 'a look that is held' });
    const id = tenant();
    const place = await startingPlace(db.database, id, null);
    const { done } = counts;
    const taken = take(feed.watch(id, ALL, place), 1);
    await waitFor(() => counts.done > done, { what: 'the first page' });
    await emit(id, 1);
    await decided(id);
    held.resolve();
    expect(await taken).toEqual([1]);
    await feed.close();
    expect(await waiting).toEqual({ done: true, value: undefined });
  });

  test('makes up for a look that failed', async () => {
    const { feed, fails, errors } = open();
    const id = tenant();
    const events = await follow(feed, id);
    const taken = take(events, 1);
    fails.looks = true;
    await waitFor(() => errors.length >= 2, { what: 'looks that fail' });
    await emit(id, 1);
    fails.looks = false;
    expect(await taken).toEqual([1]);
    await feed.close();
  });

  test('ends a follower whose reading fails, with the failure; it can resume', async () => {
    const { feed, fails } = open();
    const events = await follow(feed, tenant());
    fails.pages = true;
    await expect(events.next()).rejects.toThrow('away');
    expect(feed.isPolling).toBe(false);
    await feed.close();
  });

  test('that is closed brings nothing more to anybody', async () => {
    const { feed } = open();
    await feed.close();
    const events = await follow(feed, tenant());
    expect(await events.next()).toEqual({ done: true, value: undefined });
    expect(feed.isPolling).toBe(false);
  });
});

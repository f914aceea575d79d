import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Database } from '../../../src/db/client.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { METERING_DEFAULTS, Metering } from '../../../src/metering/metering.ts';
import { IDEMPOTENCY_KEPT_DAYS, type Recovery } from '../../../src/metering/sweeper.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { freeRecharge } from '../../kit/unpriced.ts';
import { waitFor } from '../../kit/wait.ts';
import {
  collect,
  expire,
  only,
  plainInput,
  recordsOf,
  startProcess,
  take,
  testCaller,
} from '../inference/harness.ts';

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.dispose());

function metering(database: Database, onRecovery: (recovery: Recovery) => void = () => {}): Metering {
  return new Metering(
    { ...METERING_DEFAULTS, leaseMs: 1_000 },
    { database, clock: systemClock, recharge: freeRecharge, onRecovery },
  );
}

describe('metering in the background', () => {
  it('forgets idempotency keys after their time, and never those of running requests', async () => {
    const tenantId = testCaller().tenantId;
    const insert = async (name: string, days: number): Promise<void> => {
      await db.admin(
        `INSERT INTO inference_idempotency (tenant_id, key_hash, request_id, salt, request_hash, created_at)
         VALUES ($1, sha256($2::bytea), uuidv7(), sha256('s'), sha256('r'), now() - make_interval(days => $3))`,
        [tenantId, name, days],
      );
    };
    await insert('old', IDEMPOTENCY_KEPT_DAYS + 1);
    await insert('young', IDEMPOTENCY_KEPT_DAYS - 1);
    const running = await startProcess(db);
    const stream = await running.service.infer(
      { ...testCaller(), tenantId },
      { ...plainInput(1), idempotencyKey: 'running' },
    );
    await take(stream);
    await db.admin(
      `UPDATE inference_idempotency SET created_at = now() - interval '90 days'
       WHERE request_id IN (SELECT id FROM inference_request WHERE tenant_id = $1)`,
      [tenantId],
    );
    const background = metering(db.database);
    await background.sweeper.forgetOldKeys();
    const left = await db.admin<{ age: number }>(
      `SELECT extract(day FROM now() - created_at)::int AS age FROM inference_idempotency WHERE tenant_id = $1 ORDER BY age`,
      [tenantId],
    );
    expect(left.map(({ age }) => age)).toEqual([IDEMPOTENCY_KEPT_DAYS - 1, 90]);
    await stream.return?.();
    await running.close();
  });

  it('keeps its own lease, and settles by itself what a process left that stopped renewing', async () => {
    const silent = await startProcess(db);
    const caller = testCaller();
    const stream = await silent.service.infer(caller, plainInput(2));
    await take(stream);
    (await silent.engine.sequence(0)).emit(1, 2, 3);
    await take(stream);
    // The harness renews by hand only, so this process has gone silent; its lease is cut to what is left of a second.
    await db.admin(`UPDATE instance SET lease_expires_at = now() + interval '1 second'`);

    const database = new Database({ appUrl: db.appUrl, systemUrl: db.systemUrl, applicationName: 'live' });
    const recoveries: Recovery[] = [];
    const live = metering(database, (recovery) => recoveries.push(recovery));
    await live.start();
    const instanceId = live.lease.current?.instanceId;
    await waitFor(() => recoveries.length > 0);

    expect(only(await recordsOf(db, caller.tenantId))).toMatchObject({
      settled_by: 'recovery',
      completion_tokens: 3,
      prompt_tokens: 2,
    });
    expect(live.lease.current?.instanceId).toBe(instanceId);
    await live.stop();
    const stopped = await db.admin('SELECT fence_reason FROM instance WHERE id = $1', [instanceId]);
    expect(stopped).toEqual([{ fence_reason: 'stopped' }]);
    await database.close();
    await silent.metering.lease.renew();
    await collect(stream);
    await silent.close();
  });

  it('does not fence at its start what ran out of its lease only because the database was away', async () => {
    const other = await startProcess(db);
    const caller = testCaller();
    const stream = await other.service.infer(caller, plainInput(2));
    await take(stream);
    // The database is back after an outage longer than a lease; this process is the first that it answers.
    await expire(db, other);
    const recoveries: Recovery[] = [];
    const live = metering(db.database, (recovery) => recoveries.push(recovery));
    await live.start();
    await other.metering.lease.renew();
    (await other.engine.sequence(0)).emit(1);
    expect(await take(stream)).toMatchObject({ kind: 'tokens' });
    expect(recoveries).toEqual([]);
    await live.stop();
    await stream.return?.();
    await other.close();
  });

  it('settles at its start what processes left that are fenced for good', async () => {
    const gone = await startProcess(db);
    const caller = testCaller();
    const stream = await gone.service.infer(caller, plainInput(2));
    await take(stream);
    const instanceId = gone.metering.lease.current?.instanceId;
    await db.admin(`UPDATE instance SET fenced_at = now(), fence_reason = 'stopped' WHERE id = $1`, [
      instanceId,
    ]);
    const live = metering(db.database);
    await live.start();
    expect(only(await recordsOf(db, caller.tenantId))).toMatchObject({ settled_by: 'recovery' });
    await live.stop();
    await gone.metering.lease.renew();
    await collect(stream);
    await gone.close();
  });

  it('renews, admits and commits while other work holds every other connection', async () => {
    const api = await startProcess(db);
    const stream = await api.service.infer(testCaller(), plainInput(1));
    await take(stream);
    let release = (): void => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let holding = 0;
    const hold = async (): Promise<void> => {
      holding += 1;
      await held;
    };
    const flood = [
      ...Array.from({ length: 40 }, () => api.database.withSystemPg(hold)),
      ...Array.from({ length: 40 }, () => api.database.withTenantPg(testCaller().tenantId, hold)),
    ].map((work) => work.catch(() => {}));
    await waitFor(() => holding >= 18, { what: 'the pools to be taken' });
    await api.metering.lease.renew();
    (await api.engine.sequence(0)).emit(1);
    expect(await take(stream)).toMatchObject({ kind: 'tokens' });
    // Without a key nothing has to be read before the admission.
    const second = await api.service.infer(testCaller(), plainInput(1));
    await take(second);
    release();
    await Promise.all(flood);
    await stream.return?.();
    await second.return?.();
    await api.close();
  });

  it('has partitions for the current month and the next ones as soon as it has started', async () => {
    const live = metering(db.database);
    await live.start();
    const [row] = await db.admin<{ ahead: string }>(
      `SELECT count(*) AS ahead FROM generate_series(0, 3) AS m(i)
       WHERE to_regclass('usage_record_' || to_char(date_trunc('month', now(), 'UTC') AT TIME ZONE 'UTC'
         + make_interval(months => i), 'YYYY_MM')) IS NOT NULL`,
    );
    expect(row?.ahead).toBe('4');
    await live.stop();
  });
});

describe('the cost of progress', () => {
  it('is one transaction for all streams, and updates that touch no index', async () => {
    const api = await startProcess(db);
    const streams = await Promise.all(
      Array.from({ length: 64 }, () => api.service.infer(testCaller(), plainInput(1))),
    );
    await Promise.all(streams.map(take));
    const before = await transactions();
    for (const sequence of api.engine.all) sequence.emit(7);
    await Promise.all(streams.map(take));
    for (let round = 0; round < 20; round += 1) {
      for (const sequence of api.engine.all) sequence.emit(7);
      await Promise.all(streams.map(take));
    }
    const spent = (await transactions()) - before;
    // 21 rounds of 64 streams; whoever comes a moment late makes a second transaction, not 64.
    expect(spent).toBeLessThan(21 * 8);
    for (const sequence of api.engine.all) sequence.end('stop');
    await Promise.all(streams.map(collect));
    await api.close();
    const [stats] = await db.admin<{ updates: string; hot: string }>(
      `SELECT n_tup_upd AS updates, n_tup_hot_upd AS hot FROM pg_stat_user_tables WHERE relname = 'request_progress'`,
    );
    // An index on a column that changes would make this nothing; how many find room on their page varies with the load.
    expect(Number(stats?.hot)).toBeGreaterThan(0.5 * Number(stats?.updates));
  });
});

/** Transactions that the system role's connections of this database have committed so far. */
async function transactions(): Promise<number> {
  const [row] = await db.admin<{ n: string }>(
    `SELECT xact_commit AS n FROM pg_stat_database WHERE datname = current_database()`,
  );
  return Number(row?.n ?? 0);
}

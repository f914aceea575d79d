import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { InferenceEvent } from '../../../src/inference/events.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { waitFor } from '../../kit/wait.ts';
import {
  collect,
  endOf,
  only,
  plainInput,
  recordsOf,
  startProcess,
  type TestProcess,
  take,
  testCaller,
  tokenIds,
} from '../inference/harness.ts';

/** For machines that are busy with something else. */
const PATIENT = { timeoutMs: 50_000 };

let db: TestDatabase;
let api: TestProcess;

beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.dispose());
beforeEach(async () => {
  api = await startProcess(db, {
    name: 'outage',
    recorder: { backoffMsMin: 1, backoffMsMax: 20, patienceMs: 400 },
  });
});
afterEach(async () => {
  await api.close();
});

/**
 * Breaks every connection of the process under test that is in use or has been: one that just opened is left alone,
 * because what opens it is not what is tested here.
 */
async function breakConnections(): Promise<number> {
  const rows = await db.admin(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name LIKE 'outage%'
       AND query <> '' AND query NOT ILIKE 'BEGIN%'`,
  );
  return rows.length;
}

/** Limits the connections to this test's database; superusers are exempt. */
async function limitConnections(most: number): Promise<void> {
  await db.admin(
    `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT ${most}', current_database()); END $$`,
  );
}

/** Keeps the process from writing until the returned function is called: its rounds wait, then fail and retry. */
async function takeDatabaseAway(): Promise<() => Promise<void>> {
  await limitConnections(0);
  await breakConnections();
  const left = `SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'outage%-reserved'`;
  await waitFor(async () => (await db.admin(left)).length === 0, { what: 'the connections to end' });
  return async () => {
    await limitConnections(-1);
  };
}

describe('when connections break', () => {
  it('streams neither lose nor double a token', async () => {
    const patient = await startProcess(db, {
      name: 'outage',
      recorder: { backoffMsMin: 1, patienceMs: 60_000 },
    });
    const callers = Array.from({ length: 12 }, () => testCaller());
    const streams = await Promise.all(callers.map((caller) => patient.service.infer(caller, plainInput(2))));
    let delivered = 0;
    const answers = Promise.all(
      streams.map(async (stream) => {
        const events: InferenceEvent[] = [];
        for await (const event of stream) {
          events.push(event);
          delivered += 1;
        }
        return events;
      }),
    );
    let broken = 0;
    for (let step = 0; step < 25; step += 1) {
      for (const sequence of patient.engine.all) sequence.emit(step + 1, step + 2);
      const seen = delivered;
      // Broken while the round that carries these tokens runs, and again until some of them arrived.
      await waitFor(async () => {
        if (delivered > seen) return true;
        broken += await breakConnections();
        return false;
      }, PATIENT);
    }
    for (const sequence of patient.engine.all) sequence.end('stop');
    expect(broken).toBeGreaterThan(0);
    const ends = await answers;
    for (const [index, events] of ends.entries()) {
      const record = only(await recordsOf(db, callers[index]?.tenantId ?? ''));
      const generated = patient.engine.all.find(
        (one) => one.request.tenantId === record.tenant_id,
      )?.generated;
      expect(tokenIds(events)).toEqual(generated?.map((token) => token.id));
      expect(record.completion_tokens).toBe(50);
    }
    await patient.close();
    expect(await db.admin('SELECT id FROM inference_request')).toEqual([]);
  });
});

describe('when the database is away', () => {
  it('a stream pauses, and goes on when it is back', async () => {
    const caller = testCaller();
    const patient = await startProcess(db, {
      name: 'outage',
      recorder: { backoffMsMin: 1, patienceMs: 60_000 },
    });
    const stream = await patient.service.infer(caller, plainInput());
    await take(stream);
    const sequence = await patient.engine.sequence(0);
    const back = await takeDatabaseAway();
    sequence.emit(1);
    const waiting = take(stream);
    await waitFor(() => patient.metering.recorder.depth > 0);
    sequence.emit(2, 3);
    await back();
    expect(await waiting).toMatchObject({ kind: 'tokens', seq: 0, tokens: [{ id: 1 }] });
    sequence.end('stop');
    expect(tokenIds(await collect(stream))).toEqual([2, 3]);
    expect(only(await recordsOf(db, caller.tenantId)).completion_tokens).toBe(3);
    await patient.close();
  });

  it('a stream ends after the patience with an error, and is settled when the database is back', async () => {
    const caller = testCaller();
    const stream = await api.service.infer(caller, plainInput());
    await take(stream);
    const sequence = await api.engine.sequence(0);
    sequence.emit(1, 2);
    expect(await take(stream)).toMatchObject({ tokens: [{ id: 1 }, { id: 2 }] });
    const back = await takeDatabaseAway();
    sequence.emit(3);
    const rest = await collect(stream);
    expect(tokenIds(rest)).toEqual([]);
    expect(endOf(rest)).toMatchObject({ finishReason: 'error', error: { code: 'DATABASE_UNAVAILABLE' } });
    expect(sequence.ended).toBe(true);
    expect(await recordsOf(db, caller.tenantId)).toEqual([]);
    await back();
    await api.metering.recorder.flush();
    expect(only(await recordsOf(db, caller.tenantId))).toMatchObject({
      settled_by: 'engine',
      completion_tokens: 2,
      error_code: 'DATABASE_UNAVAILABLE',
    });
  });

  it('refuses new requests, and leaves no admission behind that nobody runs', async () => {
    const back = await takeDatabaseAway();
    await expect(api.service.infer(testCaller(), plainInput())).rejects.toMatchObject({
      code: 'DATABASE_UNAVAILABLE',
    });
    await back();
    await api.metering.recorder.flush();
    expect(await db.admin('SELECT id FROM inference_request')).toEqual([]);
    expect(api.engine.all).toEqual([]);
  });
});

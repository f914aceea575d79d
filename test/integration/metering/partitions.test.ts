import { v7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Clock } from '../../../src/kernel/clock.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { ensurePartitions } from '../../../src/metering/partitions.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { plays } from '../inference/fake-engine.ts';
import { collect, only, plainInput, startProcess, testAdapter, testCaller } from '../inference/harness.ts';

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.dispose());

/** The smallest uuid whose time part is the given instant. */
function uuidv7Floor(ms: number): Uuid {
  const time = ms.toString(16).padStart(12, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}-0000-0000-000000000000`;
}

/** A clock that stands still at a UTC time. */
function at(time: string): Clock {
  return { nowMs: () => Date.parse(time), monotonicMs: () => performance.now() };
}

/** Runs a request that is admitted at the time, and returns the partitions that its three facts are in. */
async function partitionsAt(time: string): Promise<string[]> {
  const adapters = new Map([['a', testAdapter('a', newId(at(time)))]]);
  const api = await startProcess(db, { clock: at(time), adapters });
  api.engine.script = plays(() => 1);
  const caller = testCaller();
  const input = plainInput(1, { plainBackbone: false, adapters: [{ adapter: 'a' }] });
  await collect(await api.service.infer(caller, input));
  await api.close();
  const rows = await db.admin<{ name: string }>(
    `SELECT tableoid::regclass::text AS name FROM usage_record WHERE tenant_id = $1
     UNION ALL SELECT tableoid::regclass::text FROM usage_share WHERE tenant_id = $1
     UNION ALL SELECT tableoid::regclass::text FROM usage_salt WHERE tenant_id = $1`,
    [caller.tenantId],
  );
  return rows.map((row) => row.name);
}

function month(name: string): string[] {
  return ['usage_record', 'usage_share', 'usage_salt'].map((table) => `${table}_${name}`);
}

describe('partitions', () => {
  it('hold the month of the admission, to the millisecond, also over a leap day', async () => {
    await ensurePartitions(db.database, new Date('2028-01-15T00:00:00Z'));
    expect(await partitionsAt('2028-01-31T23:59:59.999Z')).toEqual(month('2028_01'));
    expect(await partitionsAt('2028-02-01T00:00:00.000Z')).toEqual(month('2028_02'));
    expect(await partitionsAt('2028-02-29T23:59:59.999Z')).toEqual(month('2028_02'));
    expect(await partitionsAt('2028-03-01T00:00:00.000Z')).toEqual(month('2028_03'));
  });

  it('have bounds that do not depend on the time zone of the session', async () => {
    await db.admin(`SET timezone = 'Pacific/Kiritimati'`);
    const [row] = await db.admin<{ floor: Uuid }>(
      `SELECT patchbay.uuidv7_floor('2028-02-01T00:00:00Z') AS floor`,
    );
    expect(row?.floor).toBe(uuidv7Floor(Date.parse('2028-02-01T00:00:00Z')));
    await db.admin('RESET timezone');
  });

  it('bound every uuidv7 of their first millisecond from below', () => {
    const ms = Date.parse('2028-02-01T00:00:00Z');
    expect(v7({ msecs: ms, random: Buffer.alloc(16), seq: 0 }) > uuidv7Floor(ms)).toBe(true);
    expect(v7({ msecs: ms - 1, random: Buffer.alloc(16, 255) }) < uuidv7Floor(ms)).toBe(true);
  });

  it('are made once, however many processes start together', async () => {
    const from = new Date('2031-05-05T00:00:00Z');
    const created = await Promise.all(Array.from({ length: 5 }, () => ensurePartitions(db.database, from)));
    expect(created.reduce((sum, n) => sum + n, 0)).toBe(16);
  });

  it('never stop an insert: what has no month goes to the default, and moves when its month is made', async () => {
    const time = '2040-06-15T12:00:00Z';
    expect(await partitionsAt(time)).toEqual(month('default'));
    await ensurePartitions(db.database, new Date(time));
    const rows = await db.admin<{ name: string }>(
      `SELECT tableoid::regclass::text AS name FROM usage_record WHERE id >= $1`,
      [uuidv7Floor(Date.parse('2040-01-01T00:00:00Z'))],
    );
    expect(only(rows).name).toBe('usage_record_2040_06');
    expect(await db.admin('SELECT id FROM usage_record_default')).toEqual([]);
    expect(await partitionsAt(time)).toEqual(month('2040_06'));
  });

  it('and their defaults stay locked and append-only after a move', async () => {
    const rows = await db.admin<{ name: string; safe: boolean }>(
      `SELECT c.oid::regclass::text AS name, c.relrowsecurity AND c.relforcerowsecurity AS safe
       FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid AND c.relkind = 'r'
       WHERE i.inhparent IN ('usage_record'::regclass, 'usage_share'::regclass, 'usage_salt'::regclass)`,
    );
    expect(rows.filter((row) => !row.safe)).toEqual([]);
    const guards = await db.admin<{ tables: string; enabled: string }>(
      `SELECT count(*) AS tables, count(*) FILTER (WHERE tgenabled = 'O') AS enabled FROM pg_trigger t
       WHERE tgname = 'append_only' AND tgrelid IN (
         SELECT inhrelid FROM pg_inherits WHERE inhparent IN ('usage_record'::regclass, 'usage_share'::regclass))`,
    );
    const partitions = rows.filter((row) => !row.name.startsWith('usage_salt')).length;
    expect(guards).toEqual([{ tables: String(partitions), enabled: String(partitions) }]);
    await expect(db.admin('DELETE FROM usage_record_2040_06')).rejects.toThrow(/append-only/);
  });

  it('keep a request id unique across all of them', async () => {
    const [row] = await db.admin<{ id: Uuid }>('SELECT id FROM usage_record LIMIT 1');
    await expect(
      db.admin('INSERT INTO usage_record SELECT * FROM usage_record WHERE id = $1', [row?.id]),
    ).rejects.toThrow(/duplicate key/);
  });
});

import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Database } from '../../../src/db/client.ts';
import { ResidencyWriter } from '../../../src/economics/residency-writer.ts';
import type { ResidencyHour } from '../../../src/engine/port.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';

const HOUR_MS = 3_600_000;
const START = Date.UTC(2027, 2, 1, 10);

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.dispose());

function piece(digest: string, us: bigint, startMs = START): ResidencyHour {
  return {
    startMs,
    aliveUs: us,
    capacityByteUs: us * 1_000n,
    adapters: [
      { digest, hostByteUs: us * 10n, bankByteUs: us * 2n, loads: 1n, bytesLoaded: 10n, loadUs: us / 2n },
    ],
  };
}

/** A writer whose engine tells what a test puts into `pieces`, and whose database may misbehave. */
function writing(
  querySystem: Database['querySystem'] = (text, values) => db.database.querySystem(text, values),
) {
  const pieces: ResidencyHour[] = [];
  const errors: unknown[] = [];
  const writer = new ResidencyWriter({
    engine: { drainResidency: async () => pieces.splice(0) },
    database: { querySystem },
    clock: systemClock,
    onError: (error) => errors.push(error),
  });
  return { writer, pieces, errors };
}

const newDigest = () => `${randomUUID()}${randomUUID()}`.replaceAll('-', '');

async function written(digest: string) {
  return db.admin(
    `SELECT r.bucket, sum(e.alive_us)::text AS alive, sum(e.capacity_byte_us)::text AS capacity,
            sum(host_byte_us)::text AS host, sum(bank_byte_us)::text AS bank, sum(loads)::text AS loads,
            sum(bytes_loaded)::text AS bytes, sum(load_us)::text AS load
     FROM adapter_residency r JOIN engine_hour e USING (run_id, bucket) WHERE digest = $1
     GROUP BY 1 ORDER BY 1`,
    [digest],
  );
}

const row = (us: bigint, loads: number, startMs = START) => ({
  bucket: new Date(startMs),
  alive: String(us),
  capacity: String(us * 1_000n),
  host: String(us * 10n),
  bank: String(us * 2n),
  loads: String(loads),
  bytes: String(loads * 10),
  load: String(us / 2n),
});

test('pieces add up, hour by hour, and a flush without news changes nothing', async () => {
  const digest = newDigest();
  const { writer, pieces } = writing();
  pieces.push(piece(digest, 100n));
  await writer.flush();
  pieces.push(piece(digest, 30n), piece(digest, 8n, START + HOUR_MS));
  await writer.flush();
  await writer.flush();
  expect(await written(digest)).toEqual([row(130n, 2), row(8n, 1, START + HOUR_MS)]);
});

test('a write that fails loses nothing, and one whose outcome is unknown adds nothing twice', async () => {
  const digest = newDigest();
  let fate: 'refuse' | 'write and break' | 'write' = 'refuse';
  const { writer, pieces, errors } = writing(async (text, values) => {
    if (fate === 'refuse') throw new Error('the database is away');
    await db.database.querySystem(text, values);
    if (fate === 'write and break') throw new Error('the connection broke during the commit');
    return [];
  });
  pieces.push(piece(digest, 100n));
  await expect(writer.flush()).rejects.toThrow('away');
  expect(await written(digest)).toEqual([]);
  fate = 'write and break';
  pieces.push(piece(digest, 20n));
  await expect(writer.flush()).rejects.toThrow('broke');
  expect(await written(digest)).toEqual([row(120n, 2)]);
  fate = 'write';
  pieces.push(piece(digest, 3n, START + HOUR_MS));
  await writer.stop();
  expect(await written(digest)).toEqual([row(120n, 2), row(3n, 1, START + HOUR_MS)]);
  expect(errors).toEqual([]);
});

test('an older write that arrives after a newer one changes nothing', async () => {
  const digest = newDigest();
  const late: (() => Promise<unknown>)[] = [];
  let hold = true;
  const { writer, pieces } = writing(async (text, values) => {
    late.push(() => db.database.querySystem(text, values));
    if (hold) throw new Error('no answer in time');
    return db.database.querySystem(text, values);
  });
  pieces.push(piece(digest, 100n));
  await expect(writer.flush()).rejects.toThrow('no answer');
  hold = false;
  pieces.push(piece(digest, 5n));
  await writer.flush();
  await late[0]?.();
  expect(await written(digest)).toEqual([row(105n, 2)]);
});

test('what an engine told before it died is written all the same', async () => {
  const digest = newDigest();
  const told = [piece(digest, 40n)];
  let down = true;
  const errors: unknown[] = [];
  const writer = new ResidencyWriter({
    engine: {
      drainResidency: async () => {
        if (told.length === 0) throw new Error('the engine has died');
        return told.splice(0);
      },
    },
    database: {
      querySystem: async (text, values) => {
        if (down) throw new Error('the database is away');
        return db.database.querySystem(text, values);
      },
    },
    clock: systemClock,
    onError: (error) => errors.push(error),
  });
  await expect(writer.flush()).rejects.toThrow('away');
  down = false;
  await writer.stop();
  expect(errors).toMatchObject([{ message: 'the engine has died' }]);
  expect(await written(digest)).toEqual([row(40n, 1)]);
});

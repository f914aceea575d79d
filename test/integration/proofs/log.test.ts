import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { SQLSTATE, sqlState } from '../../../src/db/errors.ts';
import { verifiesConsistency, verifiesInclusion } from '../../../src/proofs/merkle/verify.ts';
import { testSigner } from '../../kit/log.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { Definition } from '../../unit/proofs/rfc6962.ts';
import { entryId, isSigned, leafOf, queue, testLog } from './kit.ts';

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.dispose());

/** Takes the log out of the database, which only its owner can, by taking off what protects it. */
async function clear(): Promise<void> {
  for (const table of ['log_leaf', 'log_tile', 'log_head']) {
    await db.admin(`ALTER TABLE ${table} DISABLE TRIGGER append_only_truncate`);
    await db.admin(`TRUNCATE ${table}`);
    await db.admin(`ALTER TABLE ${table} ENABLE TRIGGER append_only_truncate`);
  }
  await db.admin('TRUNCATE log_queue');
}

const entries = (many: number) => Array.from({ length: many }, (_, n) => Buffer.from(`entry ${n}`));
const defined = new Definition(entries(2_000));

const refusal = async (work: Promise<unknown>): Promise<string | null> =>
  work.then(
    () => null,
    (error: unknown) => sqlState(error) ?? String(error),
  );

describe('the log', () => {
  beforeEach(clear);

  test('is empty until something waits for it', async () => {
    const { service, appender } = testLog(db);
    expect(await appender.run()).toEqual([]);
    expect(await service.latest()).toBeNull();
    await expect(service.head(null)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(service.inclusion({ kind: 'index', index: 0 }, null)).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    await expect(service.consistency(1, null)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test('takes what waits in order, a batch under each head, and signs what it has become', async () => {
    const { appender, service, clock } = testLog(db, { leavesMax: 300, headsMax: 3 });
    await queue(db, 0, 1_000);
    const heads = await appender.run();
    expect(heads.map(({ size }) => size)).toEqual([300, 600, 900]);
    // The clock was set back: a later head is not an earlier one.
    clock.advance(-60_000);
    const [last] = await appender.run();
    expect(last).toMatchObject({ size: 1_000, signedAtMs: Date.UTC(2026, 3, 4) });
    expect(await appender.run()).toEqual([]);
    for (const head of [...heads, last]) {
      expect(head && isSigned(head)).toBe(true);
      expect(head && Buffer.compare(head.root, defined.mth(head.size))).toBe(0);
      expect(await service.head(head?.size ?? 0)).toEqual(head);
    }
    expect(await service.latest()).toEqual(last);
    const rows = await db.admin<{ position: string; entry_id: string }>(
      'SELECT position, entry_id FROM log_leaf ORDER BY position',
    );
    expect(rows.map(({ entry_id }) => entry_id)).toEqual(rows.map((_, n) => entryId(n)));
    expect(await db.admin('SELECT FROM log_queue')).toEqual([]);
  });

  test('takes what was committed late with what comes then', async () => {
    const { appender } = testLog(db);
    await queue(db, 5, 10);
    await appender.run();
    await queue(db, 0, 5);
    await queue(db, 10, 12);
    await appender.run();
    const rows = await db.admin<{ entry_id: string }>('SELECT entry_id FROM log_leaf ORDER BY position');
    const order = [5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 10, 11];
    expect(rows.map(({ entry_id }) => entry_id)).toEqual(order.map(entryId));
  });

  test('has each entry once, however often it is put up', async () => {
    const { appender } = testLog(db);
    await queue(db, 0, 3);
    expect(await refusal(queue(db, 2, 3))).toBe(SQLSTATE.uniqueViolation);
    await appender.run();
    await queue(db, 2, 3);
    expect(await refusal(appender.run())).toBe(SQLSTATE.uniqueViolation);
    expect(await testLog(db).service.latest()).toMatchObject({ size: 3 });
  });

  test('is written by one of those that would at a time, and the others find nothing to do', async () => {
    let enter = (): void => {};
    let leave = (): void => {};
    const inside = new Promise<void>((resolve) => {
      enter = resolve;
    });
    const held = new Promise<void>((resolve) => {
      leave = resolve;
    });
    const { address, sign } = testSigner();
    const slow = testLog(db, {
      signer: {
        address,
        sign: async (digest) => {
          enter();
          await held;
          return sign(digest);
        },
      },
    });
    await queue(db, 0, 10);
    const running = slow.appender.run();
    await inside;
    await queue(db, 10, 20);
    expect(await testLog(db).appender.run()).toEqual([]);
    leave();
    expect((await running).map(({ size }) => size)).toEqual([10, 20]);
  });

  test('grows as one while several append to it at once', async () => {
    const writers = [1, 2, 3].map((n) => testLog(db, { leavesMax: 16 * n }));
    let waiting = 0;
    const feed = async (): Promise<void> => {
      for (; waiting < 900; waiting += 90) await queue(db, waiting, waiting + 90);
    };
    const feeding = feed();
    const heads = await Promise.all(
      writers.map(async ({ appender }) => {
        const made = [];
        for (let idle = 0; idle < 3 || waiting < 900; idle += 1) {
          const now = await appender.run();
          if (now.length > 0) idle = 0;
          made.push(...now);
        }
        return made;
      }),
    );
    await feeding;
    await testLog(db).appender.run();
    const [leaves] = await db.admin<{ many: number; entries: number }>(
      'SELECT count(*)::integer AS many, count(DISTINCT entry_id)::integer AS entries FROM log_leaf',
    );
    expect(leaves).toEqual({ many: 900, entries: 900 });
    const sizes = heads.flat().map(({ size }) => size);
    expect(new Set(sizes).size).toBe(sizes.length);
    const { service } = testLog(db);
    expect(await service.latest()).toMatchObject({ size: 900 });
    // Each of the heads is the beginning of the last one, which the service checks before it answers.
    for (const size of sizes) await service.consistency(size, 900);
  });

  test('signs nothing when the signer fails, and loses nothing', async () => {
    await queue(db, 0, 5);
    const broken = testLog(db, {
      signer: { address: testSigner().address, sign: () => Promise.reject(new Error('no key')) },
    });
    await expect(broken.appender.run()).rejects.toThrow('no key');
    expect(await db.admin('SELECT FROM log_leaf')).toEqual([]);
    expect(await testLog(db).appender.run()).toMatchObject([{ size: 5 }]);
  });

  test('is not signed any more once the tables were changed by other hands, and proves nothing false', async () => {
    const { appender, service } = testLog(db);
    await queue(db, 0, 300);
    await appender.run();
    await db.admin('ALTER TABLE log_leaf DISABLE TRIGGER append_only');
    await db.admin('UPDATE log_leaf SET leaf_hash = $1 WHERE position = 290', [leafOf(7_777)]);
    await db.admin('ALTER TABLE log_leaf ENABLE TRIGGER append_only');
    await queue(db, 300, 301);
    await expect(appender.run()).rejects.toThrow('the log in the tables is the one of its last head');
    expect(await service.latest()).toMatchObject({ size: 300 });
    await expect(service.inclusion({ kind: 'index', index: 291 }, 300)).rejects.toThrow('Invariant broken');
    await expect(service.inclusion({ kind: 'hash', hash: leafOf(7_777) }, 300)).rejects.toThrow(
      'Invariant broken',
    );
  });
});

describe('what the database refuses', () => {
  beforeAll(async () => {
    await clear();
    await queue(db, 0, 600);
    await testLog(db, { leavesMax: 300 }).appender.run();
  });

  test.each(['log_leaf', 'log_tile', 'log_head'])(
    '%s takes no change back, from its owner either',
    async (table) => {
      const [column] = { log_leaf: ['position'], log_tile: ['level'], log_head: ['size'] }[table] ?? [];
      expect(await refusal(db.admin(`UPDATE ${table} SET ${column} = ${column}`))).toBe('42501');
      expect(await refusal(db.admin(`DELETE FROM ${table}`))).toBe('42501');
      expect(await refusal(db.admin(`TRUNCATE ${table}`))).toBe('42501');
      for (const text of [`UPDATE ${table} SET ${column} = ${column}`, `DELETE FROM ${table}`]) {
        expect(await refusal(db.database.querySystem(text, []))).toBe('42501');
      }
    },
  );

  test('a leaf that leaves a gap, or takes the place of another', async () => {
    const add = (...positions: readonly number[]) =>
      db.database.querySystem(
        `INSERT INTO log_leaf (position, entry_id, leaf_hash)
         SELECT p, gen_random_uuid(), sha256(int8send(p)) FROM unnest($1::bigint[]) p`,
        [positions],
      );
    expect(await refusal(add(601))).toBe(SQLSTATE.checkViolation);
    expect(await refusal(add(600, 602))).toBe(SQLSTATE.checkViolation);
    expect(await refusal(add(599))).toBe(SQLSTATE.uniqueViolation);
    expect(await refusal(add(-1))).toBe(SQLSTATE.checkViolation);
  });

  test('a head of another size than the log, a second one, and an earlier one', async () => {
    const add = (size: number, at = '2026-05-01T00:00:00Z') =>
      db.database.querySystem(
        `INSERT INTO log_head (size, root, signed_at, address, signature)
         SELECT $1, sha256('x'), $2, h.address, h.signature FROM log_head h LIMIT 1`,
        [size, at],
      );
    expect(await refusal(add(599))).toBe(SQLSTATE.checkViolation);
    expect(await refusal(add(601))).toBe(SQLSTATE.checkViolation);
    expect(await refusal(add(600))).toBe(SQLSTATE.uniqueViolation);
    const later = db.database.withSystemPg(async (client) => {
      await client.query(
        `INSERT INTO log_leaf (position, entry_id, leaf_hash) VALUES (600, gen_random_uuid(), sha256('y'))`,
      );
      await client.query(
        `INSERT INTO log_head (size, root, signed_at, address, signature)
         SELECT 601, sha256('x'), h.signed_at - interval '1 second', h.address, h.signature FROM log_head h LIMIT 1`,
      );
    });
    expect(await refusal(later)).toBe(SQLSTATE.checkViolation);
  });

  test('everything from the role that requests have', async () => {
    for (const table of ['log_queue', 'log_leaf', 'log_tile', 'log_head']) {
      expect(await refusal(db.database.queryApp(`SELECT FROM ${table}`, []))).toBe('42501');
      expect(await refusal(db.database.queryApp(`INSERT INTO ${table} DEFAULT VALUES`, []))).toBe('42501');
    }
  });
});

describe('proofs', () => {
  const SIZES = [1, 2, 255, 256, 257, 511, 513, 1_000, 65_535, 65_536, 65_537, 65_900];
  const MOST = 65_900;
  const large = new Definition(entries(MOST));

  beforeAll(async () => {
    await clear();
    await db.admin(
      `INSERT INTO log_queue SELECT ('0192f000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
         sha256('\\x00'::bytea || convert_to('entry ' || n, 'UTF8')) FROM generate_series(0, $1 - 1) n`,
      [MOST],
    );
    let before = 0;
    for (const size of SIZES) {
      const { appender } = testLog(db, { leavesMax: size - before, headsMax: 1 });
      await appender.run();
      before = size;
    }
  });

  test('heads have the roots of the definition at every size around the edges of tiles', async () => {
    const { service } = testLog(db);
    for (const size of SIZES) {
      expect(Buffer.compare((await service.head(size)).root, large.mth(size)), `${size}`).toBe(0);
    }
    const [tiles] = await db.admin<{ levels: string }>(
      `SELECT string_agg(level || ':' || many, ' ' ORDER BY level) AS levels
       FROM (SELECT level, count(*) AS many FROM log_tile GROUP BY level) t`,
    );
    expect(tiles?.levels).toBe('0:257 1:1');
  });

  test('of leaves at the edges, for each of these sizes, are those of the definition and verify', async () => {
    const { service } = testLog(db);
    for (const size of SIZES) {
      for (const index of new Set([0, 1, 254, 255, 256, 512, 65_534, 65_535, 65_536, size - 1])) {
        if (index >= size) continue;
        const { leaf, path, head } = await service.inclusion({ kind: 'index', index }, size);
        expect(hex(leaf), `${index}`).toBe(hex(leafOf(index)));
        expect(path.map(hex), `${index} of ${size}`).toEqual(large.path(index, size).map(hex));
        expect(verifiesInclusion({ leaf: leafOf(index), index, size, root: head.root, path })).toBe(true);
      }
    }
  });

  test('of consistency between all of these sizes are those of the definition and verify', async () => {
    const { service } = testLog(db);
    for (const second of SIZES) {
      for (const first of SIZES.filter((size) => size <= second)) {
        const proof = await service.consistency(first, second);
        expect(proof.path.map(hex), `${first}, ${second}`).toEqual(large.proof(first, second).map(hex));
        const roots = { firstRoot: proof.first.root, secondRoot: proof.second.root };
        expect(verifiesConsistency({ first, second, path: proof.path, ...roots })).toBe(true);
      }
    }
  });

  test('are found by the hash of a leaf and by the id of its entry', async () => {
    const { service } = testLog(db);
    const byIndex = await service.inclusion({ kind: 'index', index: 300 }, null);
    expect(byIndex.head.size).toBe(MOST);
    expect(await service.inclusion({ kind: 'hash', hash: leafOf(300) }, null)).toEqual(byIndex);
    expect(await service.inclusion({ kind: 'entry', entryId: entryId(300) }, null)).toEqual(byIndex);
  });

  test('are refused for what is not there, with a code and the field', async () => {
    const { service } = testLog(db);
    const missing = (field: string) => expect.objectContaining({ code: 'NOT_FOUND', field });
    const bad = (field: string) => expect.objectContaining({ code: 'BAD_INPUT', field });
    await expect(service.inclusion({ kind: 'index', index: MOST }, null)).rejects.toEqual(missing('index'));
    await expect(service.inclusion({ kind: 'index', index: 300 }, 257)).rejects.toEqual(missing('index'));
    await expect(service.inclusion({ kind: 'hash', hash: leafOf(MOST) }, null)).rejects.toEqual(
      missing('leaf'),
    );
    await expect(service.inclusion({ kind: 'index', index: 1 }, 258)).rejects.toEqual(missing('size'));
    await expect(service.inclusion({ kind: 'index', index: -1 }, null)).rejects.toEqual(bad('index'));
    await expect(service.inclusion({ kind: 'hash', hash: Buffer.of(1) }, null)).rejects.toEqual(bad('leaf'));
    await expect(service.inclusion({ kind: 'entry', entryId: 'x' }, null)).rejects.toEqual(bad('entry'));
    await expect(service.consistency(258, 1_000)).rejects.toEqual(missing('first'));
    await expect(service.consistency(256, 1_001)).rejects.toEqual(missing('second'));
    await expect(service.consistency(1_000, 256)).rejects.toEqual(bad('first'));
    await expect(service.consistency(0.5, null)).rejects.toEqual(bad('first'));
    await expect(service.consistency(0, null)).rejects.toEqual(bad('first'));
    await expect(service.inclusion({ kind: 'index', index: 1 }, 0)).rejects.toEqual(bad('size'));
    await expect(service.head(2 ** 53)).rejects.toEqual(bad('size'));
  });
});

function hex(hash: Uint8Array): string {
  return Buffer.from(hash).toString('hex');
}

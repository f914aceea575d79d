import { randomUUID } from 'node:crypto';
import { readdirSync } from 'node:fs';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { closeRange } from '../../../src/exports/range.ts';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { DAY, type ExportKit, of, openExportKit } from './kit.ts';

let kit: ExportKit;
let tenantId: Uuid;
beforeAll(async () => {
  kit = await openExportKit();
  tenantId = await kit.tenant();
  await kit.requests(tenantId, 40);
});
afterAll(() => kit.dispose());

const dbNow = async (): Promise<number> => {
  const [row] = await kit.db.admin<{ now: Date }>('SELECT clock_timestamp() AS now');
  return row?.now.getTime() ?? 0;
};

test('a range that has passed stays as it is; one that has not ends a while before now', async () => {
  expect(await closeRange(kit.db.database, { from: DAY.from, to: DAY.until })).toEqual(DAY);
  const open = await closeRange(kit.db.database, { from: DAY.from, to: new Date('2100-01-01T00:00:00Z') });
  const behind = (await dbNow()) - open.until.getTime();
  expect(behind).toBeGreaterThanOrEqual(30_000);
  expect(behind).toBeLessThan(90_000);
});

test('a range does not go beyond the beginning of a transaction that could still write into it', async () => {
  const writer = new pg.Client({ connectionString: kit.db.systemUrl });
  await writer.connect();
  try {
    await writer.query('BEGIN');
    const { rows } = await writer.query<{ now: Date }>('SELECT now() AS now');
    const began = rows[0]?.now.getTime() ?? 0;
    const range = { from: DAY.from, to: new Date('2100-01-01T00:00:00Z') };
    expect((await closeRange(kit.db.database, range, 0)).until.getTime()).toBeLessThanOrEqual(began);
    await writer.query('ROLLBACK');
    expect((await closeRange(kit.db.database, range, 0)).until.getTime()).toBeGreaterThan(began);
  } finally {
    await writer.end();
  }
});

test.each([
  ['ends before it begins', { from: DAY.until, to: DAY.from }, 'to'],
  ['is empty', { from: DAY.from, to: DAY.from }, 'to'],
  ['is still to come', { from: new Date('2100-01-01'), to: new Date('2100-01-02') }, 'from'],
  ['begins at no time', { from: new Date(Number.NaN), to: DAY.until }, 'from'],
  ['ends after all time', { from: DAY.from, to: new Date(8.64e15) }, 'to'],
])('a range that %s is refused with a fix', async (_, range, field) => {
  await expect(closeRange(kit.db.database, range)).rejects.toMatchObject({
    code: 'BAD_INPUT',
    field,
    fix: expect.stringMatching(/^Give /),
  });
});

test('rows that come into the range while it is read begin the file anew, and it has them', async () => {
  const totals: bigint[] = [];
  const written = await kit.write('usage', 'csv', of(tenantId), {
    pageRows: 10,
    // Into what was read already, which no range that was closed would have.
    before: async (transaction) => {
      if (transaction === 4) await kit.requests(tenantId, 2, { admittedBefore: '2 days' });
    },
    onPage: (rows) => totals.push(rows),
  });
  expect(written.rows).toBe(42n);
  expect(totals.filter((rows) => rows === 0n)).toHaveLength(2);
  expect((await kit.write('usage', 'csv', of(tenantId))).content.equals(written.content)).toBe(true);
});

test('rows behind the end of the range do not touch it', async () => {
  const before = await kit.write('charges', 'parquet', of(tenantId));
  const during = await kit.write('charges', 'parquet', of(tenantId), {
    pageRows: 10,
    before: async (transaction) => {
      if (transaction === 3) await kit.requests(tenantId, 5, { from: DAY.until });
    },
  });
  expect(during.sha256).toBe(before.sha256);
});

test('an interrupted writing leaves no file', async () => {
  const stop = new AbortController();
  const files = readdirSync(kit.folder);
  const writing = kit.write('usage', 'jsonl', of(tenantId), {
    pageRows: 5,
    signal: stop.signal,
    onPage: (rows) => {
      if (rows >= 10n) stop.abort(new Error(`stopped ${randomUUID().length}`));
    },
  });
  await expect(writing).rejects.toThrow('stopped 36');
  expect(readdirSync(kit.folder)).toEqual(files);
});

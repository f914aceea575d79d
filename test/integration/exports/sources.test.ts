import { parquetReadObjects } from 'hyparquet';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { timestampText } from '../../../src/exports/column.ts';
import { FORMAT_NAMES } from '../../../src/exports/format.ts';
import { SOURCE_NAMES, SOURCES, type SourceName } from '../../../src/exports/sources.ts';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { parseCsv } from '../../unit/exports/sample.ts';
import { capture, createLedger, credit, hold, type TestLedger } from '../ledger/kit.ts';
import { type Bills, LEAP_YEAR, MARCH, writeBills } from './bills-kit.ts';
import { ALL, DAY, type ExportKit, of, openExportKit, parseLines, sha256, type Written } from './kit.ts';

const REQUESTS = 60;
/** The ledger's own clock stands in April. */
const APRIL = { from: new Date('2026-04-01T00:00:00Z'), until: new Date('2026-05-01T00:00:00Z') };
const RANGE = {
  usage: DAY,
  charges: DAY,
  ledger: APRIL,
  invoices: MARCH,
  credit_notes: MARCH,
  payouts: LEAP_YEAR,
} as const satisfies Record<SourceName, object>;

let kit: ExportKit;
let ledger: TestLedger;
let payer: { readonly tenantId: Uuid; readonly accountId: Uuid };
let owner: { readonly tenantId: Uuid; readonly accountId: Uuid };
let bystander: Uuid;
let bills: Bills;
/** Somebody with several rows of each source. */
const who = (source: SourceName): Uuid => {
  if (source === 'payouts') return bills.beneficiary;
  return source === 'invoices' || source === 'credit_notes' ? bills.customer : payer.tenantId;
};

beforeAll(async () => {
  kit = await openExportKit();
  ledger = await createLedger(kit.db);
  payer = await ledger.customer(9_007_199_254_740_993n);
  owner = await ledger.beneficiary();
  bystander = await kit.tenant();
  bills = await writeBills(kit.db);
  await kit.requests(payer.tenantId, REQUESTS);
  await kit.requests(bystander, 3);
  for (const amount of [70n, 30n, 0n]) {
    const held = hold(payer.accountId, 100n);
    await ledger.service.hold(held, 'inference');
    const credits =
      amount === 0n ? [] : [credit(ledger.base, amount - 10n), credit(owner.accountId, 10n, payer.tenantId)];
    await ledger.service.capture(capture(held.id, credits));
  }
});
afterAll(async () => {
  await bills.dispose();
  await kit.dispose();
});

/** Rows of a table as the tenant sees them, as the program does, and not through the export's own statements. */
async function visible(tenantId: Uuid, table: string, columns: string, order: string) {
  return kit.db.database.withTenantPg(tenantId, async (client) => {
    const { rows } = await client.query<Record<string, string | null>>(
      `SELECT ${columns} FROM ${table} ORDER BY ${order}`,
    );
    return rows;
  });
}

/** Every value of a file as text, whatever its format. */
async function cells(source: SourceName, written: Written): Promise<(string | null)[][]> {
  const { columns } = SOURCES[source];
  if (written.path.endsWith('.csv')) return parseCsv(written.content.toString('utf8')).slice(1);
  const objects = written.path.endsWith('.jsonl')
    ? parseLines(written.content)
    : await parquetReadObjects({
        file: new Uint8Array(written.content).buffer,
        parsers: { timestampFromMicroseconds: (us: bigint) => timestampText(String(us)) },
      });
  return objects.map((object) =>
    columns.map(({ name, type }) => {
      const value = object[name];
      if (value === null || value === undefined) return null;
      return type === 'json' && typeof value !== 'string' ? JSON.stringify(value) : String(value);
    }),
  );
}

/** JSON differs in spaces alone. */
const compact = (rows: (string | null)[][]) =>
  rows.map((row) => row.map((cell) => cell?.replaceAll(' ', '') ?? null));

describe.each(SOURCE_NAMES)('%s', (source) => {
  test('has the same values in every format, as many as it says, under its checksum', async () => {
    const files = [];
    for (const format of FORMAT_NAMES) {
      const written = await kit.write(source, format, of(who(source)), RANGE[source]);
      expect(written.sha256).toBe(sha256(written.content));
      expect(written.bytes).toBe(BigInt(written.content.byteLength));
      const rows = await cells(source, written);
      expect(BigInt(rows.length)).toBe(written.rows);
      files.push(compact(rows));
    }
    expect(files[0]?.length).toBeGreaterThan(1);
    expect(files[1]).toEqual(files[0]);
    expect(files[2]).toEqual(files[0]);
  });

  test('has the same bytes however it is cut into pages, each row once and in order', async () => {
    const whole = await kit.write(source, 'csv', of(who(source)), RANGE[source]);
    for (const pageRows of [1, 7, 100]) {
      const paged = await kit.write(source, 'csv', of(who(source)), { ...RANGE[source], pageRows });
      expect(paged.content.equals(whole.content)).toBe(true);
    }
    const keys = (await cells(source, whole)).map((row) =>
      row.slice(0, SOURCES[source].orderedBy.split(',').length).join('/'),
    );
    expect(new Set(keys).size).toBe(keys.length);
  });

  test('of all tenants is what each of them has, and no tenant has another’s', async () => {
    const everything = await kit.write(source, 'jsonl', ALL, RANGE[source]);
    const tenants = await kit.db.admin<{ id: Uuid }>('SELECT id FROM tenant');
    const parts: string[] = [];
    for (const { id } of tenants) {
      const own = await kit.write(source, 'jsonl', of(id), RANGE[source]);
      for (const row of parseLines(own.content)) expect(row['tenant_id']).toBe(id);
      parts.push(...own.content.toString().split('\n').slice(0, -1));
    }
    expect(parts.sort()).toEqual(everything.content.toString().split('\n').slice(0, -1).sort());
  });

  test('is empty where there is nothing', async () => {
    const range = { from: new Date('2020-01-01T00:00:00Z'), until: new Date('2020-02-01T00:00:00Z') };
    for (const format of FORMAT_NAMES) {
      const written = await kit.write(source, format, of(payer.tenantId), range);
      expect(written.rows).toBe(0n);
      expect(await cells(source, written)).toEqual([]);
    }
  });
});

test('usage is what the records say, to the microsecond and the nano-unit', async () => {
  const rows = parseLines((await kit.write('usage', 'jsonl', of(payer.tenantId))).content);
  const records = await visible(
    payer.tenantId,
    'usage_record',
    `id, amount_nano::text, bytes_loaded::text, error_code,
     to_char(ended_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS ended_at`,
    'id',
  );
  expect(
    rows.map(({ request_id: id, amount_nano, bytes_loaded, error_code, ended_at }) => ({
      id,
      amount_nano,
      bytes_loaded,
      error_code,
      ended_at,
    })),
  ).toEqual(records);
  expect(rows[0]?.['adapters']).toMatchObject([
    { weight: 0.7, share_numerator: '1', share_denominator: '1' },
  ]);
  expect(rows[1]?.['adapters']).toEqual([]);
});

test('the charges of a request add up to what its usage says', async () => {
  const usage = parseLines((await kit.write('usage', 'jsonl', of(payer.tenantId))).content);
  const charges = parseLines((await kit.write('charges', 'jsonl', of(payer.tenantId))).content);
  expect(charges).toHaveLength(2 * usage.length);
  for (const charge of charges) {
    const parts = ['input_nano', 'cached_nano', 'output_nano', 'rank_nano', 'royalty_nano'];
    const sum = parts.reduce((total, name) => total + BigInt(String(charge[name])), 0n);
    expect(sum).toBe(BigInt(String(charge['total_nano'])));
  }
});

test('the ledger’s postings sum to the balance; a beneficiary has theirs without the payer’s transfer', async () => {
  const { content } = await kit.write('ledger', 'jsonl', of(payer.tenantId), APRIL);
  const rows = parseLines(content);
  const postings = rows.filter(({ record }) => record === 'posting');
  const sum = postings.reduce((total, row) => total + BigInt(String(row['amount_nano'])), 0n);
  const balances = await ledger.service.balances([payer.accountId]);
  expect(sum).toBe(balances[0]?.posted);
  expect(rows.filter(({ record }) => record === 'transfer').map(({ kind }) => kind)).toEqual(
    expect.arrayContaining(['SINGLE', 'PENDING', 'POST']),
  );
  const earned = parseLines((await kit.write('ledger', 'jsonl', of(owner.tenantId), APRIL)).content);
  expect(earned).toMatchObject([
    { record: 'posting', amount_nano: '10', account_kind: 'EARNINGS', subject_id: payer.tenantId },
    { record: 'posting', amount_nano: '10' },
  ]);
  expect(JSON.stringify(earned)).not.toContain(payer.accountId);
});

test('a range begins with its first microsecond and ends before its last', async () => {
  const second = (n: number) => new Date(DAY.from.getTime() + n * 1_000);
  const rows = async (from: Date, until: Date) =>
    (await kit.write('usage', 'csv', of(payer.tenantId), { from, until })).rows;
  expect(await rows(second(0), second(10))).toBe(10n);
  expect(await rows(second(10), second(REQUESTS))).toBe(BigInt(REQUESTS - 10));
  // Requests end 123.457 ms after the second: a range to the millisecond before holds none of it.
  expect(await rows(second(5), new Date(second(5).getTime() + 123))).toBe(0n);
  expect(await rows(second(5), new Date(second(5).getTime() + 124))).toBe(1n);
});

test('requests whose ids are far from their end are found all the same', async () => {
  const tenantId = await kit.tenant();
  await kit.requests(tenantId, 5);
  await kit.requests(tenantId, 4, { admittedBefore: '40 days' });
  await kit.requests(tenantId, 3, { admittedBefore: '-3 days' });
  expect((await kit.write('usage', 'csv', of(tenantId), { pageRows: 2 })).rows).toBe(12n);
  expect((await kit.write('charges', 'csv', of(tenantId), { pageRows: 5 })).rows).toBe(24n);
});

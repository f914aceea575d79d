import { parquetMetadata, parquetReadObjects, parquetSchema } from 'hyparquet';
import { expect, test } from 'vitest';
import type { Row } from '../../../src/exports/column.ts';
import { parquetEncoder, ROW_GROUP_ROWS } from '../../../src/exports/formats/parquet.ts';
import { encodeAll, ROWS, SAMPLE } from './sample.ts';

/** A file as another program reads it. Times come as microseconds, because a `Date` has none. */
async function read(bytes: Buffer): Promise<Record<string, unknown>[]> {
  return parquetReadObjects({
    file: fileOf(bytes),
    parsers: { timestampFromMicroseconds: (us: bigint) => us },
  });
}

function fileOf(bytes: Buffer): ArrayBuffer {
  return new Uint8Array(bytes).buffer;
}

test('every value comes back exactly, at the ends of its range and null', async () => {
  const bytes = encodeAll(parquetEncoder(SAMPLE), ROWS, 2);
  const rows = await read(bytes);
  expect(rows).toHaveLength(ROWS.length);
  for (const [i, row] of ROWS.entries()) {
    const [id, note, small, amount, huge, at, list] = row;
    expect({ ...rows[i] }).toEqual({
      id,
      note,
      small: small == null ? null : Number(small),
      amount: amount == null ? null : BigInt(amount),
      huge,
      at: at == null ? null : BigInt(at),
      list,
    });
  }
});

test('the schema says what is null, what is 64 bits, and that times are microseconds in UTC', () => {
  const metadata = parquetMetadata(fileOf(encodeAll(parquetEncoder(SAMPLE), ROWS, 2)));
  const elements = Object.fromEntries(
    parquetSchema(metadata).children.map(({ element }) => [element.name, element]),
  );
  expect(elements['id']).toMatchObject({ repetition_type: 'REQUIRED', converted_type: 'UTF8' });
  expect(elements['amount']).toMatchObject({ repetition_type: 'OPTIONAL', type: 'INT64' });
  expect(elements['at']).toMatchObject({
    type: 'INT64',
    logical_type: { type: 'TIMESTAMP', isAdjustedToUTC: true, unit: 'MICROS' },
  });
  expect(metadata.key_value_metadata).toEqual([{ key: 'patchbay.source', value: 'sample' }]);
});

test('an export without rows is a file with a schema', async () => {
  const bytes = encodeAll(parquetEncoder(SAMPLE), [], 2);
  expect(await read(bytes)).toEqual([]);
  expect(parquetSchema(parquetMetadata(fileOf(bytes))).children).toHaveLength(SAMPLE.columns.length);
});

test('row groups are of one size, and the bytes do not depend on how the rows came', async () => {
  const rows: Row[] = Array.from({ length: 2 * ROW_GROUP_ROWS + 7 }, (_, i) => [
    `0192f000-0000-7000-8000-${i.toString(16).padStart(12, '0')}`,
    i % 3 === 0 ? null : `note ${i % 10}`,
    String(i),
    String(9_000_000_000_000_000_000n + BigInt(i)),
    '1',
    String(1_769_860_800_000_000 + i),
    '[]',
  ]);
  const bytes = encodeAll(parquetEncoder(SAMPLE), rows, 5_000);
  expect(encodeAll(parquetEncoder(SAMPLE), rows, 777).equals(bytes)).toBe(true);
  const { row_groups, num_rows } = parquetMetadata(fileOf(bytes));
  expect(row_groups.map((group) => Number(group.num_rows))).toEqual([ROW_GROUP_ROWS, ROW_GROUP_ROWS, 7]);
  expect(num_rows).toBe(BigInt(rows.length));
  const found = await read(bytes);
  expect(found.map(({ amount }) => amount)).toEqual(rows.map((row) => BigInt(row[3] ?? 0)));
  expect(found.map(({ note }) => note)).toEqual(rows.map((row) => row[1]));
});

test('an encoder goes on where another stood to the same bytes, but not while rows are held back', () => {
  const rows = Array.from({ length: 14 }, (_, i) => ROWS[i % ROWS.length] ?? []);
  const options = { groupRows: 4 };
  const whole = encodeAll(parquetEncoder(SAMPLE, options), rows, 2);
  const first = parquetEncoder(SAMPLE, options);
  const chunks = [...first.push(rows.slice(0, 8))];
  const from = first.state();
  if (from === null) throw new Error('Eight rows are two groups.');
  first.push(rows.slice(8, 9));
  expect(first.state()).toBeNull();
  const rest = encodeAll(parquetEncoder(SAMPLE, { ...options, from }), rows.slice(8), 3);
  expect(Buffer.concat([...chunks, rest]).equals(whole)).toBe(true);
});

import { expect, test } from 'vitest';
import { timestampText } from '../../../src/exports/column.ts';
import { jsonlEncoder } from '../../../src/exports/formats/jsonl.ts';
import { COLUMNS, encodeAll, INT64_MAX, ROWS, SAMPLE } from './sample.ts';

test('a line is one object with every column; what a number would lose is text', () => {
  const text = encodeAll(jsonlEncoder(SAMPLE), ROWS, 3).toString('utf8');
  const lines = text.trimEnd().split('\n');
  expect(lines).toHaveLength(ROWS.length);
  const objects: Record<string, unknown>[] = lines.map((line) => JSON.parse(line));
  for (const object of objects) expect(Object.keys(object)).toEqual(COLUMNS.map(({ name }) => name));
  expect(objects[1]).toMatchObject({ note: null, small: null, amount: null, at: null, list: null });
  expect(objects[2]).toMatchObject({ note: '', huge: `1${'0'.repeat(60)}`, list: { a: [1, 'x'] } });
  expect(objects[3]).toMatchObject({
    note: 'naïve 🦜 "quoted", and\r\nbroken',
    small: 2_147_483_647,
    amount: INT64_MAX,
    at: '2026-01-31T12:00:00.123456Z',
    list: '=1+1',
  });
});

test('an export without rows is an empty file', () => {
  expect(encodeAll(jsonlEncoder(SAMPLE), [], 3)).toHaveLength(0);
});

test.each([
  ['0', '1970-01-01T00:00:00.000000Z'],
  ['-1', '1969-12-31T23:59:59.999999Z'],
  ['951782399999999', '2000-02-28T23:59:59.999999Z'],
  ['951868799000001', '2000-02-29T23:59:59.000001Z'],
  ['253402300799999999', '9999-12-31T23:59:59.999999Z'],
])('%s microseconds are %s', (us, text) => {
  expect(timestampText(us)).toBe(text);
});

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { csvCell, csvEncoder } from '../../../src/exports/formats/csv.ts';
import { COLUMNS, encodeAll, INT64_MAX, INT64_MIN, parseCsv, ROWS, SAMPLE } from './sample.ts';

const SEED = Number(process.env['PATCHBAY_TEST_SEED'] ?? 20_260_404);

test('a file is RFC 4180: a header, CR LF after every line, quotes where they are needed', () => {
  const text = encodeAll(csvEncoder(SAMPLE), ROWS, 10).toString('utf8');
  const [header, ...rows] = parseCsv(text);
  expect(header).toEqual(COLUMNS.map(({ name }) => name));
  expect(rows).toHaveLength(ROWS.length);
  expect(rows[1]?.slice(1)).toEqual([null, null, null, null, null, null]);
  expect(rows[2]).toMatchObject({ 1: '', 2: '-2147483648', 3: INT64_MIN, 5: '1969-12-31T23:59:59.999999Z' });
  expect(rows[3]).toMatchObject({
    1: 'naïve 🦜 "quoted", and\r\nbroken',
    3: INT64_MAX,
    5: '2026-01-31T12:00:00.123456Z',
  });
  expect(text.endsWith('\r\n')).toBe(true);
});

test('an export without rows is a header', () => {
  expect(encodeAll(csvEncoder(SAMPLE), [], 10).toString()).toBe('id,note,small,amount,huge,at,list\r\n');
});

test.each([
  ['=1+1', "'=1+1"],
  ['+49 30', "'+49 30"],
  ['-x', "'-x"],
  ['@SUM(A1)', "'@SUM(A1)"],
  ['\tx', "'\tx"],
  ['\rx', '"\'\rx"'],
  ['=HYPERLINK("http://x","y")', '"\'=HYPERLINK(""http://x"",""y"")"'],
  ["'quoted", "''quoted"],
  ['a=b', 'a=b'],
  [' x', '" x"'],
])('the text %j is written as %j, and runs as no formula', (text, written) => {
  expect(csvCell('text', text)).toBe(written);
});

test('numbers keep their sign, and null is told from an empty text', () => {
  expect(csvCell('bigint', '-5')).toBe('-5');
  expect(csvCell('text', null)).toBe('');
  expect(csvCell('text', '')).toBe('""');
});

test('any text comes back after one quote mark is taken away', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'binary' }), { minLength: 1 }), (texts) => {
      const line = `${texts.map((text) => csvCell('text', text)).join(',')}\r\n`;
      const [cells = []] = parseCsv(line);
      expect(cells.map((cell) => cell?.replace(/^'/, ''))).toEqual(texts);
      for (const cell of cells) expect(cell ?? '').not.toMatch(/^[=+\-@\t\r]/);
    }),
    { seed: SEED },
  );
});

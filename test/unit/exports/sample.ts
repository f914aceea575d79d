import { type Column, column, nullable, type Row } from '../../../src/exports/column.ts';
import type { Encoder } from '../../../src/exports/format.ts';
import type { Source } from '../../../src/exports/source.ts';

export const COLUMNS: readonly Column[] = [
  column('id', 'uuid', 'An id.'),
  nullable('note', 'text', 'A text.'),
  nullable('small', 'integer', 'A number.'),
  nullable('amount', 'bigint', 'An amount.', 'nano-units'),
  nullable('huge', 'decimal', 'A number of any size.'),
  nullable('at', 'timestamp', 'A time.'),
  nullable('list', 'json', 'A value.'),
];

/** A source of every type, without a table. */
export const SAMPLE: Source = {
  name: 'sample',
  scope: 'usage:read',
  description: 'Samples.',
  timeColumn: 'at',
  orderedBy: 'id',
  columns: COLUMNS,
  parts: [],
};

const ID = '0192f000-0000-7000-8000-0000000000aa';
export const INT64_MAX = '9223372036854775807';
export const INT64_MIN = '-9223372036854775808';

/** Rows of the sample with the extremes of every type. */
export const ROWS: readonly Row[] = [
  [ID, 'plain', '1', '5', '7', '0', '[]'],
  [ID, null, null, null, null, null, null],
  [ID, '', '-2147483648', INT64_MIN, `1${'0'.repeat(60)}`, '-1', '{"a": [1, "x"]}'],
  [ID, 'naïve 🦜 "quoted", and\r\nbroken', '2147483647', INT64_MAX, '0', '1769860800123456', '"=1+1"'],
];

/** Everything that an encoder makes of rows that come in pages of a size. */
export function encodeAll(encoder: Encoder, rows: readonly Row[], pageRows: number): Buffer {
  const chunks: Uint8Array[] = [];
  for (let i = 0; i < rows.length; i += pageRows) chunks.push(...encoder.push(rows.slice(i, i + pageRows)));
  return Buffer.concat([...chunks, ...encoder.finish()]);
}

/** Reads CSV by RFC 4180, and strictly: what the standard does not allow is an error. Null is an unquoted nothing. */
export function parseCsv(text: string): (string | null)[][] {
  const rows: (string | null)[][] = [];
  let row: (string | null)[] = [];
  let at = 0;
  while (at < text.length) {
    let cell: string | null = null;
    if (text[at] === '"') {
      cell = '';
      for (at += 1; ; at += 1) {
        if (at >= text.length) throw new Error('a quote is open at the end');
        if (text[at] !== '"') cell += text[at];
        else if (text[at + 1] === '"') {
          cell += '"';
          at += 1;
        } else break;
      }
      at += 1;
    } else {
      const plain = /[^",\r\n]*/y;
      plain.lastIndex = at;
      const [found = ''] = plain.exec(text) ?? [];
      cell = found === '' ? null : found;
      at += found.length;
    }
    row.push(cell);
    if (text[at] === ',') {
      at += 1;
      if (at === text.length) throw new Error('the last line has no end');
    } else if (text.startsWith('\r\n', at)) {
      at += 2;
      rows.push(row);
      row = [];
    } else throw new Error(`${JSON.stringify(text.slice(at, at + 10))} after a cell`);
  }
  return rows;
}

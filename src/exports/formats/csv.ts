import { type Cell, type ColumnType, type Row, timestampText } from '../column.ts';
import type { Encoder, EncoderOptions } from '../format.ts';
import type { Source } from '../source.ts';

const LINE_END = '\r\n';
/** Characters for which RFC 4180 wants quotes, and spaces at either end, which some readers would drop. */
const NEEDS_QUOTES = /[",\r\n]|^\s|\s$/;
/** How a cell begins that spreadsheets run as a formula, or that looks as if it had been kept from being one. */
const LIKE_A_FORMULA = /^[=+\-@\t\r']/;

/**
 * A cell as RFC 4180 writes it. Null is nothing at all and an empty text is `""`. A text that spreadsheets would run as
 * a formula gets a `'` in front, and so does one that begins with a `'`, so that taking one away always gives the text.
 * Numbers keep their sign.
 */
export function csvCell(type: ColumnType, cell: Cell): string {
  if (cell === null) return '';
  switch (type) {
    case 'integer':
    case 'bigint':
    case 'decimal':
    case 'uuid':
    case 'hex':
      return cell;
    case 'timestamp':
      return timestampText(cell);
    default: {
      if (cell === '') return '""';
      const text = LIKE_A_FORMULA.test(cell) ? `'${cell}` : cell;
      return NEEDS_QUOTES.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    }
  }
}

/** CSV by RFC 4180: UTF-8 without a byte order mark, a header, CR LF at the end of every line. */
export function csvEncoder({ columns }: Source, { from }: EncoderOptions = {}): Encoder {
  const types = columns.map(({ type }) => type);
  let header = from === undefined ? columns.map(({ name }) => name).join(',') + LINE_END : '';
  const encode = (rows: readonly Row[]): readonly Uint8Array[] => {
    const lines = rows.map(
      (row) => types.map((type, i) => csvCell(type, row[i] ?? null)).join(',') + LINE_END,
    );
    const text = header + lines.join('');
    header = '';
    return text === '' ? [] : [Buffer.from(text, 'utf8')];
  };
  return { push: encode, finish: () => encode([]), state: () => (header === '' ? new Uint8Array() : null) };
}

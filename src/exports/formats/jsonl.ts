import { type Cell, type ColumnType, type Row, timestampText } from '../column.ts';
import type { Encoder } from '../format.ts';
import type { Source } from '../source.ts';

/** A cell as JSON. Integers of more than 32 bits are text, because JSON readers lose digits past 2^53. */
export function jsonCell(type: ColumnType, cell: Cell): string {
  if (cell === null) return 'null';
  switch (type) {
    case 'integer':
    case 'json':
      return cell;
    case 'timestamp':
      return `"${timestampText(cell)}"`;
    default:
      return JSON.stringify(cell);
  }
}

/** JSON Lines: one object a line, its fields in the order of the columns, nulls included. */
export function jsonlEncoder({ columns }: Source): Encoder {
  const fields = columns.map(({ name, type }) => ({ type, name: `${JSON.stringify(name)}:` }));
  return {
    push(rows: readonly Row[]) {
      if (rows.length === 0) return [];
      const lines = rows.map(
        (row) => `{${fields.map(({ name, type }, i) => name + jsonCell(type, row[i] ?? null)).join(',')}}\n`,
      );
      return [Buffer.from(lines.join(''), 'utf8')];
    },
    finish: () => [],
    state: () => new Uint8Array(),
  };
}

import type { SchemaElement } from 'hyparquet';
import { ByteWriter, ParquetWriter } from 'hyparquet-writer';
import type { Cell, Column, ColumnType, Row } from '../column.ts';
import type { Encoder } from '../format.ts';
import type { Source } from '../source.ts';

/**
 * Rows of a row group: what is held in memory at a time. What the file's end says of each group is held besides, about
 * a kilobyte for each column of it.
 */
export const ROW_GROUP_ROWS = 20_000;

/** Collects what the writer has finished, and keeps none of it. */
class Chunks extends ByteWriter {
  #ready: Uint8Array[] = [];

  override finish(): void {
    this.flush();
  }

  /** Called after each row group. */
  flush(): void {
    if (this.index > 0) this.#ready.push(this.getBytes().slice());
    this.index = 0;
  }

  take(): readonly Uint8Array[] {
    const taken = this.#ready;
    this.#ready = [];
    return taken;
  }
}

/**
 * Parquet, in row groups of {@link ROW_GROUP_ROWS} rows, compressed with Snappy. 64-bit integers and microseconds go
 * through as bigints, so none of their digits is lost.
 */
export function parquetEncoder({ name, columns }: Source): Encoder {
  const writer = new Chunks();
  const parquet = new ParquetWriter({
    writer,
    schema: [{ name: 'root', num_children: columns.length }, ...columns.map(element)],
    kvMetadata: [{ key: 'patchbay.source', value: name }],
  });
  let group: Row[] = [];
  const writeGroup = (rows: readonly Row[]): void => {
    const columnData = columns.map((column, i) => ({
      name: column.name,
      data: rows.map((row) => value(column.type, row[i] ?? null)),
      offsetIndex: false,
    }));
    parquet.write({ columnData, rowGroupSize: rows.length });
  };
  return {
    push(rows) {
      for (const row of rows) {
        group.push(row);
        if (group.length < ROW_GROUP_ROWS) continue;
        writeGroup(group);
        group = [];
      }
      return writer.take();
    },
    finish() {
      if (group.length > 0) writeGroup(group);
      group = [];
      parquet.finish();
      return writer.take();
    },
  };
}

/** How a type is stored; the words are those of the Parquet format. */
function element({ name, type, nullable }: Column): SchemaElement {
  const common = { name, repetition_type: nullable ? ('OPTIONAL' as const) : ('REQUIRED' as const) };
  switch (type) {
    case 'integer':
      return { ...common, type: 'INT32' };
    case 'bigint':
      return { ...common, type: 'INT64' };
    case 'timestamp':
      return {
        ...common,
        type: 'INT64',
        converted_type: 'TIMESTAMP_MICROS',
        logical_type: { type: 'TIMESTAMP', isAdjustedToUTC: true, unit: 'MICROS' },
      };
    default:
      return { ...common, type: 'BYTE_ARRAY', converted_type: 'UTF8', logical_type: { type: 'STRING' } };
  }
}

function value(type: ColumnType, cell: Cell): string | Uint8Array | number | bigint | null {
  if (cell === null) return null;
  switch (type) {
    case 'integer':
      return Number(cell);
    case 'bigint':
    case 'timestamp':
      return BigInt(cell);
    case 'text':
    case 'json':
      // Least and greatest values are told by bytes, and JavaScript compares strings in another order.
      return Buffer.from(cell, 'utf8');
    default:
      return cell;
  }
}

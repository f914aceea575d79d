import { deserialize, serialize } from 'node:v8';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import type { RowGroup, SchemaElement } from 'hyparquet';
import { ByteWriter, ParquetWriter } from 'hyparquet-writer';
import type { Cell, Column, ColumnType, Row } from '../column.ts';
import type { Encoder, EncoderOptions } from '../format.ts';
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

  /** Forgets what is ready: it is in the file already, which has so many bytes. */
  goOnFrom(bytes: number): void {
    this.#ready = [];
    this.index = 0;
    this.offset = bytes;
  }

  take(): readonly Uint8Array[] {
    const taken = this.#ready;
    this.#ready = [];
    return taken;
  }
}

/** What a file is gone on with from: its bytes, and what its end says of the row groups in them. */
interface ParquetState {
  readonly bytes: number;
  readonly groups: readonly RowGroup[];
}

/**
 * Parquet, in row groups of {@link ROW_GROUP_ROWS} rows, compressed with Snappy. 64-bit integers and microseconds go
 * through as bigints, so none of their digits is lost.
 */
export function parquetEncoder(
  { name, columns }: Source,
  { from, groupRows = ROW_GROUP_ROWS }: EncoderOptions = {},
): Encoder {
  const writer = new Chunks();
  const parquet = new ParquetWriter({
    writer,
    schema: [{ name: 'root', num_children: columns.length }, ...columns.map(element)],
    kvMetadata: [{ key: 'patchbay.source', value: name }],
  });
  if (from !== undefined) {
    const { bytes, groups }: ParquetState = deserialize(inflateRawSync(from));
    writer.goOnFrom(bytes);
    parquet.row_groups.push(...groups);
    parquet.num_rows = groups.reduce((sum, { num_rows }) => sum + num_rows, 0n);
  }
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
        if (group.length < groupRows) continue;
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
    state() {
      if (group.length > 0) return null;
      const state: ParquetState = { bytes: writer.offset, groups: parquet.row_groups };
      return deflateRawSync(serialize(state), { level: 1 });
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

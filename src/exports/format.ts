import { PatchbayError } from '../kernel/errors.ts';
import type { Row } from './column.ts';
import { csvEncoder } from './formats/csv.ts';
import { jsonlEncoder } from './formats/jsonl.ts';
import { parquetEncoder } from './formats/parquet.ts';
import type { Source } from './source.ts';

/** Turns rows into the bytes of a file. The same rows give the same bytes, however they are cut into pages. */
export interface Encoder {
  /** Takes a page, and gives what of the file is complete by it. */
  push(rows: readonly Row[]): readonly Uint8Array[];
  /** Gives the rest of the file. */
  finish(): readonly Uint8Array[];
  /** What another encoder goes on from after the bytes that were given; null while rows are held that are in none. */
  state(): Uint8Array | null;
}

/** How an encoder begins. */
export interface EncoderOptions {
  /** What {@link Encoder.state} of another gave, for the bytes that follow those; left out at the beginning. */
  readonly from?: Uint8Array | undefined;
  /** Rows of a row group, where a format has such. */
  readonly groupRows?: number | undefined;
}

/** How a file is written. */
interface Format {
  readonly mediaType: string;
  encoder(source: Source, options?: EncoderOptions): Encoder;
}

/** Every format, by name, which is also the ending of its files. */
export const FORMATS = {
  csv: { mediaType: 'text/csv; charset=utf-8; header=present', encoder: csvEncoder },
  jsonl: { mediaType: 'application/x-ndjson; charset=utf-8', encoder: jsonlEncoder },
  parquet: { mediaType: 'application/vnd.apache.parquet', encoder: parquetEncoder },
} as const satisfies Readonly<Record<string, Format>>;
export type FormatName = keyof typeof FORMATS;
export const FORMAT_NAMES: readonly FormatName[] = ['csv', 'jsonl', 'parquet'];

/** Finds the format, or throws `BAD_INPUT` that names those that there are. */
export function requireFormat(name: string): FormatName {
  const found = FORMAT_NAMES.find((one) => one === name);
  if (found !== undefined) return found;
  throw new PatchbayError('BAD_INPUT', `There is no format ${JSON.stringify(name)}.`, {
    field: 'format',
    fix: `Use one of ${FORMAT_NAMES.join(', ')}.`,
  });
}

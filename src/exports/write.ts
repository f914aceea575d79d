import { PatchbayError } from '../kernel/errors.ts';
import { FORMATS, type FormatName } from './format.ts';
import { type FileFacts, HashedFile } from './hashed-file.ts';
import { type ExportDatabase, type Extract, ExtractReader } from './read.ts';

/** A file that is complete. */
export interface WrittenExport extends FileFacts {
  /** As many as the database counts. */
  readonly rows: bigint;
}

/** How far the writing is. */
export interface ExportProgress {
  readonly rows: bigint;
  /** What the database counted when the writing began. */
  readonly expected: bigint;
}

/** How a file is written. */
export interface WriteOptions {
  readonly path: string;
  readonly format: FormatName;
  /** Ends the writing at the next page; the promise then rejects with the signal's reason. */
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: ExportProgress) => void;
  readonly pageRows?: number;
}

/** How often a file is begun again because its rows were not those that the database counts. */
const TRIES = 3;

/**
 * Writes a file of the rows. Memory holds one page, or one row group, at a time. When all is written the database counts
 * the rows of the range once more: facts are only ever added, so that equal counts mean equal rows. A file that comes
 * to less is begun again. When it fails, or is interrupted, no file is left.
 */
export async function writeExport(
  database: ExportDatabase,
  extract: Extract,
  options: WriteOptions,
): Promise<WrittenExport> {
  const reader = new ExtractReader(database, extract, options.pageRows);
  for (let attempt = 1; attempt <= TRIES; attempt += 1) {
    const written = await tryWrite(reader, extract, options);
    if (written !== null) return written;
  }
  throw new PatchbayError(
    'EXPORT_UNSETTLED',
    `The rows of the range changed while they were read, ${TRIES} times.`,
  );
}

async function tryWrite(
  reader: ExtractReader,
  { source }: Extract,
  { path, format, signal, onProgress }: WriteOptions,
): Promise<WrittenExport | null> {
  signal.throwIfAborted();
  const counted = await reader.count();
  const encoder = FORMATS[format].encoder(source);
  const file = await HashedFile.create(path);
  try {
    let rows = 0n;
    onProgress?.({ rows, expected: counted.rows });
    for await (const page of reader.pages(counted.ids)) {
      signal.throwIfAborted();
      for (const chunk of encoder.push(page)) await file.write(chunk);
      rows += BigInt(page.length);
      onProgress?.({ rows, expected: counted.rows });
    }
    for (const chunk of encoder.finish()) await file.write(chunk);
    if ((await reader.count()).rows === rows) {
      signal.throwIfAborted();
      return { rows, ...(await file.finish()) };
    }
    await file.discard();
    return null;
  } catch (error) {
    await file.discard();
    throw error;
  }
}

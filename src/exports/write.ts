import { PatchbayError } from '../kernel/errors.ts';
import { type Checkpoint, layoutOf, type Resume } from './checkpoint.ts';
import { type Encoder, FORMATS, type FormatName } from './format.ts';
import { type FileFacts, HashedFile } from './hashed-file.ts';
import { type ExportDatabase, type Extract, ExtractReader } from './read.ts';
import type { Cursor } from './source.ts';

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
  /**
   * Told from time to time how far the file is on the disk. From then on it stays when the writing ends before its time,
   * for another writing to go on from.
   */
  readonly onCheckpoint?: (checkpoint: Checkpoint) => void;
  /** A file to go on with. When that is not possible, the writing begins at the beginning. */
  readonly resume?: Resume | null;
  readonly pageRows?: number;
  readonly groupRows?: number;
  readonly checkpointRows?: number;
}

/** How often a file is begun again because its rows were not those that the database counts. */
const TRIES = 3;
/** Rows between checkpoints: a few seconds of writing. */
const CHECKPOINT_ROWS = 100_000;

/**
 * Writes a file of the rows. Memory holds one page, or one row group, at a time. When all is written the database counts
 * the rows of the range once more: facts are only ever added, so that equal counts mean equal rows. A file that comes
 * to less is begun again. When it fails, or is interrupted, no file is left, or one with a checkpoint.
 */
export async function writeExport(
  database: ExportDatabase,
  extract: Extract,
  options: WriteOptions,
): Promise<WrittenExport> {
  const reader = new ExtractReader(database, extract, options.pageRows);
  for (let attempt = 1; attempt <= TRIES; attempt += 1) {
    const resume = attempt === 1 ? (options.resume ?? null) : null;
    const written = await tryWrite(reader, extract, options, resume);
    if (written !== null) return written;
  }
  throw new PatchbayError(
    'EXPORT_UNSETTLED',
    `The rows of the range changed while they were read, ${TRIES} times.`,
  );
}

async function tryWrite(
  reader: ExtractReader,
  extract: Extract,
  options: WriteOptions,
  resume: Resume | null,
): Promise<WrittenExport | null> {
  const { signal, onProgress, onCheckpoint, checkpointRows = CHECKPOINT_ROWS } = options;
  signal.throwIfAborted();
  const counted = await reader.count();
  const begun = await begin(extract, options, resume);
  const { file, encoder } = begun;
  let { rows } = begun;
  let kept = rows > 0n;
  let due = rows + BigInt(checkpointRows);
  try {
    onProgress?.({ rows, expected: counted.rows });
    for await (const page of reader.pages(counted.ids, begun.cursor)) {
      signal.throwIfAborted();
      for (const chunk of encoder.push(page.rows)) await file.write(chunk);
      rows += BigInt(page.rows.length);
      onProgress?.({ rows, expected: counted.rows });
      const state = onCheckpoint !== undefined && rows >= due ? encoder.state() : null;
      if (state === null) continue;
      await file.sync();
      const layout = layoutOf(extract, options.format);
      onCheckpoint?.({ cursor: page.last, rows, ...file.facts(), encoder: state, layout });
      kept = true;
      due = rows + BigInt(checkpointRows);
    }
    for (const chunk of encoder.finish()) await file.write(chunk);
    if ((await reader.count()).rows === rows) {
      signal.throwIfAborted();
      return { rows, ...(await file.finish()) };
    }
    await file.discard();
    return null;
  } catch (error) {
    await (kept ? file.close() : file.discard());
    throw error;
  }
}

/** A file to write to, and where its rows go on. */
interface Begun {
  readonly file: HashedFile;
  readonly encoder: Encoder;
  readonly rows: bigint;
  /** Null for the first row of all. */
  readonly cursor: Cursor | null;
}

async function begin(extract: Extract, options: WriteOptions, resume: Resume | null): Promise<Begun> {
  const { path, format, groupRows, onCheckpoint } = options;
  const { encoder } = FORMATS[format];
  if (resume !== null && resume.checkpoint.layout === layoutOf(extract, format)) {
    const { checkpoint } = resume;
    const { bytes, sha256, rows, cursor } = checkpoint;
    const file = await HashedFile.copy(path, { path: resume.path, bytes, sha256 });
    if (file !== null) {
      await file.sync();
      // From now on it is this file that somebody else would go on with.
      onCheckpoint?.(checkpoint);
      return {
        file,
        rows,
        cursor,
        encoder: encoder(extract.source, { from: checkpoint.encoder, groupRows }),
      };
    }
  }
  const file = await HashedFile.create(path);
  return { file, rows: 0n, cursor: null, encoder: encoder(extract.source, { groupRows }) };
}

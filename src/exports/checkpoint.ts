import { createHash } from 'node:crypto';
import type { FormatName } from './format.ts';
import type { Extract } from './read.ts';
import { type Cursor, pageSql } from './source.ts';

/** How far a file is on the disk, and what is needed to go on from there. */
export interface Checkpoint {
  /** The last row that is in the file. */
  readonly cursor: Cursor;
  readonly rows: bigint;
  readonly bytes: bigint;
  /** Of these bytes, lower-case hex. */
  readonly sha256: string;
  /** What the encoder goes on from. */
  readonly encoder: Uint8Array;
  /** {@link layoutOf} of the program that wrote them. */
  readonly layout: string;
}

/** A file that somebody began, to go on with in another. */
export interface Resume {
  readonly path: string;
  readonly checkpoint: Checkpoint;
}

/** Raised when a format's bytes change while sources stay as they are. */
const REVISION = 1;

/** Names what rows are made into: only a program that would make the same goes on with a file. */
export function layoutOf({ source, reach }: Extract, format: FormatName): string {
  const text = JSON.stringify([REVISION, format, source.name, source.columns, pageSql(source, reach.kind)]);
  return createHash('sha256').update(text).digest('hex');
}

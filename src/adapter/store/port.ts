/** One stored blob. */
export interface BlobStat {
  readonly key: string;
  readonly bytes: number;
}

/** What must hold for a blob to be stored. */
export interface PutRules {
  readonly maxBytes: number;
  /** Lower-case hex SHA-256 of the whole content. */
  readonly sha256: string;
}

/**
 * Where adapter files live. Drivers pass `test/conformance/blob-store.ts`.
 *
 * A blob appears whole or not at all: readers never see part of one, whatever is killed when. Keys are checked by
 * `requireKey`, so a driver may map them to paths.
 */
export interface BlobStore {
  /**
   * Stores the content under the key, replacing what was there in one step. Rejects with `FILE_TOO_LARGE` or
   * `UPLOAD_CHECKSUM`, or with what the content's iterator throws, and then leaves the key as it was.
   */
  put(key: string, content: AsyncIterable<Uint8Array>, rules: PutRules): Promise<BlobStat>;
  /** The content, or a part of it that must lie within. Rejects with `NOT_FOUND`. */
  get(key: string, range?: { readonly start: number; readonly length: number }): AsyncIterable<Uint8Array>;
  /** The blob's size, or null when there is none. */
  stat(key: string): Promise<BlobStat | null>;
  /** Removes a blob; whether there was one. */
  delete(key: string): Promise<boolean>;
  /** All blobs whose key begins with the prefix (empty, or segments that each end with a slash), by ascending key. */
  list(prefix: string): AsyncIterable<BlobStat>;
}

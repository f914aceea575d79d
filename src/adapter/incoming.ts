import { createHash } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { mkdir, open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isUuid, type Uuid } from '../kernel/ids.ts';
import { type ByteSource, openFile } from '../safetensors/source.ts';

/**
 * Files while they are being received, one per upload file, named by its id. All processes on a database share the
 * folder, so an upload may be resumed, and validated, by another process than the one that began it.
 */
export class IncomingFiles {
  readonly #folder: string;

  constructor(options: { readonly folder: string }) {
    this.#folder = options.folder;
  }

  /** Bytes on disk; 0 when none have come. */
  async size(fileId: Uuid): Promise<number> {
    try {
      return (await stat(this.#path(fileId))).size;
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return 0;
      throw error;
    }
  }

  /** Writes chunks from the position on until they end or break off, and answers how far the file is then on disk. */
  async append(fileId: Uuid, chunks: AsyncIterable<unknown>, position: number): Promise<number> {
    await mkdir(this.#folder, { recursive: true });
    // The flags by letter do not fit: "a" ignores positions and "w" drops what is there.
    const handle = await open(this.#path(fileId), constants.O_RDWR | constants.O_CREAT, 0o600);
    let at = position;
    try {
      for await (const chunk of chunks) {
        if (!(chunk instanceof Uint8Array)) continue;
        for (let done = 0; done < chunk.byteLength; ) {
          const { bytesWritten } = await handle.write(chunk, done, chunk.byteLength - done, at);
          done += bytesWritten;
          at += bytesWritten;
        }
      }
    } finally {
      // What is acknowledged must survive a crash: the client will not send it again.
      await handle.sync();
      await handle.close();
    }
    return at;
  }

  /** SHA-256 of the whole file, lower-case hex. */
  async sha256(fileId: Uuid): Promise<string> {
    const hash = createHash('sha256');
    for await (const chunk of this.read(fileId)) hash.update(chunk);
    return hash.digest('hex');
  }

  /** The whole content. */
  async *read(fileId: Uuid): AsyncIterable<Uint8Array> {
    for await (const chunk of createReadStream(this.#path(fileId), { highWaterMark: 1 << 20 })) {
      if (chunk instanceof Uint8Array) yield chunk;
    }
  }

  /** Random access; the caller closes it. Rejects with `FILE_MISSING`. */
  source(fileId: Uuid): Promise<ByteSource> {
    return openFile(this.#path(fileId));
  }

  /** Removes a file, or does nothing. */
  async remove(fileId: Uuid): Promise<void> {
    await rm(this.#path(fileId), { force: true });
  }

  #path(fileId: Uuid): string {
    if (!isUuid(fileId)) throw new RangeError('not the id of a file');
    return join(this.#folder, fileId);
  }
}

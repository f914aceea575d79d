import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';

/** What a file holds. */
export interface FileFacts {
  readonly bytes: bigint;
  /** Lower-case hex. */
  readonly sha256: string;
}

/** A file that is written from its beginning to its end, and whose checksum is known at any time. */
export class HashedFile {
  readonly #path: string;
  readonly #handle: FileHandle;
  readonly #hash = createHash('sha256');
  #bytes = 0n;

  private constructor(path: string, handle: FileHandle) {
    this.#path = path;
    this.#handle = handle;
  }

  /** Begins the file; what was there is gone. Nobody else on the machine may read it. */
  static async create(path: string): Promise<HashedFile> {
    return new HashedFile(path, await open(path, 'w', 0o600));
  }

  /**
   * Begins the file with what another begins with, and answers null when that is not there or not as it was. It is copied,
   * because whoever wrote the other may have it open still.
   */
  static async copy(path: string, from: FileFacts & { readonly path: string }): Promise<HashedFile | null> {
    const file = await HashedFile.create(path);
    try {
      const chunks = createReadStream(from.path, { end: Number(from.bytes) - 1, highWaterMark: 1 << 20 });
      for await (const chunk of chunks) await file.write(chunk);
    } catch (error) {
      await file.discard();
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
      throw error;
    }
    const { bytes, sha256 } = file.facts();
    if (bytes === from.bytes && sha256 === from.sha256) return file;
    await file.discard();
    return null;
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#hash.update(chunk);
    this.#bytes += BigInt(chunk.byteLength);
    await this.#handle.writeFile(chunk);
  }

  /** What was written so far. */
  facts(): FileFacts {
    return { bytes: this.#bytes, sha256: this.#hash.copy().digest('hex') };
  }

  /** Resolves when all that was written is on the disk. */
  async sync(): Promise<void> {
    await this.#handle.sync();
  }

  /** Completes the file. Its bytes are on the disk before anybody is told of it. */
  async finish(): Promise<FileFacts> {
    await this.#handle.sync();
    await this.#handle.close();
    return this.facts();
  }

  /** Lets go of the file and leaves it there. May be called after anything. */
  async close(): Promise<void> {
    await this.#handle.close().catch(() => {});
  }

  /** Removes the file. May be called after anything. */
  async discard(): Promise<void> {
    await this.close();
    await rm(this.#path, { force: true });
  }
}

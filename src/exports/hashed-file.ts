import { createHash } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';

/** What a file holds. */
export interface FileFacts {
  readonly bytes: bigint;
  /** Lower-case hex. */
  readonly sha256: string;
}

/** A file that is written from its beginning to its end, and whose checksum is known when it is complete. */
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

  async write(chunk: Uint8Array): Promise<void> {
    this.#hash.update(chunk);
    this.#bytes += BigInt(chunk.byteLength);
    await this.#handle.writeFile(chunk);
  }

  /** Completes the file. Its bytes are on the disk before anybody is told of it. */
  async finish(): Promise<FileFacts> {
    await this.#handle.sync();
    await this.#handle.close();
    return { bytes: this.#bytes, sha256: this.#hash.digest('hex') };
  }

  /** Removes the file. May be called after anything. */
  async discard(): Promise<void> {
    await this.#handle.close().catch(() => {});
    await rm(this.#path, { force: true });
  }
}

import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import type { ElementType, InitializerSpec } from './onnx/proto.ts';

/** Initializers start at multiples of a page, so that the runtime can map them. */
const ALIGNMENT = 4096;

/** Writes the external data file of a model front to back, so that memory stays bounded by one chunk. */
export class DataFile {
  readonly #file: FileHandle;
  readonly #name: string;
  readonly #initializers: InitializerSpec[] = [];
  #position = 0;

  private constructor(file: FileHandle, name: string) {
    this.#file = file;
    this.#name = name;
  }

  /** @param name the file's name as the model will refer to it */
  static async create(path: string, name: string): Promise<DataFile> {
    return new DataFile(await open(path, 'w'), name);
  }

  get bytes(): number {
    return this.#position;
  }

  get initializers(): readonly InitializerSpec[] {
    return this.#initializers;
  }

  /** Appends a tensor whose bytes come in chunks. */
  async append(
    name: string,
    type: ElementType,
    dims: readonly number[],
    chunks: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    const offset = Math.ceil(this.#position / ALIGNMENT) * ALIGNMENT;
    let at = offset;
    for await (const chunk of chunks) {
      let done = 0;
      while (done < chunk.byteLength) {
        const { bytesWritten } = await this.#file.write(chunk, done, chunk.byteLength - done, at + done);
        done += bytesWritten;
      }
      at += chunk.byteLength;
    }
    this.#position = at;
    const data = { file: this.#name, offset, length: at - offset };
    this.#initializers.push({ name, type, dims, data });
  }

  async sync(): Promise<void> {
    await this.#file.sync();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

/** The bytes behind a typed array. */
export function bytesOf(values: Float32Array | Uint8Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** A SHA-256 over parts with their lengths, so that no two lists of parts hash alike. */
export class DigestBuilder {
  readonly #hash: Hash = createHash('sha256');

  text(part: string): void {
    const bytes = Buffer.from(part, 'utf8');
    this.#hash.update(`${bytes.byteLength}:`);
    this.#hash.update(bytes);
  }

  /** Bytes whose length an earlier text part implies. */
  bytes(part: Uint8Array): void {
    this.#hash.update(part);
  }

  hex(): string {
    return this.#hash.digest('hex');
  }
}

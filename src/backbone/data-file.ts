import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import type { ElementType, InitializerSpec } from './onnx/proto.ts';

/** Initializers start at multiples of a page, so that the runtime can map them. */
const ALIGNMENT = 4096;

/** A matrix larger than this is written transposed in several parts, with a write for each of its rows. */
const TRANSPOSE_BYTES = 32 * 1024 * 1024;

/** Writes the external data file of a model tensor by tensor, so that memory stays bounded by a chunk of one. */
export class DataFile {
  readonly #file: FileHandle;
  readonly #name: string;
  readonly #transposeBytes: number;
  readonly #initializers: InitializerSpec[] = [];
  #position = 0;

  private constructor(file: FileHandle, name: string, transposeBytes: number) {
    this.#file = file;
    this.#name = name;
    this.#transposeBytes = transposeBytes;
  }

  /**
   * @param name the file's name as the model will refer to it
   * @param transposeBytes most bytes of a matrix that are held to be written transposed
   */
  static async create(
    path: string,
    name: string,
    transposeBytes: number = TRANSPOSE_BYTES,
  ): Promise<DataFile> {
    return new DataFile(await open(path, 'w'), name, transposeBytes);
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
    const offset = this.#aligned();
    let at = offset;
    for await (const chunk of chunks) {
      await this.#write(chunk, at);
      at += chunk.byteLength;
    }
    this.#finish(name, type, dims, offset, at - offset);
  }

  /**
   * Appends an int8 matrix whose chunks are whole rows of its transpose.
   * @param dims of the matrix as it is stored; chunks are `[some of dims[1], dims[0]]`
   */
  async appendTransposed(
    name: string,
    dims: readonly [number, number],
    chunks: AsyncIterable<Int8Array>,
  ): Promise<void> {
    const offset = this.#aligned();
    const [height, width] = dims;
    const held = new Int8Array(
      height * Math.min(width, Math.max(1, Math.floor(this.#transposeBytes / height))),
    );
    let filled = 0;
    let column = 0;
    const flush = async (): Promise<void> => {
      await this.#writeTransposed(held.subarray(0, filled), height, width, offset + column);
      column += filled / height;
      filled = 0;
    };
    for await (const chunk of chunks) {
      for (let from = 0; from < chunk.length; ) {
        const part = chunk.subarray(from, from + held.length - filled);
        held.set(part, filled);
        filled += part.length;
        from += part.length;
        if (filled === held.length) await flush();
      }
    }
    if (filled > 0) await flush();
    this.#finish(name, 'int8', dims, offset, height * width);
  }

  /** Writes rows `[columns, height]` as columns of a matrix `[height, width]`, the first of them at `at`. */
  async #writeTransposed(rows: Int8Array, height: number, width: number, at: number): Promise<void> {
    const columns = rows.length / height;
    const whole = columns === width;
    const strip = new Uint8Array(whole ? rows.length : columns);
    for (let k = 0; k < height; k++) {
      const base = whole ? k * columns : 0;
      for (let column = 0; column < columns; column++) strip[base + column] = rows[column * height + k] ?? 0;
      if (!whole) await this.#write(strip, at + k * width);
    }
    if (whole) await this.#write(strip, at);
  }

  async #write(bytes: Uint8Array, at: number): Promise<void> {
    let done = 0;
    while (done < bytes.byteLength) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.byteLength - done, at + done);
      done += bytesWritten;
    }
  }

  #aligned(): number {
    return Math.ceil(this.#position / ALIGNMENT) * ALIGNMENT;
  }

  #finish(name: string, type: ElementType, dims: readonly number[], offset: number, length: number): void {
    this.#position = offset + length;
    this.#initializers.push({ name, type, dims, data: { file: this.#name, offset, length } });
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

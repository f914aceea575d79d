import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { PatchbayError } from '../kernel/errors.ts';
import {
  LENGTH_PREFIX_BYTES,
  parseHeader,
  parseHeaderLength,
  type SafetensorsLimits,
  type TensorInfo,
} from './header.ts';
import { clip } from './json.ts';

/** Random access to bytes: a file, a blob of a store, memory. */
export interface ByteSource {
  readonly size: number;
  /** Exactly `length` bytes in memory of their own, starting at offset 0 of its buffer; rejects when the source is shorter. */
  read(position: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Tensors that can be read by name. */
export interface TensorSource {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** All bytes of a tensor, in memory that the caller owns. */
  readTensor(name: string): Promise<Uint8Array>;
  /** Part of a tensor's bytes, so that a tensor larger than memory can be streamed. */
  readRange(name: string, byteOffset: number, byteLength: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Parses the header of a source and gives access to its tensors. Closing it closes the source. */
export async function readSafetensors(source: ByteSource, limits: SafetensorsLimits): Promise<TensorSource> {
  const fileSize = source.size;
  const prefix = await source.read(0, Math.min(LENGTH_PREFIX_BYTES, fileSize));
  const length = parseHeaderLength(prefix, { fileSize, limits });
  const { tensors } = parseHeader(await source.read(LENGTH_PREFIX_BYTES, length), { fileSize, limits });
  const find = (name: string): TensorInfo => {
    const info = tensors.get(name);
    if (info === undefined) throw new PatchbayError('NOT_FOUND', `There is no tensor "${clip(name)}".`);
    return info;
  };
  return {
    tensors,
    readTensor: async (name) => {
      const info = find(name);
      return source.read(info.start, info.bytes);
    },
    readRange: async (name, byteOffset, byteLength) => {
      const info = find(name);
      if (byteOffset < 0 || byteLength < 0 || byteOffset + byteLength > info.bytes) {
        throw new RangeError(
          `range ${byteOffset}+${byteLength} is outside of a tensor of ${info.bytes} bytes`,
        );
      }
      return source.read(info.start + byteOffset, byteLength);
    },
    close: () => source.close(),
  };
}

/** Opens a safetensors file for random access. The caller closes it. */
export async function openSafetensors(path: string, limits: SafetensorsLimits): Promise<TensorSource> {
  const source = await openFile(path);
  try {
    return await readSafetensors(source, limits);
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** Opens a regular file for reading; anything else (a pipe would block, a device never ends) is refused. */
export async function openFile(path: string): Promise<ByteSource> {
  let handle: FileHandle;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw new PatchbayError('FILE_MISSING', `The file ${path} cannot be opened.`, { cause });
  }
  const stat = await handle.stat();
  if (!stat.isFile()) {
    await handle.close();
    throw new PatchbayError('FILE_MISSING', `${path} is not a regular file.`);
  }
  return {
    size: stat.size,
    read: (position, length) => readFully(handle, position, length),
    close: () => handle.close(),
  };
}

/** A source over bytes that are already in memory. */
export function bytesSource(bytes: Uint8Array): ByteSource {
  return {
    size: bytes.byteLength,
    read: async (position, length) => {
      if (position + length > bytes.byteLength) throw endsEarly();
      return bytes.slice(position, position + length);
    },
    close: async () => {},
  };
}

// One read call takes at most 2 GiB; smaller pieces also let other work of the thread in between.
const READ_PIECE_BYTES = 16 * 1024 * 1024;

async function readFully(handle: FileHandle, position: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const piece = Math.min(READ_PIECE_BYTES, length - done);
    const { bytesRead } = await handle.read(bytes, done, piece, position + done);
    if (bytesRead === 0) throw endsEarly();
    done += bytesRead;
  }
  return bytes;
}

function endsEarly(): PatchbayError {
  return new PatchbayError('SAFETENSORS_LAYOUT', 'The file became shorter while it was read.');
}

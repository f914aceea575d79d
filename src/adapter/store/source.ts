import { PatchbayError } from '../../kernel/errors.ts';
import type { ByteSource } from '../../safetensors/source.ts';
import type { BlobStore } from './port.ts';

/**
 * Blobs up to this size are fetched as a whole with the first read: an adapter has hundreds of tensors, and a request
 * for each took most of the time of a load. Larger ones are read piece by piece, so that memory stays bounded.
 */
const WHOLE_BYTES = 64 * 1024 * 1024;

/** Random access to a stored blob. Rejects with `NOT_FOUND`. */
export async function blobSource(store: Pick<BlobStore, 'stat' | 'get'>, key: string): Promise<ByteSource> {
  const found = await store.stat(key);
  if (found === null) throw new PatchbayError('NOT_FOUND', `There is no blob ${key}.`);
  const { bytes: size } = found;
  let whole: Promise<Uint8Array> | null = null;
  return {
    size,
    close: async () => {
      whole = null;
    },
    read: async (position, length) => {
      if (size > WHOLE_BYTES) return fetchRange(store, key, position, length);
      if (position + length > size) throw shorter();
      whole ??= fetchRange(store, key, 0, size);
      return (await whole).slice(position, position + length);
    },
  };
}

async function fetchRange(
  store: Pick<BlobStore, 'get'>,
  key: string,
  start: number,
  length: number,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let done = 0;
  for await (const chunk of store.get(key, { start, length })) {
    bytes.set(chunk, done);
    done += chunk.byteLength;
  }
  if (done !== length) throw shorter();
  return bytes;
}

function shorter(): Error {
  return new Error('the blob became shorter while it was read');
}

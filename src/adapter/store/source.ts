import { PatchbayError } from '../../kernel/errors.ts';
import type { ByteSource } from '../../safetensors/source.ts';
import type { BlobStore } from './port.ts';

/** Random access to a stored blob. Rejects with `NOT_FOUND`. */
export async function blobSource(store: BlobStore, key: string): Promise<ByteSource> {
  const found = await store.stat(key);
  if (found === null) throw new PatchbayError('NOT_FOUND', `There is no blob ${key}.`);
  return {
    size: found.bytes,
    close: async () => {},
    read: async (position, length) => {
      const bytes = new Uint8Array(length);
      let done = 0;
      for await (const chunk of store.get(key, { start: position, length })) {
        bytes.set(chunk, done);
        done += chunk.byteLength;
      }
      if (done !== length) throw new Error('the blob became shorter while it was read');
      return bytes;
    },
  };
}

import { PatchbayError } from '../kernel/errors.ts';
import type { LoraWeights } from '../kernel/model.ts';
import { CONFIG_FILE, TENSORS_FILE } from './limits.ts';
import { type AdapterContext, readAdapter } from './read.ts';
import { isDigest, versionPrefix } from './store/keys.ts';
import type { BlobStore } from './store/port.ts';
import { blobSource } from './store/source.ts';

function failed(digest: string, message: string, cause?: unknown): PatchbayError {
  return new PatchbayError('ADAPTER_LOAD_FAILED', message, { meta: { digest }, cause });
}

/**
 * Reads a stored version by its digest and checks the bytes against it again: a damaged or swapped file is refused,
 * never served. Needs the store and the backbone only, so that it runs in any thread.
 */
export async function loadLoraWeights(
  store: BlobStore,
  digest: string,
  context: AdapterContext,
): Promise<LoraWeights> {
  if (!isDigest(digest)) throw failed('', 'The digest of the adapter version is malformed.');
  let last: unknown;
  try {
    for (const copy of await copies(store, digest)) {
      try {
        return await loadCopy(store, copy, digest, context);
      } catch (error) {
        // Another owner's copy of the same bytes serves as well: they are equal or refused.
        last = error;
      }
    }
  } catch (error) {
    last = error;
  }
  const why = last === undefined ? 'is not in the store' : 'could not be read as what it was stored as';
  throw failed(digest, `The adapter version ${digest} ${why}.`, last);
}

/** Prefixes of the complete copies of a version. */
async function copies(store: BlobStore, digest: string): Promise<readonly string[]> {
  const found: string[] = [];
  for await (const { key } of store.list(versionPrefix(digest))) {
    // The tensors are stored after the configuration, so where they are, both are.
    if (key.endsWith(`/${TENSORS_FILE}`)) found.push(key.slice(0, -TENSORS_FILE.length));
  }
  return found;
}

async function loadCopy(
  store: BlobStore,
  prefix: string,
  digest: string,
  context: AdapterContext,
): Promise<LoraWeights> {
  const config = await blobSource(store, prefix + CONFIG_FILE);
  const tensors = await blobSource(store, prefix + TENSORS_FILE);
  const adapter = await readAdapter({ config, tensors }, context);
  if (adapter.digest !== digest) throw failed(digest, 'The stored bytes no longer match their digest.');
  return { digest, modules: adapter.modules };
}

import { createHash } from 'node:crypto';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CONFIG_FILE, TENSORS_FILE } from '../../../src/adapter/limits.ts';
import { loadLoraWeights } from '../../../src/adapter/loader.ts';
import { readAdapter } from '../../../src/adapter/read.ts';
import { FsBlobStore } from '../../../src/adapter/store/fs.ts';
import { versionKey } from '../../../src/adapter/store/keys.ts';
import { bytesSource } from '../../../src/safetensors/source.ts';
import { CONTEXT, configJson, sampleTensors } from './sample.ts';

const ALICE = '00000000-0000-7000-8000-00000000000a';
const BOB = '00000000-0000-7000-8000-00000000000b';

let root = '';
let store: FsBlobStore;
let digest = '';
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'patchbay-loader-'));
  store = new FsBlobStore({ root });
  const sources = { config: bytesSource(configJson()), tensors: bytesSource(sampleTensors()) };
  digest = (await readAdapter(sources, CONTEXT)).digest;
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function putAs(tenantId: string, tensors = sampleTensors()): Promise<void> {
  for (const [name, bytes] of [
    [CONFIG_FILE, configJson()],
    [TENSORS_FILE, tensors],
  ] as const) {
    const content = async function* (): AsyncIterable<Uint8Array> {
      yield bytes;
    };
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    await store.put(versionKey(digest, tenantId, name), content(), { maxBytes: 1e6, sha256 });
  }
}

describe('loadLoraWeights', () => {
  it('returns the modules of the digest', async () => {
    await putAs(ALICE);
    const weights = await loadLoraWeights(store, digest, CONTEXT);
    expect(weights.digest).toBe(digest);
    expect(weights.modules).toHaveLength(1);
  });

  it('refuses what is not there', async () => {
    for (const wanted of [digest, 'f'.repeat(64), '../../etc', '']) {
      await expect(loadLoraWeights(store, wanted, CONTEXT)).rejects.toMatchObject({
        code: 'ADAPTER_LOAD_FAILED',
      });
    }
  });

  it('never returns other weights than the digest names', async () => {
    await putAs(ALICE, sampleTensors(0.25));
    await expect(loadLoraWeights(store, digest, CONTEXT)).rejects.toMatchObject({
      code: 'ADAPTER_LOAD_FAILED',
    });
  });

  it('refuses a damaged file', async () => {
    await putAs(ALICE);
    await truncate(join(root, versionKey(digest, ALICE, TENSORS_FILE)), 100);
    await expect(loadLoraWeights(store, digest, CONTEXT)).rejects.toMatchObject({
      code: 'ADAPTER_LOAD_FAILED',
    });
  });

  it('refuses the weights of another backbone', async () => {
    await putAs(ALICE);
    const other = { ...CONTEXT, backboneDigest: 'c'.repeat(64) };
    await expect(loadLoraWeights(store, digest, other)).rejects.toMatchObject({
      code: 'ADAPTER_LOAD_FAILED',
    });
  });

  it('serves from an intact copy when another owner deleted or damaged theirs', async () => {
    await putAs(ALICE);
    await putAs(BOB);
    await writeFile(join(root, versionKey(digest, ALICE, TENSORS_FILE)), 'damaged');
    expect((await loadLoraWeights(store, digest, CONTEXT)).modules).toHaveLength(1);
    await store.delete(versionKey(digest, ALICE, TENSORS_FILE));
    expect((await loadLoraWeights(store, digest, CONTEXT)).modules).toHaveLength(1);
  });
});

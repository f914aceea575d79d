import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readAdapterFolder } from '../adapter/folder.ts';
import { CONFIG_FILE, DEFAULT_ADAPTER_LIMITS, TENSORS_FILE } from '../adapter/limits.ts';
import { tensorName } from '../adapter/peft/names.ts';
import { versionKey } from '../adapter/store/keys.ts';
import { LORA_TARGETS, type ModelShape, targetDims } from '../kernel/model.ts';
import { type TensorToWrite, writeSafetensors } from '../safetensors/write.ts';

/** Who owns the synthetic adapters; any id will do. */
const OWNER = '00000000-0000-7000-8000-000000000000';

/** A store of adapters as uploads leave it, made for benches. */
export interface SyntheticStore {
  /** Root of the blob store. */
  readonly root: string;
  /** Digests of its adapters, by number. */
  readonly digests: readonly string[];
}

export interface SyntheticStoreOptions {
  readonly shape: ModelShape;
  readonly backboneDigest: string;
  /** Rank of each adapter, by number; as many are made. */
  readonly ranks: readonly number[];
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Writes PEFT adapters on all seven projections, no two with the same bytes, where the loader of the server finds
 * them. What an earlier run wrote for the same backbone and ranks is found again.
 */
export async function syntheticStore(options: SyntheticStoreOptions): Promise<SyntheticStore> {
  const { ranks, backboneDigest } = options;
  const parent = join(tmpdir(), 'patchbay-synthetic-store-1', backboneDigest.slice(0, 16));
  await mkdir(parent, { recursive: true });
  const digests: string[] = [];
  const known = await readList(join(parent, 'digests.json'));
  const noise = noiseHalves(options.shape, Math.max(...ranks));
  for (const [number, rank] of ranks.entries()) {
    const name = `${number}/${rank}`;
    const digest = known.get(name) ?? (await writeOne(parent, { number, rank, noise, ...options }));
    known.set(name, digest);
    digests.push(digest);
    options.onProgress?.(number + 1, ranks.length);
  }
  await writeFile(join(parent, 'digests.json'), JSON.stringify([...known]));
  return { root: parent, digests };
}

interface OneAdapter extends SyntheticStoreOptions {
  readonly number: number;
  readonly rank: number;
  readonly noise: Uint16Array;
}

async function writeOne(root: string, one: OneAdapter): Promise<string> {
  const building = join(root, `building-${process.pid}`);
  await rm(building, { recursive: true, force: true });
  await mkdir(building);
  const config = {
    peft_type: 'LORA',
    r: one.rank,
    lora_alpha: 2 * one.rank,
    target_modules: [...LORA_TARGETS],
  };
  await writeFile(join(building, CONFIG_FILE), JSON.stringify(config));
  await writeSafetensors(join(building, TENSORS_FILE), tensorsOf(one));
  const { shape, backboneDigest } = one;
  const limits = { ...DEFAULT_ADAPTER_LIMITS, maxRank: Math.max(one.rank, DEFAULT_ADAPTER_LIMITS.maxRank) };
  const { digest } = await readAdapterFolder(building, { shape, backboneDigest, limits });
  const folder = join(root, versionKey(digest, OWNER, CONFIG_FILE), '..');
  await mkdir(join(folder, '..'), { recursive: true });
  await rm(folder, { recursive: true, force: true });
  await rename(building, folder);
  return digest;
}

function tensorsOf({ shape, rank, number, noise }: OneAdapter): TensorToWrite[] {
  const tensors: TensorToWrite[] = [];
  for (let layer = 0; layer < shape.layers; layer++) {
    for (const target of LORA_TARGETS) {
      const dims = targetDims(shape, target);
      for (const [matrix, size] of [
        ['A', [rank, dims.in]],
        ['B', [dims.out, rank]],
      ] as const) {
        const elements = size[0] * size[1];
        const name = tensorName({ layer, target, matrix });
        // Another place in the same noise gives every tensor of every adapter other bytes.
        const from = place(`${number} ${name}`, noise.length - elements);
        const bytes = new Uint8Array(noise.buffer, from * 2, elements * 2);
        tensors.push({ name, dtype: 'F16', shape: size, chunks: () => [bytes] });
      }
    }
  }
  return tensors.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function place(name: string, range: number): number {
  return createHash('sha256').update(name).digest().readUInt32LE() % range;
}

/** Small random 16-bit floats: exponents that give 2^-9 to 2^-6, any sign, any fraction. */
function noiseHalves(shape: ModelShape, maxRank: number): Uint16Array {
  const longest = Math.max(shape.hiddenSize, shape.intermediateSize, shape.heads * shape.headDim) * maxRank;
  const noise = new Uint16Array(longest + (1 << 20));
  let state = 0x9e3779b1;
  for (let i = 0; i < noise.length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    noise[i] = ((state >>> 16) & 0x83ff) | ((6 + ((state >>> 14) & 3)) << 10);
  }
  return noise;
}

async function readList(path: string): Promise<Map<string, string>> {
  const text = await readFile(path, 'utf8').catch(() => '[]');
  const entries: unknown = JSON.parse(text);
  const known = new Map<string, string>();
  if (!Array.isArray(entries)) return known;
  for (const entry of entries) {
    if (Array.isArray(entry) && typeof entry[0] === 'string' && typeof entry[1] === 'string') {
      known.set(entry[0], entry[1]);
    }
  }
  return known;
}

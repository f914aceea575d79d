import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { storedWeights } from '../backbone/weights.ts';
import { PatchbayError } from '../kernel/errors.ts';
import {
  LORA_TARGETS,
  type LoraModule,
  type LoraWeights,
  type ModelShape,
  targetDims,
} from '../kernel/model.ts';
import { writeSafetensors } from '../safetensors/write.ts';

/** Sizes of the synthetic backbones, as configurations in Hugging Face's terms. */
const SIZES = {
  '30m': {
    hidden_size: 512,
    num_hidden_layers: 8,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    head_dim: 64,
    intermediate_size: 1408,
    vocab_size: 4096,
  },
  '135m': {
    hidden_size: 576,
    num_hidden_layers: 30,
    num_attention_heads: 9,
    num_key_value_heads: 3,
    head_dim: 64,
    intermediate_size: 1536,
    vocab_size: 49152,
  },
  /** More than 2 GB in float32, where formats and buffers of 32 bits end. */
  '600m': {
    hidden_size: 1024,
    num_hidden_layers: 38,
    num_attention_heads: 16,
    num_key_value_heads: 4,
    head_dim: 64,
    intermediate_size: 4096,
    vocab_size: 32768,
  },
} as const;

const PREFIX = 'synthetic:';
const CHUNK_ELEMENTS = 1 << 20;

/** Whether a backbone argument names a synthetic one, such as `synthetic:30m`. */
export function isSynthetic(name: string): boolean {
  return name.startsWith(PREFIX);
}

/** A small fast generator (xorshift32) of numbers in (-1, 1); the weights need no better one. */
function generator(seed: number): () => number {
  let state = (Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995) | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state / 2 ** 31;
  };
}

/**
 * Writes a random checkpoint of a known size, or finds the one that an earlier run wrote.
 * @returns its folder
 */
export async function syntheticCheckpoint(name: string): Promise<string> {
  const size = Object.entries(SIZES).find(([key]) => `${PREFIX}${key}` === name);
  if (size === undefined) {
    const known = Object.keys(SIZES).map((key) => PREFIX + key);
    throw new PatchbayError('BAD_INPUT', `There is no ${name}; known are ${known.join(', ')}.`, {
      field: 'backbone',
    });
  }
  const [label, config] = size;
  const dir = join(tmpdir(), `patchbay-synthetic-${label}-1`);
  if ((await stat(dir).catch(() => null)) !== null) return dir;
  const building = `${dir}.${process.pid}`;
  await mkdir(building, { recursive: true });
  const document = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_act: 'silu',
    max_position_embeddings: 8192,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: true,
    torch_dtype: 'float32',
    ...config,
  };
  await writeFile(join(building, 'config.json'), JSON.stringify(document, null, 2));
  await writeTensors(building, {
    family: 'llama',
    hiddenSize: config.hidden_size,
    layers: config.num_hidden_layers,
    heads: config.num_attention_heads,
    kvHeads: config.num_key_value_heads,
    headDim: config.head_dim,
    intermediateSize: config.intermediate_size,
    vocabSize: config.vocab_size,
    maxPositions: document.max_position_embeddings,
    rmsNormEps: document.rms_norm_eps,
    ropeTheta: document.rope_theta,
    ropeScaling: null,
    tiedEmbeddings: true,
    qkvBias: false,
    qkNorm: false,
  });
  await rename(building, dir).catch(async (error: unknown) => {
    await rm(building, { recursive: true, force: true });
    if ((await stat(dir).catch(() => null)) === null) throw error;
  });
  return dir;
}

async function writeTensors(dir: string, shape: ModelShape): Promise<void> {
  const sources = storedWeights(shape, false).flatMap((weight) => weight.sources);
  await writeSafetensors(
    join(dir, 'model.safetensors'),
    sources.map(({ name, dims }, index) => ({
      name,
      dtype: 'F32' as const,
      shape: dims,
      chunks: function* () {
        const next = generator(index + 1);
        const isNorm = dims.length === 1;
        const scale = Math.sqrt(3 / (dims[1] ?? 1));
        let left = dims.reduce((product, size) => product * size, 1);
        while (left > 0) {
          const values = new Float32Array(Math.min(left, CHUNK_ELEMENTS));
          for (let i = 0; i < values.length; i++) values[i] = isNorm ? 1 : next() * scale;
          yield new Uint8Array(values.buffer);
          left -= values.length;
        }
      },
    })),
  );
}

/** A random adapter on all seven projections, the same for the same seed. */
export function syntheticAdapter(shape: ModelShape, rank: number, seed: number, digest: string): LoraWeights {
  const next = generator(seed * 7919 + 13);
  const fill = (length: number, scale: number): Float32Array => {
    const values = new Float32Array(length);
    for (let i = 0; i < length; i++) values[i] = next() * scale;
    return values;
  };
  const modules: LoraModule[] = [];
  for (let layer = 0; layer < shape.layers; layer++) {
    for (const target of LORA_TARGETS) {
      const dims = targetDims(shape, target);
      const a = fill(rank * dims.in, Math.sqrt(3 / dims.in));
      modules.push({ layer, target, rank, scale: 2, a, b: fill(dims.out * rank, 0.02) });
    }
  }
  return { digest, modules };
}

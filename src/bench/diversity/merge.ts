import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DataFile, DigestBuilder } from '../../backbone/data-file.ts';
import { type ImportedBackbone, writeRotaryTables } from '../../backbone/import.ts';
import { BACKBONE_FILES } from '../../backbone/manifest.ts';
import { buildGraph } from '../../backbone/onnx/graph.ts';
import { encodeModel } from '../../backbone/onnx/proto.ts';
import { writeWeights } from '../../backbone/weight-writer.ts';
import { storedWeights } from '../../backbone/weights.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import type { LoraModule, LoraTarget, LoraWeights } from '../../kernel/model.ts';
import { type Checkpoint, openCheckpoint } from '../../safetensors/checkpoint.ts';
import { toFloat32 } from '../../safetensors/convert.ts';
import { BACKBONE_HEADER_LIMITS } from '../../safetensors/header.ts';

const MLP: ReadonlySet<LoraTarget> = new Set(['gate_proj', 'up_proj', 'down_proj']);

/** A checkpoint in memory that adapters are merged into. */
export interface MergeBase {
  readonly checkpoint: Checkpoint;
  readonly tensors: ReadonlyMap<string, Float32Array>;
}

/** Reads all weights of a checkpoint, so that a merge starts from memory and not from disk. */
export async function openMergeBase(dir: string): Promise<MergeBase> {
  const checkpoint = await openCheckpoint(dir, BACKBONE_HEADER_LIMITS);
  const tensors = new Map<string, Float32Array>();
  for (const [name, { dtype }] of checkpoint.tensors) {
    tensors.set(name, toFloat32(await checkpoint.readTensor(name), dtype));
  }
  return { checkpoint, tensors };
}

/** The matrices that an adapter changes, with the update added: `W + scale · B A`. */
export function mergedTensors(base: MergeBase, { modules }: LoraWeights): ReadonlyMap<string, Float32Array> {
  const merged = new Map<string, Float32Array>();
  for (const module of modules) {
    const parent = MLP.has(module.target) ? 'mlp' : 'self_attn';
    const name = `model.layers.${module.layer}.${parent}.${module.target}.weight`;
    const weight = base.tensors.get(name);
    if (weight === undefined) {
      throw new PatchbayError('BACKBONE_INVALID', `The tensor ${name} is missing.`, { field: name });
    }
    merged.set(name, addUpdate(weight, module));
  }
  return merged;
}

/** Four ranks at a time, so that a row of W is read and written once for each four and not for each one. */
const RANKS_AT_ONCE = 4;

/** `W + scale · B A` of a matrix `[out, in]`, as a new one. */
export function addUpdate(weight: Float32Array, { a, b, rank, scale }: LoraModule): Float32Array {
  const width = a.length / rank;
  const out = new Float32Array(weight);
  for (let from = 0; from < rank; from += RANKS_AT_ONCE) {
    const rows = Array.from({ length: RANKS_AT_ONCE }, (_, i) =>
      // Past the last rank a factor of zero makes the row of no account.
      a.subarray(Math.min(from + i, rank - 1) * width, (Math.min(from + i, rank - 1) + 1) * width),
    );
    const [a0 = a, a1 = a, a2 = a, a3 = a] = rows;
    const factor = (row: number, i: number): number =>
      from + i < rank ? scale * (b[row * rank + from + i] ?? 0) : 0;
    for (let row = 0; row * width < out.length; row++) {
      const [f0, f1, f2, f3] = [factor(row, 0), factor(row, 1), factor(row, 2), factor(row, 3)];
      const line = out.subarray(row * width, (row + 1) * width);
      for (let k = 0; k < width; k++) {
        line[k] =
          (line[k] ?? 0) + f0 * (a0[k] ?? 0) + f1 * (a1[k] ?? 0) + f2 * (a2[k] ?? 0) + f3 * (a3[k] ?? 0);
      }
    }
  }
  return out;
}

/** Writes what is hashed nowhere: nobody looks merged weights up by their content. */
class NoDigest extends DigestBuilder {
  override text(): void {}
  override bytes(): void {}
}

/**
 * Writes a backbone of its own with merged weights, by the import's own writer and graph, without its checks, its
 * digest and its waiting for the disk.
 */
export async function writeMerged(
  { manifest }: ImportedBackbone,
  base: MergeBase,
  merged: ReadonlyMap<string, Float32Array>,
  dir: string,
): Promise<ImportedBackbone> {
  const { shape } = manifest;
  await mkdir(dir, { recursive: true });
  const data = await DataFile.create(join(dir, BACKBONE_FILES.data), BACKBONE_FILES.data);
  try {
    const source = inMemory(base, merged);
    await writeWeights(source, storedWeights(shape, false), 32, data, new NoDigest());
    await writeRotaryTables(shape, data);
  } finally {
    await data.close();
  }
  await writeFile(join(dir, BACKBONE_FILES.model), encodeModel(buildGraph(shape, 32, data.initializers)));
  return { dir, manifest };
}

function inMemory({ checkpoint, tensors }: MergeBase, merged: ReadonlyMap<string, Float32Array>): Checkpoint {
  const infos = new Map(
    [...checkpoint.tensors].map(([name, info]) => [name, { ...info, dtype: 'F32' as const }]),
  );
  const bytesOf = (name: string): Uint8Array => {
    const values = merged.get(name) ?? tensors.get(name);
    if (values === undefined) throw new PatchbayError('NOT_FOUND', `There is no tensor ${name}.`);
    return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  };
  return {
    files: checkpoint.files,
    tensors: infos,
    readTensor: async (name) => bytesOf(name),
    readRange: async (name, offset, length) => bytesOf(name).subarray(offset, offset + length),
    close: async () => {},
  };
}

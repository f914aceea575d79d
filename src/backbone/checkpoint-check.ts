import { PatchbayError } from '../kernel/errors.ts';
import type { ModelShape } from '../kernel/model.ts';
import type { Checkpoint } from '../safetensors/checkpoint.ts';
import { isFloatDtype } from '../safetensors/dtype.ts';
import type { TensorInfo } from '../safetensors/header.ts';
import { storedWeights } from './weights.ts';

const HEAD = 'lm_head.weight';
const EMBEDDING = 'model.embed_tokens.weight';
/** Buffers that old versions of transformers saved; they are recomputed. */
const RECOMPUTED = /^model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq$/;
const COMPARE_BYTES = 8 * 1024 * 1024;

/**
 * Holds a checkpoint's tensors against those that the shape asks for: every one present, in the right shape, in a
 * float type, and none left over, since a tensor without a place means that the model computes something else.
 */
export async function verifyTensors(checkpoint: Checkpoint, shape: ModelShape): Promise<void> {
  const expected = new Set<string>();
  for (const weight of storedWeights(shape, false)) {
    for (const source of weight.sources) {
      expected.add(source.name);
      checkTensor(checkpoint.tensors.get(source.name), source.name, source.dims);
    }
  }
  for (const name of checkpoint.tensors.keys()) {
    if (expected.has(name) || RECOMPUTED.test(name)) continue;
    if (name === HEAD && shape.tiedEmbeddings) await requireTied(checkpoint, shape);
    else {
      throw new PatchbayError(
        'BACKBONE_UNSUPPORTED',
        `The tensor ${name} has no place in a ${shape.family} model.`,
        {
          field: name,
        },
      );
    }
  }
}

function checkTensor(info: TensorInfo | undefined, name: string, dims: readonly number[]): void {
  if (info === undefined) {
    throw new PatchbayError('BACKBONE_INVALID', `The tensor ${name} is missing.`, { field: name });
  }
  if (info.shape.length !== dims.length || info.shape.some((size, axis) => size !== dims[axis])) {
    const found = `[${info.shape.join(', ')}]`;
    const message = `The tensor ${name} has shape ${found}; config.json asks for [${dims.join(', ')}].`;
    throw new PatchbayError('BACKBONE_INVALID', message, { field: name });
  }
  if (!isFloatDtype(info.dtype)) {
    throw new PatchbayError('SAFETENSORS_DTYPE', `The tensor ${name} has type ${info.dtype}.`, {
      field: name,
    });
  }
}

/** A head saved beside tied embeddings must equal them: if not, either the file or `tie_word_embeddings` lies. */
async function requireTied(checkpoint: Checkpoint, shape: ModelShape): Promise<void> {
  const head = checkpoint.tensors.get(HEAD);
  const embedding = checkpoint.tensors.get(EMBEDDING);
  checkTensor(head, HEAD, [shape.vocabSize, shape.hiddenSize]);
  let equal = head?.dtype === embedding?.dtype;
  const bytes = head?.bytes ?? 0;
  for (let from = 0; equal && from < bytes; from += COMPARE_BYTES) {
    const length = Math.min(COMPARE_BYTES, bytes - from);
    const [a, b] = await Promise.all([
      checkpoint.readRange(HEAD, from, length),
      checkpoint.readRange(EMBEDDING, from, length),
    ]);
    equal = Buffer.compare(a, b) === 0;
  }
  if (!equal) {
    const message = `${HEAD} differs from ${EMBEDDING} although tie_word_embeddings is true.`;
    throw new PatchbayError('BACKBONE_INVALID', message, { field: HEAD });
  }
}

import { type LoraTarget, type ModelShape, targetDims } from '../kernel/model.ts';
import { LINEAR_NAMES, LINEARS, WEIGHTS } from './onnx/stored.ts';

/** A tensor that a checkpoint must contain. */
export interface SourceTensor {
  readonly name: string;
  /** `[out, in]` of a matrix, `[length]` of a vector. */
  readonly dims: readonly number[];
}

/** A weight of the graph: one or more source tensors stacked along their first dimension. */
export interface StoredWeight {
  readonly name: string;
  readonly dims: readonly number[];
  readonly sources: readonly SourceTensor[];
  /** Whether `bits` applies: linears are quantized, embeddings, norms and biases are not. */
  readonly quantizable: boolean;
}

const MODULE_OF: Readonly<Record<LoraTarget, string>> = {
  q_proj: 'self_attn.q_proj',
  k_proj: 'self_attn.k_proj',
  v_proj: 'self_attn.v_proj',
  o_proj: 'self_attn.o_proj',
  gate_proj: 'mlp.gate_proj',
  up_proj: 'mlp.up_proj',
  down_proj: 'mlp.down_proj',
};

/**
 * Lists every weight of a backbone in the order of its data file.
 * @param separateHead whether the head is stored although it is tied, because it is quantized and the embedding is not
 */
export function storedWeights(shape: ModelShape, separateHead: boolean): readonly StoredWeight[] {
  const embedding: SourceTensor = {
    name: 'model.embed_tokens.weight',
    dims: [shape.vocabSize, shape.hiddenSize],
  };
  const weights: StoredWeight[] = [single(WEIGHTS.embedding, embedding)];
  for (let layer = 0; layer < shape.layers; layer++) weights.push(...layerWeights(shape, layer));
  weights.push(single(WEIGHTS.finalNorm, { name: 'model.norm.weight', dims: [shape.hiddenSize] }));
  if (!shape.tiedEmbeddings) {
    weights.push({
      ...single(WEIGHTS.head, { name: 'lm_head.weight', dims: embedding.dims }),
      quantizable: true,
    });
  } else if (separateHead) {
    weights.push({ ...single(WEIGHTS.head, embedding), quantizable: true });
  }
  return weights;
}

function layerWeights(shape: ModelShape, layer: number): readonly StoredWeight[] {
  const prefix = `model.layers.${layer}`;
  const hidden = [shape.hiddenSize];
  const weights: StoredWeight[] = [
    single(WEIGHTS.inputNorm(layer), { name: `${prefix}.input_layernorm.weight`, dims: hidden }),
    single(WEIGHTS.postNorm(layer), { name: `${prefix}.post_attention_layernorm.weight`, dims: hidden }),
  ];
  if (shape.qkNorm) {
    const head = [shape.headDim];
    weights.push(single(WEIGHTS.qNorm(layer), { name: `${prefix}.self_attn.q_norm.weight`, dims: head }));
    weights.push(single(WEIGHTS.kNorm(layer), { name: `${prefix}.self_attn.k_norm.weight`, dims: head }));
  }
  for (const name of LINEAR_NAMES) {
    const { targets } = LINEARS[name];
    weights.push(stack(WEIGHTS.linear(layer, name), matrices(shape, prefix, targets), true));
    if (shape.qkvBias && name === 'qkv') {
      const biases = targets.map((target) => ({
        name: `${prefix}.${MODULE_OF[target]}.bias`,
        dims: [targetDims(shape, target).out],
      }));
      weights.push(stack(WEIGHTS.bias(layer, name), biases, false));
    }
  }
  return weights;
}

function matrices(
  shape: ModelShape,
  prefix: string,
  targets: readonly LoraTarget[],
): readonly SourceTensor[] {
  return targets.map((target) => {
    const { in: inWidth, out } = targetDims(shape, target);
    return { name: `${prefix}.${MODULE_OF[target]}.weight`, dims: [out, inWidth] };
  });
}

function single(name: string, source: SourceTensor): StoredWeight {
  return stack(name, [source], false);
}

function stack(name: string, sources: readonly SourceTensor[], quantizable: boolean): StoredWeight {
  const rows = sources.reduce((sum, source) => sum + (source.dims[0] ?? 0), 0);
  return { name, dims: [rows, ...(sources[0]?.dims.slice(1) ?? [])], sources, quantizable };
}

import { DEFAULT_ADAPTER_LIMITS } from '../../../src/adapter/limits.ts';
import type { AdapterContext } from '../../../src/adapter/read.ts';
import type { ModelShape } from '../../../src/kernel/model.ts';
import { type BuiltTensor, buildSafetensors, filled } from '../safetensors/build.ts';

/** A backbone of two layers in which every projection has other dimensions. */
export const SHAPE: ModelShape = {
  family: 'llama',
  hiddenSize: 8,
  layers: 2,
  heads: 3,
  kvHeads: 1,
  headDim: 4,
  intermediateSize: 16,
  vocabSize: 32,
  maxPositions: 64,
  rmsNormEps: 1e-5,
  ropeTheta: 10_000,
  ropeScaling: null,
  tiedEmbeddings: true,
  qkvBias: false,
  qkNorm: false,
};

export const CONTEXT: AdapterContext = {
  shape: SHAPE,
  backboneDigest: 'b'.repeat(64),
  limits: DEFAULT_ADAPTER_LIMITS,
};

/** adapter_config.json as PEFT 0.19 writes it, with changes. */
export function configJson(changes: Readonly<Record<string, unknown>> = {}): Uint8Array {
  const config = {
    alora_invocation_tokens: null,
    alpha_pattern: {},
    arrow_config: null,
    auto_mapping: null,
    base_model_name_or_path: 'some/model',
    bias: 'none',
    corda_config: null,
    ensure_weight_tying: false,
    eva_config: null,
    exclude_modules: null,
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    layer_replication: null,
    layers_pattern: null,
    layers_to_transform: null,
    loftq_config: {},
    lora_alpha: 4,
    lora_bias: false,
    lora_dropout: 0.05,
    lora_ga_config: null,
    megatron_config: null,
    megatron_core: 'megatron.core',
    modules_to_save: null,
    peft_type: 'LORA',
    peft_version: '0.19.1',
    qalora_group_size: 16,
    r: 2,
    rank_pattern: {},
    revision: null,
    target_modules: ['q_proj'],
    target_parameters: null,
    task_type: 'CAUSAL_LM',
    trainable_token_indices: null,
    use_bdlora: null,
    use_dora: false,
    use_qalora: false,
    use_rslora: false,
    ...changes,
  };
  return Buffer.from(JSON.stringify(config));
}

/** Name of a tensor of the query projection. */
export const qName = (layer: number, matrix: 'A' | 'B'): string =>
  `base_model.model.model.layers.${layer}.self_attn.q_proj.lora_${matrix}.weight`;

/** A and B of the query projection. */
export function qPair(layer = 0, rank = 2, value = 0.5): readonly BuiltTensor[] {
  return [filled(qName(layer, 'A'), [rank, 8], value), filled(qName(layer, 'B'), [12, rank], value)];
}

/** A small valid adapter_model.safetensors. */
export const sampleTensors = (value = 0.5): Uint8Array =>
  buildSafetensors(qPair(0, 2, value), { format: 'pt' });

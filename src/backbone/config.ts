import { PatchbayError } from '../kernel/errors.ts';
import { FAMILIES, type Family, type Llama3RopeScaling, type ModelShape } from '../kernel/model.ts';

/** Keys of rotary settings that are read. */
const ROPE_KEYS = new Set([
  'rope_type',
  'type',
  'rope_theta',
  'factor',
  'low_freq_factor',
  'high_freq_factor',
  'original_max_position_embeddings',
]);

type Json = Readonly<Record<string, unknown>>;

/** Keys that say how a checkpoint was trained or saved; they do not change the forward pass. */
const HARMLESS = new Set([
  '_name_or_path',
  'architectures',
  'attention_dropout',
  'auto_map',
  'bos_token_id',
  'dtype',
  'eos_token_id',
  'hidden_act',
  'initializer_range',
  'model_type',
  'pad_token_id',
  'pretraining_tp',
  'torch_dtype',
  'transformers_version',
  'unk_token_id',
  'use_cache',
  'sep_token_id',
  'decoder_start_token_id',
  'max_window_layers',
  'layer_types',
  'output_attentions',
  'output_hidden_states',
  'return_dict',
  'chunk_size_feed_forward',
  'is_decoder',
  'is_encoder_decoder',
  'id2label',
  'label2id',
  'task_specific_params',
  'problem_type',
  'tokenizer_class',
  'prefix',
  'use_mrope',
  'rope_interleaved',
  'name_or_path',
  'vocab_size',
  'hidden_size',
  'num_hidden_layers',
  'num_attention_heads',
  'num_key_value_heads',
  'head_dim',
  'intermediate_size',
  'max_position_embeddings',
  'rms_norm_eps',
  'rope_theta',
  'rope_scaling',
  'rope_parameters',
  'tie_word_embeddings',
  'attention_bias',
  'mlp_bias',
  'sliding_window',
  'use_sliding_window',
  'quantization_config',
  'partial_rotary_factor',
  'num_experts',
  'num_local_experts',
  'mamba_ssm_dtype',
  'gguf_file',
]);

/**
 * Reads `config.json` of a checkpoint into the shape of a graph. Anything that would change the mathematics and is
 * not implemented is refused with `BACKBONE_UNSUPPORTED`, naming the field; a missing or malformed field is
 * `BACKBONE_INVALID`.
 */
export function parseModelConfig(config: Json): ModelShape {
  const family = parseFamily(config);
  refuseUnsupported(config, family);
  const hiddenSize = positive(config, 'hidden_size');
  const heads = positive(config, 'num_attention_heads');
  const kvHeads = optional(config, 'num_key_value_heads', positive) ?? heads;
  if (heads % kvHeads !== 0) {
    throw invalid('num_key_value_heads', `${heads} attention heads do not divide into ${kvHeads} groups`);
  }
  const explicitHeadDim = optional(config, 'head_dim', positive);
  if (explicitHeadDim === null && hiddenSize % heads !== 0) {
    throw invalid('num_attention_heads', `hidden_size ${hiddenSize} is not a multiple of ${heads} heads`);
  }
  // Qwen3's default head size in transformers is 128, whatever the hidden size.
  const headDim = explicitHeadDim ?? (family === 'qwen3' ? 128 : hiddenSize / heads);
  if (headDim % 2 !== 0) throw invalid('head_dim', `${headDim} is odd, which rotary embedding cannot split`);
  const rope = ropeOf(config);
  return {
    family,
    hiddenSize,
    layers: positive(config, 'num_hidden_layers'),
    heads,
    kvHeads,
    headDim,
    intermediateSize: positive(config, 'intermediate_size'),
    vocabSize: positive(config, 'vocab_size'),
    maxPositions: optional(config, 'max_position_embeddings', positive) ?? 2048,
    rmsNormEps: optional(config, 'rms_norm_eps', real) ?? 1e-6,
    ropeTheta: rope.theta,
    ropeScaling: rope.scaling,
    tiedEmbeddings: optional(config, 'tie_word_embeddings', flag) ?? false,
    qkvBias: family === 'qwen2',
    qkNorm: family === 'qwen3',
  };
}

function parseFamily(config: Json): Family {
  const type = config['model_type'];
  const family = FAMILIES.find((candidate) => candidate === type);
  if (family === undefined) {
    throw unsupported(
      'model_type',
      `the architecture ${JSON.stringify(type ?? null)} is not one of ${FAMILIES.join(', ')}`,
    );
  }
  const architectures = config['architectures'];
  const expected = { llama: 'Llama', mistral: 'Mistral', qwen2: 'Qwen2', qwen3: 'Qwen3' }[family];
  if (
    Array.isArray(architectures) &&
    architectures.length > 0 &&
    architectures[0] !== `${expected}ForCausalLM`
  ) {
    throw unsupported('architectures', `${JSON.stringify(architectures[0])} is not ${expected}ForCausalLM`);
  }
  return family;
}

function refuseUnsupported(config: Json, family: Family): void {
  const activation = config['hidden_act'] ?? 'silu';
  if (activation !== 'silu')
    throw unsupported('hidden_act', `the activation ${JSON.stringify(activation)} is not silu`);
  if (config['attention_bias'] === true)
    throw unsupported('attention_bias', 'biases on all of q, k, v and o are not served');
  if (config['mlp_bias'] === true) throw unsupported('mlp_bias', 'biases in the MLP are not served');
  refuseSlidingWindow(config, family);
  const partial = config['partial_rotary_factor'];
  if (partial !== undefined && partial !== null && partial !== 1) {
    throw unsupported('partial_rotary_factor', 'rotary embedding over a part of the head is not served');
  }
  for (const field of ['num_experts', 'num_local_experts']) {
    const count = config[field];
    if (typeof count === 'number' && count > 1)
      throw unsupported(field, 'mixtures of experts are not served');
  }
  if (config['quantization_config'] !== undefined && config['quantization_config'] !== null) {
    throw unsupported(
      'quantization_config',
      'the checkpoint is already quantized; import the original weights',
    );
  }
  for (const [field, value] of Object.entries(config)) {
    const off = value === null || value === false || (Array.isArray(value) && value.length === 0);
    if (!HARMLESS.has(field) && !off) {
      throw unsupported(field, 'this field is not known, and might change what the model computes');
    }
  }
}

/** A window counts as used when the family would apply it: Mistral whenever it is set, Qwen when it is switched on. */
function refuseSlidingWindow(config: Json, family: Family): void {
  const window = config['sliding_window'];
  const isSet = typeof window === 'number' && window > 0;
  const switchedOn = config['use_sliding_window'] === true;
  const used = family === 'mistral' ? isSet : isSet && switchedOn;
  if (used) throw unsupported('sliding_window', 'attention over a sliding window is not served');
  const types = config['layer_types'];
  if (Array.isArray(types) && types.some((type) => type !== 'full_attention')) {
    throw unsupported('layer_types', 'only full attention is served');
  }
}

/** Rotary settings: `rope_theta` and `rope_scaling`, or both inside the newer `rope_parameters`. */
function ropeOf(config: Json): { theta: number; scaling: Llama3RopeScaling | null } {
  const parameters = record(config['rope_parameters']);
  const theta =
    (parameters === null ? null : optional(parameters, 'rope_theta', real)) ??
    optional(config, 'rope_theta', real);
  return { theta: theta ?? 10_000, scaling: scalingOf(record(config['rope_scaling']) ?? parameters) };
}

function scalingOf(scaling: Json | null): Llama3RopeScaling | null {
  if (scaling === null) return null;
  const type = scaling['rope_type'] ?? scaling['type'] ?? 'default';
  for (const [key, value] of Object.entries(scaling)) {
    const off = value === null || (key === 'partial_rotary_factor' && value === 1);
    if (!ROPE_KEYS.has(key) && !off) throw unsupported('rope_scaling', `the key ${key} is not known`);
  }
  if (type === 'default') return null;
  if (type !== 'llama3') throw unsupported('rope_scaling', `the type ${JSON.stringify(type)} is not llama3`);
  return {
    factor: real(scaling, 'factor'),
    lowFreqFactor: real(scaling, 'low_freq_factor'),
    highFreqFactor: real(scaling, 'high_freq_factor'),
    originalMaxPositions: positive(scaling, 'original_max_position_embeddings'),
  };
}

function record(value: unknown): Json | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : null;
}

function optional<T>(config: Json, field: string, read: (config: Json, field: string) => T): T | null {
  const value = config[field];
  return value === undefined || value === null ? null : read(config, field);
}

function positive(config: Json, field: string): number {
  const value = config[field];
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value <= 0) {
    throw invalid(field, `expected a positive whole number, found ${JSON.stringify(value ?? null)}`);
  }
  return value;
}

function real(config: Json, field: string): number {
  const value = config[field];
  if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) {
    throw invalid(field, `expected a positive number, found ${JSON.stringify(value ?? null)}`);
  }
  return value;
}

function flag(config: Json, field: string): boolean {
  const value = config[field];
  if (typeof value !== 'boolean')
    throw invalid(field, `expected true or false, found ${JSON.stringify(value)}`);
  return value;
}

function unsupported(field: string, why: string): PatchbayError {
  return new PatchbayError('BACKBONE_UNSUPPORTED', `config.json: ${field}: ${why}.`, { field });
}

function invalid(field: string, why: string): PatchbayError {
  return new PatchbayError('BACKBONE_INVALID', `config.json: ${field}: ${why}.`, { field });
}

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { JsonObject } from './json.ts';
import type { Family } from './model.ts';
import { Random } from './random.ts';

export type Dtype = 'F32' | 'F16' | 'BF16';

/** Files by path relative to the checkpoint folder, so that a checkpoint can be compared without a disk. */
export type FileTree = Map<string, Uint8Array>;

export interface Llama3Scaling {
  readonly factor: number;
  readonly lowFreqFactor: number;
  readonly highFreqFactor: number;
  readonly originalMaxPositions: number;
  /** Writes the scaling kind under `type`, as checkpoints older than transformers 4.43 do. */
  readonly legacyTypeKey?: boolean;
}

export interface SynthModelOptions {
  readonly family: Family;
  readonly seed: number;
  readonly hiddenSize?: number;
  readonly intermediateSize?: number;
  readonly layerCount?: number;
  readonly headCount?: number;
  readonly kvHeadCount?: number;
  /** Left out of config.json unless given (or the family is qwen3, whose default is not hidden / heads). */
  readonly headDim?: number;
  /** At least 258: 256 bytes, then beginning- and end-of-sequence, then unused extra tokens. */
  readonly vocabSize?: number;
  readonly tied?: boolean;
  readonly dtype?: Dtype;
  /** More than one writes numbered shards and model.safetensors.index.json. */
  readonly shardCount?: number;
  readonly ropeTheta?: number;
  readonly ropeScaling?: Llama3Scaling;
  readonly maxPositions?: number;
}

export const PROJECTIONS = [
  'q_proj',
  'k_proj',
  'v_proj',
  'o_proj',
  'gate_proj',
  'up_proj',
  'down_proj',
] as const;
export type Projection = (typeof PROJECTIONS)[number];

export interface SynthAdapterSpec {
  readonly name: string;
  readonly r: number;
  readonly alpha: number;
  readonly targets: readonly Projection[];
  readonly dtype?: Dtype;
  readonly useRslora?: boolean;
  readonly rankPattern?: Readonly<Record<string, number>>;
  readonly alphaPattern?: Readonly<Record<string, number>>;
  /** Adapted layers; all of them unless given. */
  readonly layers?: readonly number[];
  /** Rank of each adapted module, which has to be what rankPattern says about it. */
  readonly rankOf?: (modulePath: string) => number;
}

export interface NamedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

export const BOS_ID = 256;
export const EOS_ID = 257;
const DEFAULT_VOCAB_SIZE = 320;

/** Widths of one model with every default filled in. */
interface Dimensions {
  readonly hidden: number;
  readonly intermediate: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocab: number;
}

function dimensionsOf(options: SynthModelOptions): Dimensions {
  const hidden = options.hiddenSize ?? 64;
  const heads = options.headCount ?? 4;
  const headDim = options.headDim ?? hidden / heads;
  if (headDim % 2 !== 0) throw new Error(`rotary embedding needs an even head size, not ${headDim}`);
  return {
    hidden,
    intermediate: options.intermediateSize ?? 128,
    layers: options.layerCount ?? 3,
    heads,
    kvHeads: options.kvHeadCount ?? 2,
    headDim,
    vocab: options.vocabSize ?? DEFAULT_VOCAB_SIZE,
  };
}

interface ProjectionShape {
  /** Module path below `model.layers.N.`. */
  readonly path: string;
  readonly outFeatures: number;
  readonly inFeatures: number;
}

function projectionShape(projection: Projection, sizes: Dimensions): ProjectionShape {
  const q = sizes.heads * sizes.headDim;
  const kv = sizes.kvHeads * sizes.headDim;
  const shapes: Record<Projection, readonly [string, number, number]> = {
    q_proj: ['self_attn', q, sizes.hidden],
    k_proj: ['self_attn', kv, sizes.hidden],
    v_proj: ['self_attn', kv, sizes.hidden],
    o_proj: ['self_attn', sizes.hidden, q],
    gate_proj: ['mlp', sizes.intermediate, sizes.hidden],
    up_proj: ['mlp', sizes.intermediate, sizes.hidden],
    down_proj: ['mlp', sizes.hidden, sizes.intermediate],
  };
  const [block, outFeatures, inFeatures] = shapes[projection];
  return { path: `${block}.${projection}`, outFeatures, inFeatures };
}

/** Bit pattern of the nearest binary16, ties to even. Values must stay inside the finite range. */
export function toHalfBits(value: number): number {
  const magnitude = Math.abs(value);
  if (!(magnitude < 65520)) throw new RangeError(`${value} does not fit float16`);
  let exponent = -14;
  while (exponent < 15 && magnitude >= 2 ** (exponent + 1)) exponent++;
  // Scaling by a power of two is exact, so this is the only rounding.
  const significand = roundHalfEven(magnitude / 2 ** (exponent - 10));
  // A significand of 2048 carries into the exponent field, and one below 1024 is a subnormal.
  const bits = (exponent + 15) * 1024 + significand - 1024;
  return (value < 0 ? 0x8000 : 0) + bits;
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Bit pattern of the nearest bfloat16, ties to even, by way of float32 as PyTorch converts. */
export function toBfloat16Bits(value: number): number {
  const scratch = new DataView(new ArrayBuffer(4));
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  return roundHalfEven(bits / 0x10000) & 0xffff;
}

function encode(dtype: Dtype, data: Float64Array): Uint8Array {
  const width = dtype === 'F32' ? 4 : 2;
  const bytes = new Uint8Array(data.length * width);
  const view = new DataView(bytes.buffer);
  data.forEach((value, i) => {
    if (dtype === 'F32') view.setFloat32(4 * i, value, true);
    else view.setUint16(2 * i, dtype === 'F16' ? toHalfBits(value) : toBfloat16Bits(value), true);
  });
  return bytes;
}

/** Serialises tensors in the given order as one safetensors file. */
export function encodeSafetensors(tensors: readonly NamedTensor[], dtype: Dtype): Uint8Array {
  const header: JsonObject = { __metadata__: { format: 'pt' } };
  const bodies: Uint8Array[] = [];
  let offset = 0;
  for (const { name, shape, data } of tensors) {
    const body = encode(dtype, data);
    header[name] = { dtype, shape, data_offsets: [offset, offset + body.length] };
    bodies.push(body);
    offset += body.length;
  }
  const text = JSON.stringify(header);
  // The data has to start on an 8-byte boundary, which the format reaches with trailing spaces.
  const headerBytes = Buffer.from(text + ' '.repeat((8 - (Buffer.byteLength(text) % 8)) % 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(headerBytes.length));
  return new Uint8Array(Buffer.concat([length, headerBytes, ...bodies]));
}

function normalTensor(
  seed: string,
  name: string,
  shape: readonly number[],
  mean: number,
  deviation: number,
): NamedTensor {
  const random = new Random(`${seed}/${name}`);
  const count = shape.reduce((product, size) => product * size, 1);
  return {
    name,
    shape,
    data: Float64Array.from({ length: count }, () => mean + deviation * random.normal()),
  };
}

/**
 * The scales keep the residual stream growing from layer to layer and the
 * logits about five wide. That makes greedy margins typically around one, so
 * float32 rounding decides almost no token, while every layer still matters.
 */
function modelTensors(options: SynthModelOptions): NamedTensor[] {
  const sizes = dimensionsOf(options);
  const seed = `model/${options.family}/${options.seed}`;
  const normal = (name: string, shape: readonly number[], mean: number, deviation: number): NamedTensor =>
    normalTensor(seed, name, shape, mean, deviation);

  const tensors = [normal('model.embed_tokens.weight', [sizes.vocab, sizes.hidden], 0, 0.6)];
  for (let layer = 0; layer < sizes.layers; layer++) {
    const prefix = `model.layers.${layer}`;
    tensors.push(normal(`${prefix}.input_layernorm.weight`, [sizes.hidden], 1, 0.1));
    tensors.push(normal(`${prefix}.post_attention_layernorm.weight`, [sizes.hidden], 1, 0.1));
    for (const projection of PROJECTIONS) {
      const { path, outFeatures, inFeatures } = projectionShape(projection, sizes);
      const name = `${prefix}.${path}`;
      tensors.push(normal(`${name}.weight`, [outFeatures, inFeatures], 0, 1.6 / Math.sqrt(inFeatures)));
      const biased = options.family === 'qwen2' && ['q_proj', 'k_proj', 'v_proj'].includes(projection);
      if (biased) tensors.push(normal(`${name}.bias`, [outFeatures], 0, 0.2));
    }
    if (options.family === 'qwen3') {
      // Far enough from one that skipping or misplacing the weights changes tokens.
      tensors.push(normal(`${prefix}.self_attn.q_norm.weight`, [sizes.headDim], 1.2, 0.4));
      tensors.push(normal(`${prefix}.self_attn.k_norm.weight`, [sizes.headDim], 1.2, 0.4));
    }
  }
  tensors.push(normal('model.norm.weight', [sizes.hidden], 1, 0.1));
  if (!(options.tied ?? true)) tensors.push(normal('lm_head.weight', [sizes.vocab, sizes.hidden], 0, 0.6));
  return tensors;
}

const ARCHITECTURES: Readonly<Record<Family, string>> = {
  llama: 'LlamaForCausalLM',
  mistral: 'MistralForCausalLM',
  qwen2: 'Qwen2ForCausalLM',
  qwen3: 'Qwen3ForCausalLM',
};

const TORCH_DTYPES: Readonly<Record<Dtype, string>> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' };

function ropeScalingJson(scaling: Llama3Scaling | undefined): JsonObject | null {
  if (scaling === undefined) return null;
  return {
    [scaling.legacyTypeKey === true ? 'type' : 'rope_type']: 'llama3',
    factor: scaling.factor,
    low_freq_factor: scaling.lowFreqFactor,
    high_freq_factor: scaling.highFreqFactor,
    original_max_position_embeddings: scaling.originalMaxPositions,
  };
}

function configJson(options: SynthModelOptions): JsonObject {
  const sizes = dimensionsOf(options);
  const { family } = options;
  const writesHeadDim = options.headDim !== undefined || family === 'qwen3';
  return {
    architectures: [ARCHITECTURES[family]],
    model_type: family,
    hidden_size: sizes.hidden,
    intermediate_size: sizes.intermediate,
    num_hidden_layers: sizes.layers,
    num_attention_heads: sizes.heads,
    num_key_value_heads: sizes.kvHeads,
    ...(writesHeadDim ? { head_dim: sizes.headDim } : {}),
    vocab_size: sizes.vocab,
    max_position_embeddings: options.maxPositions ?? 512,
    hidden_act: 'silu',
    rms_norm_eps: 1e-5,
    rope_theta: options.ropeTheta ?? 10000,
    rope_scaling: ropeScalingJson(options.ropeScaling),
    tie_word_embeddings: options.tied ?? true,
    ...(family === 'llama' || family === 'qwen3' ? { attention_bias: false } : {}),
    ...(family === 'llama' ? { mlp_bias: false } : { sliding_window: null }),
    ...(family === 'qwen2' || family === 'qwen3' ? { use_sliding_window: false } : {}),
    bos_token_id: BOS_ID,
    eos_token_id: EOS_ID,
    torch_dtype: TORCH_DTYPES[options.dtype ?? 'F32'],
  };
}

/** GPT-2's printable stand-ins for bytes: printable bytes stand for themselves, the rest are moved past U+0100. */
function byteCharacters(): string[] {
  let moved = 0;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCharCode(printable ? byte : 256 + moved++);
  });
}

function extraToken(id: number): string {
  return `<|extra_${id}|>`;
}

/** A byte-level BPE tokenizer without merges, in which token b is byte b and all later tokens are special. */
export function tokenizerJson(vocabSize: number): JsonObject {
  const byteLevel = { trim_offsets: true, use_regex: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: Array.from({ length: vocabSize - 256 }, (_, i) => ({
      id: 256 + i,
      content: extraToken(256 + i),
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, ...byteLevel },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, ...byteLevel },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(byteCharacters().map((character, byte) => [character, byte])),
      merges: [],
    },
  };
}

function jsonBytes(value: JsonObject): Uint8Array {
  return new Uint8Array(Buffer.from(`${JSON.stringify(value, null, 1)}\n`));
}

/** Splits into runs of roughly equal size, keeping the order, so that each shard gets whole tensors. */
function splitTensors(tensors: readonly NamedTensor[], shardCount: number): NamedTensor[][] {
  const total = tensors.reduce((sum, { data }) => sum + data.length, 0);
  const shards: NamedTensor[][] = Array.from({ length: shardCount }, () => []);
  let seen = 0;
  for (const tensor of tensors) {
    shards[Math.min(shardCount - 1, Math.floor((seen * shardCount) / total))]?.push(tensor);
    seen += tensor.data.length;
  }
  return shards;
}

function weightFiles(tensors: readonly NamedTensor[], dtype: Dtype, shardCount: number): FileTree {
  if (shardCount === 1) return new Map([['model.safetensors', encodeSafetensors(tensors, dtype)]]);
  const files: FileTree = new Map();
  const weightMap: Record<string, string> = {};
  const digits = (value: number): string => String(value).padStart(5, '0');
  splitTensors(tensors, shardCount).forEach((shard, i) => {
    const file = `model-${digits(i + 1)}-of-${digits(shardCount)}.safetensors`;
    files.set(file, encodeSafetensors(shard, dtype));
    for (const { name } of shard) weightMap[name] = file;
  });
  const width = dtype === 'F32' ? 4 : 2;
  const totalSize = tensors.reduce((sum, { data }) => sum + data.length * width, 0);
  files.set(
    'model.safetensors.index.json',
    jsonBytes({ metadata: { total_size: totalSize }, weight_map: weightMap }),
  );
  return files;
}

/** A random checkpoint in Hugging Face layout, the same bytes for the same options everywhere. */
export function synthModel(options: SynthModelOptions): FileTree {
  const vocabSize = options.vocabSize ?? DEFAULT_VOCAB_SIZE;
  if (vocabSize <= EOS_ID) throw new Error('vocabSize leaves no room for the special tokens');
  return new Map([
    ['config.json', jsonBytes(configJson(options))],
    ['generation_config.json', jsonBytes({ eos_token_id: EOS_ID, bos_token_id: BOS_ID })],
    ['tokenizer.json', jsonBytes(tokenizerJson(vocabSize))],
    [
      'tokenizer_config.json',
      jsonBytes({
        tokenizer_class: 'PreTrainedTokenizerFast',
        eos_token: extraToken(EOS_ID),
        bos_token: extraToken(BOS_ID),
        add_bos_token: false,
      }),
    ],
    ...weightFiles(modelTensors(options), options.dtype ?? 'F32', options.shardCount ?? 1),
  ]);
}

/**
 * A random PEFT adapter for the model. A is scaled by 1/sqrt(in) and B by
 * 1/sqrt(rank), so that every rank changes its layer's output about equally
 * and strongly enough to change most tokens.
 */
export function synthAdapter(model: SynthModelOptions, spec: SynthAdapterSpec): FileTree {
  const sizes = dimensionsOf(model);
  const seed = `adapter/${spec.name}/${model.family}/${model.seed}`;
  const layers = spec.layers ?? Array.from({ length: sizes.layers }, (_, i) => i);
  const tensors: NamedTensor[] = [];
  for (const layer of layers) {
    for (const projection of PROJECTIONS.filter((candidate) => spec.targets.includes(candidate))) {
      const { path, outFeatures, inFeatures } = projectionShape(projection, sizes);
      const module = `model.layers.${layer}.${path}`;
      const rank = spec.rankOf?.(module) ?? spec.rankPattern?.[projection] ?? spec.r;
      const name = `base_model.model.${module}`;
      tensors.push(
        normalTensor(seed, `${name}.lora_A.weight`, [rank, inFeatures], 0, 0.7 / Math.sqrt(inFeatures)),
      );
      tensors.push(
        normalTensor(seed, `${name}.lora_B.weight`, [outFeatures, rank], 0, 0.7 / Math.sqrt(rank)),
      );
    }
  }
  const config: JsonObject = {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    r: spec.r,
    lora_alpha: spec.alpha,
    target_modules: [...spec.targets].sort(),
    bias: 'none',
    lora_dropout: 0,
    fan_in_fan_out: false,
    inference_mode: true,
    use_rslora: spec.useRslora ?? false,
    use_dora: false,
    modules_to_save: null,
    rank_pattern: spec.rankPattern ?? {},
    alpha_pattern: spec.alphaPattern ?? {},
    base_model_name_or_path: `synthetic-${model.family}`,
    ...(spec.layers === undefined ? {} : { layers_to_transform: spec.layers }),
  };
  return new Map([
    ['adapter_config.json', jsonBytes(config)],
    ['adapter_model.safetensors', encodeSafetensors(tensors, spec.dtype ?? 'F32')],
  ]);
}

/** The six kinds of adapters every golden folder has. */
export function goldenAdapterSpecs(model: SynthModelOptions): SynthAdapterSpec[] {
  const lastLayer = dimensionsOf(model).layers - 1;
  return [
    { name: 'all_r8', r: 8, alpha: 16, targets: PROJECTIONS },
    { name: 'qv_r3', r: 3, alpha: 6, targets: ['q_proj', 'v_proj'] },
    {
      name: 'rslora_r24',
      r: 24,
      alpha: 12,
      targets: PROJECTIONS.filter((projection) => projection !== 'k_proj'),
      useRslora: true,
    },
    {
      name: 'pattern',
      r: 4,
      alpha: 8,
      targets: ['q_proj', 'o_proj', 'down_proj'],
      rankPattern: { down_proj: 10 },
      alphaPattern: { o_proj: 2 },
    },
    { name: 'half_r16', r: 16, alpha: 32, targets: ['up_proj', 'down_proj'], dtype: 'F16' },
    { name: 'last_only', r: 40, alpha: 40, targets: PROJECTIONS, dtype: 'BF16', layers: [lastLayer] },
  ];
}

/** A checkpoint together with adapters under `adapters/<name>/`. */
export function synthCheckpoint(
  model: SynthModelOptions,
  adapters: readonly SynthAdapterSpec[] = goldenAdapterSpecs(model),
): FileTree {
  const files = synthModel(model);
  for (const spec of adapters) {
    for (const [name, bytes] of synthAdapter(model, spec)) files.set(`adapters/${spec.name}/${name}`, bytes);
  }
  return files;
}

export function writeFileTree(folder: string, files: FileTree): void {
  for (const [name, bytes] of files) {
    const path = join(folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, bytes);
  }
}

/** Random prompts of the given lengths over the byte tokens. */
export function synthPrompts(seed: string, lengths: readonly number[]): number[][] {
  const random = new Random(`prompts/${seed}`);
  return lengths.map((length) => Array.from({ length }, () => random.below(256)));
}

/** A random prompt of one length, for tests that need only one. */
export function synthPrompt(seed: string, length: number): number[] {
  return synthPrompts(seed, [length])[0] ?? [];
}

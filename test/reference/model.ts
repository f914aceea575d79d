import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { addScaled, at, dot, itemAt, multiply } from './array.ts';
import {
  booleanMember,
  isJsonObject,
  type JsonObject,
  numberArray,
  numberMember,
  readJsonObject,
  stringMember,
} from './json.ts';
import type { LoraModule, WeightedAdapter } from './peft.ts';
import { readCheckpoint, type Tensor } from './safetensors.ts';

export type Family = 'llama' | 'mistral' | 'qwen2' | 'qwen3';

const FAMILIES: readonly Family[] = ['llama', 'mistral', 'qwen2', 'qwen3'];

export interface ModelConfig {
  readonly family: Family;
  readonly hiddenSize: number;
  readonly layerCount: number;
  readonly headCount: number;
  readonly kvHeadCount: number;
  readonly headDim: number;
  readonly vocabSize: number;
  readonly rmsNormEps: number;
  readonly tiedHead: boolean;
  /** Context length from which sliding-window attention would differ from full attention. */
  readonly slidingWindow: number;
  readonly eosTokenIds: readonly number[];
  /** One rotary frequency per pair of head dimensions, after any scaling. */
  readonly inverseFrequencies: Float64Array;
}

interface Linear {
  readonly path: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** outFeatures x inFeatures, row-major, as PyTorch stores it. */
  readonly weight: Float64Array;
  readonly bias: Float64Array | undefined;
}

interface Layer {
  readonly inputNorm: Float64Array;
  readonly postAttentionNorm: Float64Array;
  readonly q: Linear;
  readonly k: Linear;
  readonly v: Linear;
  readonly o: Linear;
  readonly gate: Linear;
  readonly up: Linear;
  readonly down: Linear;
  /** Only qwen3 normalises each query and key head. */
  readonly qNorm: Float64Array | undefined;
  readonly kNorm: Float64Array | undefined;
}

export interface ReferenceModel {
  readonly config: ModelConfig;
  /** vocabSize x hiddenSize, row-major. */
  readonly embedding: Float64Array;
  readonly layers: readonly Layer[];
  readonly finalNorm: Float64Array;
  readonly head: Linear;
}

/**
 * Rotary frequencies in float64. The llama3 rule leaves short wavelengths
 * alone, divides long ones by `factor`, and interpolates between the two.
 */
export function inverseFrequencies(
  headDim: number,
  theta: number,
  scaling: JsonObject | undefined,
): Float64Array {
  const frequencies = new Float64Array(headDim / 2);
  for (let i = 0; i < frequencies.length; i++) frequencies[i] = theta ** ((-2 * i) / headDim);
  if (scaling === undefined) return frequencies;

  // Checkpoints written before transformers 4.43 spell the key `type`.
  const kind = scaling.rope_type ?? scaling.type ?? 'default';
  if (kind === 'default') return frequencies;
  if (kind !== 'llama3') throw new Error(`rope scaling ${String(kind)} is not supported`);
  const factor = numberMember(scaling, 'factor');
  const lowFactor = numberMember(scaling, 'low_freq_factor');
  const highFactor = numberMember(scaling, 'high_freq_factor');
  const originalContext = numberMember(scaling, 'original_max_position_embeddings');
  return frequencies.map((frequency) => {
    const wavelength = (2 * Math.PI) / frequency;
    if (wavelength > originalContext / lowFactor) return frequency / factor;
    if (wavelength < originalContext / highFactor) return frequency;
    const smooth = (originalContext / wavelength - lowFactor) / (highFactor - lowFactor);
    return ((1 - smooth) * frequency) / factor + smooth * frequency;
  });
}

function familyOf(config: JsonObject): Family {
  const name = stringMember(config, 'model_type');
  const family = FAMILIES.find((candidate) => candidate === name);
  if (family === undefined) throw new Error(`model_type ${name} is not supported`);
  return family;
}

function eosTokenIds(folder: string, config: JsonObject): number[] {
  // The generation config wins because it is the one Hugging Face's generate() stops on.
  const generationPath = join(folder, 'generation_config.json');
  const generation = existsSync(generationPath) ? readJsonObject(generationPath) : {};
  const value = generation.eos_token_id ?? config.eos_token_id ?? [];
  return typeof value === 'number' ? [value] : numberArray(value, 'eos_token_id');
}

function slidingWindowOf(family: Family, config: JsonObject): number {
  const inUse = family === 'mistral' || booleanMember(config, 'use_sliding_window', false);
  return inUse ? numberMember(config, 'sliding_window', Infinity) : Infinity;
}

function readConfig(folder: string): ModelConfig {
  const config = readJsonObject(join(folder, 'config.json'));
  const family = familyOf(config);
  if (stringMember(config, 'hidden_act') !== 'silu') throw new Error('only silu is supported');
  const hiddenSize = numberMember(config, 'hidden_size');
  const headCount = numberMember(config, 'num_attention_heads');
  // Qwen3 configs that leave head_dim out mean 128, whatever hidden_size is.
  const headDim = numberMember(config, 'head_dim', family === 'qwen3' ? 128 : hiddenSize / headCount);
  // transformers 5 moved theta and the scaling into one `rope_parameters` object.
  const parameters = isJsonObject(config.rope_parameters) ? config.rope_parameters : undefined;
  const scaling = isJsonObject(config.rope_scaling) ? config.rope_scaling : parameters;
  const theta = numberMember(config, 'rope_theta', numberMember(parameters ?? {}, 'rope_theta', 10000));
  return {
    family,
    hiddenSize,
    layerCount: numberMember(config, 'num_hidden_layers'),
    headCount,
    kvHeadCount: numberMember(config, 'num_key_value_heads', headCount),
    headDim,
    vocabSize: numberMember(config, 'vocab_size'),
    rmsNormEps: numberMember(config, 'rms_norm_eps', 1e-6),
    tiedHead: booleanMember(config, 'tie_word_embeddings', false),
    slidingWindow: slidingWindowOf(family, config),
    eosTokenIds: eosTokenIds(folder, config),
    inverseFrequencies: inverseFrequencies(headDim, theta, scaling),
  };
}

/** Loads a Hugging Face checkpoint folder: config.json plus its safetensors. */
export function loadModel(folder: string): ReferenceModel {
  const config = readConfig(folder);
  const tensors = readCheckpoint(folder);

  const take = (name: string): Tensor => {
    const tensor = tensors.get(name);
    if (tensor === undefined) throw new Error(`${folder}: no tensor ${name}`);
    return tensor;
  };
  const takeLinear = (path: string, inFeatures: number, outFeatures: number, biased = false): Linear => {
    const weight = take(`${path}.weight`);
    if (weight.shape[0] !== outFeatures || weight.shape[1] !== inFeatures) {
      throw new Error(`${path}: expected ${outFeatures} x ${inFeatures}, found ${weight.shape.join(' x ')}`);
    }
    const bias = biased ? take(`${path}.bias`) : tensors.get(`${path}.bias`);
    return { path, inFeatures, outFeatures, weight: weight.data, bias: bias?.data };
  };

  const { hiddenSize, headDim } = config;
  const qSize = config.headCount * headDim;
  const kvSize = config.kvHeadCount * headDim;
  const gateShape = take('model.layers.0.mlp.gate_proj.weight').shape;
  const intermediate = at(gateShape, 0);
  const biased = config.family === 'qwen2';
  const normed = config.family === 'qwen3';

  const layers: Layer[] = [];
  for (let i = 0; i < config.layerCount; i++) {
    const prefix = `model.layers.${i}`;
    layers.push({
      inputNorm: take(`${prefix}.input_layernorm.weight`).data,
      postAttentionNorm: take(`${prefix}.post_attention_layernorm.weight`).data,
      q: takeLinear(`${prefix}.self_attn.q_proj`, hiddenSize, qSize, biased),
      k: takeLinear(`${prefix}.self_attn.k_proj`, hiddenSize, kvSize, biased),
      v: takeLinear(`${prefix}.self_attn.v_proj`, hiddenSize, kvSize, biased),
      o: takeLinear(`${prefix}.self_attn.o_proj`, qSize, hiddenSize),
      gate: takeLinear(`${prefix}.mlp.gate_proj`, hiddenSize, intermediate),
      up: takeLinear(`${prefix}.mlp.up_proj`, hiddenSize, intermediate),
      down: takeLinear(`${prefix}.mlp.down_proj`, intermediate, hiddenSize),
      qNorm: normed ? take(`${prefix}.self_attn.q_norm.weight`).data : undefined,
      kNorm: normed ? take(`${prefix}.self_attn.k_norm.weight`).data : undefined,
    });
  }
  const embedding = take('model.embed_tokens.weight').data;
  // A tied head keeps its own module path, so an adapter on lm_head never touches the embedding.
  const head: Linear = config.tiedHead
    ? {
        path: 'lm_head',
        inFeatures: hiddenSize,
        outFeatures: config.vocabSize,
        weight: embedding,
        bias: undefined,
      }
    : takeLinear('lm_head', hiddenSize, config.vocabSize);
  return { config, embedding, layers, finalNorm: take('model.norm.weight').data, head };
}

function rmsNorm(input: Float64Array, weight: Float64Array, eps: number): Float64Array {
  let squares = 0;
  for (const value of input) squares += value * value;
  const inverse = 1 / Math.sqrt(squares / input.length + eps);
  return input.map((value, i) => value * inverse * at(weight, i));
}

/**
 * Rotates one head in place with Hugging Face's half-split convention:
 * dimension i is paired with dimension i + headDim / 2, not with i + 1.
 */
function rotate(head: Float64Array, position: number, frequencies: Float64Array): void {
  const half = frequencies.length;
  for (let i = 0; i < half; i++) {
    const angle = position * at(frequencies, i);
    const cos = Math.cos(angle);
    const sin = Math.sin(angle);
    const first = at(head, i);
    const second = at(head, i + half);
    head[i] = first * cos - second * sin;
    head[i + half] = second * cos + first * sin;
  }
}

/** One adapter's contribution to one linear layer, with the blend weight folded into the scale. */
interface Delta {
  readonly module: LoraModule;
  readonly factor: number;
}

/**
 * One token sequence under a fixed blend of adapters, with its own KV cache,
 * so that decoding a token costs one forward pass over one position.
 */
export class ReferenceSequence {
  readonly #model: ReferenceModel;
  readonly #deltas = new Map<string, Delta[]>();
  /** Per layer, per position: all key (value) heads of that position. */
  readonly #keys: Float64Array[][];
  readonly #values: Float64Array[][];
  #length = 0;

  constructor(model: ReferenceModel, adapters: readonly WeightedAdapter[]) {
    this.#model = model;
    this.#keys = model.layers.map(() => []);
    this.#values = model.layers.map(() => []);
    const linears = new Map<string, Linear>([[model.head.path, model.head]]);
    for (const { q, k, v, o, gate, up, down } of model.layers) {
      for (const linear of [q, k, v, o, gate, up, down]) linears.set(linear.path, linear);
    }
    for (const { adapter, weight } of adapters) {
      for (const module of adapter.modules) {
        const linear = linears.get(module.path);
        if (linear?.inFeatures !== module.inFeatures || linear.outFeatures !== module.outFeatures) {
          throw new Error(`${adapter.folder}: ${module.path} does not fit the model`);
        }
        const deltas = this.#deltas.get(module.path) ?? [];
        deltas.push({ module, factor: weight * module.scale });
        this.#deltas.set(module.path, deltas);
      }
    }
  }

  get length(): number {
    return this.#length;
  }

  /** Appends a token and returns the final normalised hidden state at its position. */
  append(tokenId: number): Float64Array {
    const { config, embedding, layers, finalNorm } = this.#model;
    if (this.#length >= config.slidingWindow) throw new Error('sliding-window attention is not supported');
    if (!Number.isInteger(tokenId) || tokenId < 0 || tokenId >= config.vocabSize) {
      throw new RangeError(`token ${tokenId} is outside the vocabulary`);
    }
    const hidden = embedding.slice(tokenId * config.hiddenSize, (tokenId + 1) * config.hiddenSize);
    for (let i = 0; i < layers.length; i++) {
      const layer = itemAt(layers, i);
      const attention = this.#attention(i, rmsNorm(hidden, layer.inputNorm, config.rmsNormEps));
      addScaled(hidden, attention, 1);
      const normalised = rmsNorm(hidden, layer.postAttentionNorm, config.rmsNormEps);
      const gate = this.#apply(layer.gate, normalised);
      const up = this.#apply(layer.up, normalised);
      const activated = gate.map((value, j) => (value / (1 + Math.exp(-value))) * at(up, j));
      addScaled(hidden, this.#apply(layer.down, activated), 1);
    }
    this.#length++;
    return rmsNorm(hidden, finalNorm, config.rmsNormEps);
  }

  /** Logits for the token after the position whose hidden state `append` returned. */
  logits(hidden: Float64Array): Float64Array {
    return this.#apply(this.#model.head, hidden);
  }

  #apply(linear: Linear, x: Float64Array): Float64Array {
    const y = multiply(linear.weight, linear.outFeatures, x);
    if (linear.bias !== undefined) addScaled(y, linear.bias, 1);
    for (const { module, factor } of this.#deltas.get(linear.path) ?? []) {
      const down = multiply(module.a, module.rank, x);
      addScaled(y, multiply(module.b, module.outFeatures, down), factor);
    }
    return y;
  }

  #attention(index: number, x: Float64Array): Float64Array {
    const { config, layers } = this.#model;
    const { headDim, headCount, kvHeadCount } = config;
    const layer = itemAt(layers, index);
    const query = this.#apply(layer.q, x);
    const key = this.#apply(layer.k, x);
    this.#prepareHeads(query, headCount, layer.qNorm);
    this.#prepareHeads(key, kvHeadCount, layer.kNorm);
    const keys = itemAt(this.#keys, index);
    const values = itemAt(this.#values, index);
    keys.push(key);
    values.push(this.#apply(layer.v, x));

    const mixed = new Float64Array(headCount * headDim);
    const groupSize = headCount / kvHeadCount;
    for (let head = 0; head < headCount; head++) {
      const queryStart = head * headDim;
      const kvStart = Math.floor(head / groupSize) * headDim;
      const queryHead = query.subarray(queryStart, queryStart + headDim);
      const scores = Float64Array.from(keys, (past) => dot(past, kvStart, queryHead) / Math.sqrt(headDim));
      const probabilities = softmax(scores);
      const mixedHead = mixed.subarray(queryStart, queryStart + headDim);
      values.forEach((past, position) => {
        addScaled(mixedHead, past.subarray(kvStart, kvStart + headDim), at(probabilities, position));
      });
    }
    return this.#apply(layer.o, mixed);
  }

  /** Normalises (qwen3) and rotates each head; qwen3 normalises before it rotates. */
  #prepareHeads(heads: Float64Array, count: number, norm: Float64Array | undefined): void {
    const { headDim, rmsNormEps, inverseFrequencies: frequencies } = this.#model.config;
    for (let head = 0; head < count; head++) {
      const view = heads.subarray(head * headDim, (head + 1) * headDim);
      if (norm !== undefined) view.set(rmsNorm(view, norm, rmsNormEps));
      rotate(view, this.#length, frequencies);
    }
  }
}

/** Softmax shifted by the maximum, so that large logits do not overflow. */
export function softmax(logits: Float64Array): Float64Array {
  let maximum = -Infinity;
  for (const value of logits) maximum = Math.max(maximum, value);
  const exponentials = logits.map((value) => Math.exp(value - maximum));
  let total = 0;
  for (const value of exponentials) total += value;
  return exponentials.map((value) => value / total);
}

import { join } from 'node:path';
import { booleanMember, isJsonObject, type JsonObject, numberMember, readJsonObject } from './json.ts';
import { readSafetensors } from './safetensors.ts';

/** One adapted linear layer: it adds scale * B (A x) to the layer's output. */
export interface LoraModule {
  /** Module name inside the base model, for example `model.layers.0.self_attn.q_proj`. */
  readonly path: string;
  readonly rank: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** rank x inFeatures, row-major. */
  readonly a: Float64Array;
  /** outFeatures x rank, row-major. */
  readonly b: Float64Array;
  readonly scale: number;
}

export interface ReferenceAdapter {
  readonly folder: string;
  readonly modules: readonly LoraModule[];
}

/** One member of a blend. */
export interface WeightedAdapter {
  readonly adapter: ReferenceAdapter;
  readonly weight: number;
}

const MODULE_PREFIX = 'base_model.model.';
const A_SUFFIX = '.lora_A.weight';
const B_SUFFIX = '.lora_B.weight';

/**
 * PEFT's lookup for rank_pattern and alpha_pattern. The key is a regular
 * expression that must cover whole trailing name components, and the first
 * matching key wins even when a later one is more specific.
 */
export function patternValue(pattern: JsonObject, modulePath: string, fallback: number): number {
  for (const [key, value] of Object.entries(pattern)) {
    if (!new RegExp(`^(.*\\.)?(${key})$`).test(modulePath)) continue;
    if (typeof value !== 'number') throw new Error(`pattern ${key}: expected a number`);
    return value;
  }
  return fallback;
}

function patternMember(config: JsonObject, key: string): JsonObject {
  const value = config[key] ?? {};
  if (!isJsonObject(value)) throw new Error(`${key}: expected an object`);
  return value;
}

/** Refuses what would change the arithmetic, because an oracle that ignores a feature is wrong silently. */
function assertPlainLora(config: JsonObject): void {
  if (config.peft_type !== 'LORA') throw new Error('only LORA adapters are supported');
  if (booleanMember(config, 'use_dora', false)) throw new Error('DoRA is not supported');
  if (booleanMember(config, 'lora_bias', false)) throw new Error('lora_bias is not supported');
  if ((config.bias ?? 'none') !== 'none') throw new Error('trained biases are not supported');
  const saved = config.modules_to_save ?? [];
  if (!Array.isArray(saved) || saved.length > 0) throw new Error('modules_to_save is not supported');
}

/**
 * Loads a PEFT adapter folder. Which modules are adapted is read from the
 * tensors rather than from target_modules, because the tensors are what PEFT
 * would actually load; target_modules may be a regular expression or a superset.
 */
export function loadAdapter(folder: string): ReferenceAdapter {
  const config = readJsonObject(join(folder, 'adapter_config.json'));
  assertPlainLora(config);
  const rankPattern = patternMember(config, 'rank_pattern');
  const alphaPattern = patternMember(config, 'alpha_pattern');
  const useRslora = booleanMember(config, 'use_rslora', false);
  const tensors = readSafetensors(join(folder, 'adapter_model.safetensors'));

  const modules: LoraModule[] = [];
  for (const [name, a] of tensors) {
    if (name.endsWith(B_SUFFIX)) continue;
    if (!name.startsWith(MODULE_PREFIX) || !name.endsWith(A_SUFFIX))
      throw new Error(`unexpected tensor ${name}`);
    const stem = name.slice(0, -A_SUFFIX.length);
    const path = stem.slice(MODULE_PREFIX.length);
    const b = tensors.get(stem + B_SUFFIX);
    if (b === undefined) throw new Error(`${stem} has lora_A but no lora_B`);
    const [rank, inFeatures] = a.shape;
    const [outFeatures, rankOfB] = b.shape;
    if (rank === undefined || inFeatures === undefined || outFeatures === undefined || rank !== rankOfB) {
      throw new Error(`${stem}: lora_A and lora_B do not chain`);
    }
    // PEFT scales by the configured rank and could not load tensors of another
    // one, so a disagreement means the adapter itself is broken.
    if (patternValue(rankPattern, path, numberMember(config, 'r')) !== rank) {
      throw new Error(`${stem}: the configured rank is not the tensors' rank ${rank}`);
    }
    const alpha = patternValue(alphaPattern, path, numberMember(config, 'lora_alpha'));
    const scale = alpha / (useRslora ? Math.sqrt(rank) : rank);
    modules.push({ path, rank, inFeatures, outFeatures, a: a.data, b: b.data, scale });
  }
  const pairs = 2 * modules.length;
  if (pairs !== tensors.size) throw new Error(`${folder}: a lora_B tensor has no lora_A`);
  return { folder, modules };
}

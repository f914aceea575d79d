import type { JsonValue } from '../../safetensors/json.ts';
import { isJsonArray, isJsonObject } from '../../safetensors/json.ts';

/**
 * What this program makes of every key that PEFT (up to 0.19) writes into adapter_config.json. A key that is in none
 * of these tables is refused unless its value says "off", because a later PEFT may change the mathematics with it.
 */

/** Read by the parser itself. */
export const READ_KEYS: ReadonlySet<string> = new Set([
  'peft_type',
  'task_type',
  'r',
  'lora_alpha',
  'use_rslora',
  'rank_pattern',
  'alpha_pattern',
  'target_modules',
  'exclude_modules',
  'layers_to_transform',
  'layers_pattern',
  'bias',
  'init_lora_weights',
]);

/** Without influence on the output of trained weights: provenance, training, or switched by another key. */
export const HARMLESS_KEYS: ReadonlySet<string> = new Set([
  'auto_mapping',
  'base_model_name_or_path',
  'revision',
  'peft_version',
  'inference_mode',
  'lora_dropout',
  // Settings of initialisations; the switch is init_lora_weights.
  'loftq_config',
  'eva_config',
  'corda_config',
  'lora_ga_config',
  // Matters only with use_qalora, which is refused.
  'qalora_group_size',
  // A module path that matters only with megatron_config, which is refused.
  'megatron_core',
  // Matters only when embeddings or heads are adapted or saved, which is refused.
  'ensure_weight_tying',
]);

/** Keys that change the mathematics, and how. */
export const REFUSED_KEYS: ReadonlyMap<string, string> = new Map([
  ['use_dora', 'DoRA rescales the columns of the merged weight'],
  ['modules_to_save', 'it replaces whole modules of the backbone, which is shared'],
  ['lora_bias', 'it adds a bias to B'],
  ['fan_in_fan_out', 'it stores weights transposed, for backbones that are not served'],
  ['trainable_token_indices', 'it changes rows of the embedding, which is shared'],
  ['layer_replication', 'it changes the number of layers'],
  ['target_parameters', 'it adapts bare parameters instead of linear modules'],
  ['alora_invocation_tokens', 'activated LoRA applies to part of the prompt only'],
  ['use_qalora', 'QALoRA pools the input before A'],
  ['use_bdlora', 'its A or B are block-diagonal'],
  ['arrow_config', 'Arrow routes tokens between several adapters'],
  ['megatron_config', 'it needs layers of Megatron'],
  ['runtime_config', 'it is not part of a saved adapter'],
]);

/** Initialisations that leave the backbone's weights alone, so that the trained A and B are the whole change. */
export const PURE_INITIALISATIONS: ReadonlySet<JsonValue> = new Set<JsonValue>([
  true,
  false,
  null,
  'gaussian',
  'eva',
  'orthogonal',
]);

/** Whether a value means that its feature is not used. */
export function isOff(value: JsonValue): boolean {
  if (value === null || value === false || value === '') return true;
  if (isJsonArray(value)) return value.length === 0;
  return isJsonObject(value) && value.size === 0;
}

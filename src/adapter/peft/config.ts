import { PatchbayError } from '../../kernel/errors.ts';
import {
  clip,
  isJsonArray,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  parseStrictJson,
  StrictJsonError,
} from '../../safetensors/json.ts';
import { type AdapterLimits, CONFIG_FILE } from '../limits.ts';
import { HARMLESS_KEYS, isOff, PURE_INITIALISATIONS, READ_KEYS, REFUSED_KEYS } from './keys.ts';
import { compilePatternKey, type PatternKey } from './pattern.ts';
import { RegexUnsupported } from './regex-parse.ts';

/** One entry of a pattern, in the order of the file: PEFT takes the first that matches. */
export interface PatternEntry {
  readonly pattern: PatternKey;
  readonly value: number;
}

/** The part of adapter_config.json that the mathematics depends on. */
export interface AdapterConfig {
  readonly r: number;
  readonly loraAlpha: number;
  readonly useRslora: boolean;
  readonly rankPattern: readonly PatternEntry[];
  readonly alphaPattern: readonly PatternEntry[];
}

// Bounds the work of matching: states × modules × characters of a name. A plain key counts as one.
const MAX_PATTERN_STATES = 12_288;

function invalid(field: string, message: string): PatchbayError {
  return new PatchbayError('ADAPTER_CONFIG_INVALID', `${CONFIG_FILE}: ${message}.`, { field });
}

function unsupported(field: string, message: string, fix?: string): PatchbayError {
  return new PatchbayError('ADAPTER_UNSUPPORTED', `${CONFIG_FILE}: ${message}.`, {
    field,
    ...(fix === undefined ? {} : { fix }),
    meta: { feature: field },
  });
}

/**
 * Parses adapter_config.json and refuses, by name, everything that cannot be served exactly. The targets that it
 * states are checked for form only: the tensors are the truth about targets.
 */
export function parseAdapterConfig(bytes: Uint8Array, limits: AdapterLimits): AdapterConfig {
  if (bytes.byteLength > limits.maxConfigBytes) {
    throw new PatchbayError('FILE_TOO_LARGE', `${CONFIG_FILE} exceeds ${limits.maxConfigBytes} bytes.`, {
      field: CONFIG_FILE,
      meta: { limitBytes: limits.maxConfigBytes },
    });
  }
  const root = parseRoot(bytes);
  checkPeftType(root);
  for (const [key, value] of root) checkKey(key, value);
  checkBias(root);
  checkTask(root);
  checkInitialisation(root);
  checkTargets(root);
  return {
    r: rank('r', root.get('r')),
    loraAlpha: finite('lora_alpha', root.get('lora_alpha')),
    useRslora: flag('use_rslora', root.get('use_rslora')),
    rankPattern: readPattern('rank_pattern', root, rank),
    alphaPattern: readPattern('alpha_pattern', root, finite),
  };
}

function parseRoot(bytes: Uint8Array): JsonObject {
  let root: JsonValue;
  try {
    root = parseStrictJson(bytes, { maxDepth: 16, integersOnly: false });
  } catch (error) {
    if (!(error instanceof StrictJsonError)) throw error;
    throw invalid(error.duplicateKey ?? CONFIG_FILE, error.message);
  }
  if (!isJsonObject(root)) throw invalid(CONFIG_FILE, 'it is not an object');
  return root;
}

function checkPeftType(root: JsonObject): void {
  const type = root.get('peft_type');
  if (typeof type !== 'string') throw invalid('peft_type', 'peft_type is missing');
  if (type !== 'LORA') {
    throw unsupported('peft_type', `the peft_type "${clip(type)}" is not LORA`, 'Train a LoRA adapter.');
  }
}

function checkKey(key: string, value: JsonValue): void {
  if (READ_KEYS.has(key) || HARMLESS_KEYS.has(key) || isOff(value)) return;
  const shown = clip(key);
  const why = REFUSED_KEYS.get(key);
  if (why === undefined) {
    throw unsupported(shown, `the key "${shown}" is not known, and its value is set`);
  }
  if (typeof value === 'string' || typeof value === 'number') {
    // A feature's switch with a value that PEFT never writes: say so instead of guessing what was meant.
    throw invalid(key, `the value of ${key} has the wrong type`);
  }
  throw unsupported(key, `${key} is not supported: ${why}`);
}

function checkBias(root: JsonObject): void {
  const bias = root.get('bias') ?? 'none';
  if (typeof bias !== 'string') throw invalid('bias', 'bias is not a string');
  if (bias !== 'none') {
    throw unsupported('bias', `bias "${clip(bias)}" is not supported: it changes the backbone's biases`);
  }
}

function checkTask(root: JsonObject): void {
  const task = root.get('task_type') ?? null;
  if (task === null || task === 'CAUSAL_LM') return;
  if (typeof task !== 'string') throw invalid('task_type', 'task_type is not a string');
  throw unsupported(
    'task_type',
    `the task_type "${clip(task)}" needs another head than a causal language model's`,
  );
}

function checkInitialisation(root: JsonObject): void {
  const init = root.get('init_lora_weights') ?? null;
  if (PURE_INITIALISATIONS.has(init)) return;
  const shown = typeof init === 'string' ? clip(init) : 'of another type';
  throw unsupported(
    'init_lora_weights',
    `init_lora_weights "${shown}" may have changed the backbone's weights, so A and B are not the whole difference`,
    'Save with path_initial_model_for_weight_conversion, which turns the adapter into a plain LoRA.',
  );
}

function checkTargets(root: JsonObject): void {
  for (const field of ['target_modules', 'exclude_modules', 'layers_pattern'] as const) {
    const value = root.get(field) ?? null;
    const ok =
      value === null || typeof value === 'string' || isListOf(value, (item) => typeof item === 'string');
    if (!ok) throw invalid(field, `${field} is neither a string nor a list of strings`);
  }
  const layers = root.get('layers_to_transform') ?? null;
  if (layers !== null && !isNatural(layers) && !isListOf(layers, isNatural)) {
    throw invalid('layers_to_transform', 'layers_to_transform is neither a layer index nor a list of them');
  }
}

function isListOf(value: JsonValue, test: (item: JsonValue) => boolean): boolean {
  return isJsonArray(value) && value.every(test);
}

function isNatural(value: JsonValue): boolean {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function rank(field: string, value: JsonValue | undefined): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1) {
    throw invalid(field, `${clip(field)} is not a positive integer`);
  }
  return value;
}

function finite(field: string, value: JsonValue | undefined): number {
  if (typeof value !== 'number') throw invalid(field, `${clip(field)} is not a number`);
  return value;
}

function flag(field: string, value: JsonValue | undefined): boolean {
  const given = value ?? false;
  if (typeof given !== 'boolean') throw invalid(field, `${field} is not true or false`);
  return given;
}

function readPattern(
  field: 'rank_pattern' | 'alpha_pattern',
  root: JsonObject,
  read: (field: string, value: JsonValue) => number,
): readonly PatternEntry[] {
  const value = root.get(field) ?? null;
  if (value === null) return [];
  if (!isJsonObject(value)) throw invalid(field, `${field} is not an object`);
  const entries: PatternEntry[] = [];
  let states = 0;
  for (const [key, item] of value) {
    const pattern = compileKey(field, key);
    states += pattern.states;
    if (states > MAX_PATTERN_STATES)
      throw unsupported(field, `the patterns of ${field} together are too large`);
    entries.push({ pattern, value: read(`${field}.${clip(key)}`, item) });
  }
  return entries;
}

function compileKey(field: string, key: string): PatternKey {
  try {
    return compilePatternKey(key);
  } catch (error) {
    if (!(error instanceof RegexUnsupported)) throw error;
    throw unsupported(field, `the pattern "${clip(key)}" of ${field} is not supported: ${error.message}`);
  }
}

import type { SpecialName } from './added-tokens.ts';
import {
  invalid,
  isAbsent,
  isJson,
  type Json,
  show,
  type TokenizerFiles,
  tokenId,
  unsupported,
} from './files.ts';

/** Ids that the tokenizer puts around a text when special tokens are asked for. */
export interface Framing {
  readonly prefix: readonly number[];
  readonly suffix: readonly number[];
}

/** Finds the id of a token, or null. */
export type IdOf = (token: string) => number | null;

/**
 * Reads the `post_processor` for a single text. An explicit `add_bos_token` or `add_eos_token` in
 * `tokenizer_config.json` wins over it, as in transformers' Llama tokenizers.
 */
export function readFraming(
  files: TokenizerFiles,
  idOf: IdOf,
  bosId: number | null,
  eosId: number | null,
  vocabSize: number,
): Framing {
  const processed = isAbsent(files.tokenizer['post_processor'])
    ? { prefix: [], suffix: [] }
    : processor(files.tokenizer['post_processor'], 'post_processor', idOf, vocabSize);
  const prefix = [...processed.prefix];
  const suffix = [...processed.suffix];
  const addBos = explicit(files.tokenizerConfig, 'add_bos_token');
  if (addBos !== null && bosId !== null) {
    if (addBos && prefix[0] !== bosId) prefix.unshift(bosId);
    else if (!addBos && prefix[0] === bosId) prefix.shift();
  }
  const addEos = explicit(files.tokenizerConfig, 'add_eos_token');
  if (addEos !== null && eosId !== null) {
    if (addEos && suffix.at(-1) !== eosId) suffix.push(eosId);
    else if (!addEos && suffix.at(-1) === eosId) suffix.pop();
  }
  return { prefix, suffix };
}

/** The id that a file gives for `bos_token_id`, else the token that a configuration names; null when neither does. */
export function readBosId(
  files: TokenizerFiles,
  names: ReadonlyMap<SpecialName, string>,
  idOf: IdOf,
  vocabSize: number,
): number | null {
  const named = namedId('bos_token', names, idOf);
  if (named !== null) return named;
  const value = files.config?.['bos_token_id'];
  return isAbsent(value) ? null : tokenId('config.json', 'bos_token_id', value, vocabSize);
}

/**
 * The ids that end a generation: `eos_token_id` of `generation_config.json`, which is what the model's authors
 * generate with. Without it, the tokens that `config.json` and the tokenizer name, since either may end a turn.
 */
export function readEosIds(
  files: TokenizerFiles,
  names: ReadonlyMap<SpecialName, string>,
  idOf: IdOf,
  vocabSize: number,
): readonly number[] {
  const generation = eosList(files.generationConfig, 'generation_config.json', vocabSize);
  if (generation.length > 0) return generation;
  const ids = new Set(eosList(files.config, 'config.json', vocabSize));
  const named = namedId('eos_token', names, idOf);
  if (named !== null) ids.add(named);
  return [...ids];
}

/** The id of the token that a configuration names for a role; a name without a token is an error. */
export function namedId(
  name: SpecialName,
  names: ReadonlyMap<SpecialName, string>,
  idOf: IdOf,
): number | null {
  const content = names.get(name);
  if (content === undefined) return null;
  const id = idOf(content);
  if (id === null) {
    throw invalid('tokenizer_config.json', name, `${show(content)} is not a token of tokenizer.json`);
  }
  return id;
}

/** The ids that end a generation of a checkpoint without a tokenizer, by its configurations alone. */
export function configuredEosIds(
  generationConfig: Json | null,
  config: Json | null,
  vocabSize: number,
): readonly number[] {
  const generation = eosList(generationConfig, 'generation_config.json', vocabSize);
  return generation.length > 0 ? generation : eosList(config, 'config.json', vocabSize);
}

function eosList(source: Json | null, file: string, vocabSize: number): readonly number[] {
  const value = source?.['eos_token_id'];
  if (isAbsent(value)) return [];
  if (!Array.isArray(value)) return [tokenId(file, 'eos_token_id', value, vocabSize)];
  const ids = value.map((id: unknown, index) => tokenId(file, `eos_token_id[${index}]`, id, vocabSize));
  return [...new Set(ids)];
}

function explicit(config: Json | null, field: string): boolean | null {
  const value = config?.[field];
  if (isAbsent(value)) return null;
  if (typeof value !== 'boolean') {
    throw invalid('tokenizer_config.json', field, `expected true or false, found ${show(value)}`);
  }
  return value;
}

function processor(value: unknown, path: string, idOf: IdOf, vocabSize: number): Framing {
  if (!isJson(value)) throw invalid('tokenizer.json', path, `expected an object, found ${show(value)}`);
  switch (value['type']) {
    case 'ByteLevel':
      return { prefix: [], suffix: [] };
    case 'TemplateProcessing':
      return template(value, path, idOf, vocabSize);
    case 'Sequence': {
      const prefix: number[] = [];
      const suffix: number[] = [];
      for (const [index, item] of list(value, 'processors', path).entries()) {
        const inner = processor(item, `${path}.processors[${index}]`, idOf, vocabSize);
        prefix.unshift(...inner.prefix);
        suffix.push(...inner.suffix);
      }
      return { prefix, suffix };
    }
    default:
      throw unsupported(path, `the post-processor ${show(value['type'])} is not served`);
  }
}

function template(config: Json, path: string, idOf: IdOf, vocabSize: number): Framing {
  const prefix: number[] = [];
  const suffix: number[] = [];
  let seen = false;
  for (const [index, item] of list(config, 'single', path).entries()) {
    const where = `${path}.single[${index}]`;
    if (isJson(item) && isJson(item['SpecialToken'])) {
      const ids = specialIds(config, item['SpecialToken']['id'], where, idOf, vocabSize);
      (seen ? suffix : prefix).push(...ids);
    } else if (isJson(item) && isJson(item['Sequence']) && item['Sequence']['id'] === 'A' && !seen) {
      seen = true;
    } else {
      throw invalid(
        'tokenizer.json',
        where,
        `expected a special token or the sequence A once, found ${show(item)}`,
      );
    }
  }
  if (!seen) throw invalid('tokenizer.json', `${path}.single`, 'the sequence A does not occur');
  return { prefix, suffix };
}

function specialIds(
  config: Json,
  name: unknown,
  where: string,
  idOf: IdOf,
  vocabSize: number,
): readonly number[] {
  const table = config['special_tokens'];
  if (typeof name === 'string') {
    const entry = isJson(table) ? table[name] : undefined;
    if (isJson(entry) && Array.isArray(entry['ids'])) {
      const path = `post_processor.special_tokens.${name}.ids`;
      return entry['ids'].map((id: unknown) => tokenId('tokenizer.json', path, id, vocabSize));
    }
    const id = idOf(name);
    if (id !== null) return [id];
  }
  throw invalid('tokenizer.json', where, `${show(name)} is not a token`);
}

function list(config: Json, field: string, path: string): readonly unknown[] {
  const value = config[field];
  if (Array.isArray(value)) return value;
  throw invalid('tokenizer.json', `${path}.${field}`, `expected a list, found ${show(value)}`);
}

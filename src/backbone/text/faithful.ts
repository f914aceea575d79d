import { invalid, isAbsent, isJson, type Json, show, unsupported } from './files.ts';
import { checkOniguruma, hasCapturingGroup } from './oniguruma.ts';

/** The parts of `tokenizer.json` that `@huggingface/tokenizers` computes exactly as the Rust reference does. */
export interface FaithfulParts {
  readonly normalizer: Json | null;
  readonly preTokenizer: Json | null;
  readonly model: Json;
}

/**
 * Checks the encoding half of `tokenizer.json` against an allow-list, because the JavaScript library accepts more
 * than it reproduces: what it approximates (`MergedWithPrevious`, Unigram, Precompiled, …) would give other ids than
 * the tokenizer that the weights were trained with, and nobody would notice. Two components that are approximated
 * are rewritten to exact equivalents instead of refused.
 */
export function faithfulParts(tokenizer: Json): FaithfulParts {
  return {
    normalizer: optional(tokenizer, 'normalizer', normalizer),
    preTokenizer: optional(tokenizer, 'pre_tokenizer', preTokenizer),
    model: bpeModel(member(tokenizer, 'model', 'model')),
  };
}

function normalizer(config: Json, path: string): Json {
  switch (config['type']) {
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD':
      return config;
    case 'Prepend':
      text(config, 'prepend', path);
      return config;
    case 'Replace':
      pattern(config, path);
      text(config, 'content', path);
      return config;
    case 'Sequence':
      return { ...config, normalizers: each(config, 'normalizers', path, normalizer) };
    default:
      throw unsupported(path, `the normalizer ${show(config['type'])} cannot be reproduced exactly`);
  }
}

function preTokenizer(config: Json, path: string): Json {
  switch (config['type']) {
    case 'Sequence':
      return { ...config, pretokenizers: each(config, 'pretokenizers', path, preTokenizer) };
    case 'ByteLevel':
      return byteLevel(config);
    case 'Digits':
      // The library's `\d` knows ASCII digits only; the reference splits at every Unicode number.
      return isolated(config['individual_digits'] === true ? '\\p{N}' : '\\p{N}+');
    case 'Metaspace':
      return metaspace(config, path);
    case 'Split':
      return split(config, path);
    default:
      throw unsupported(path, `the pre-tokenizer ${show(config['type'])} cannot be reproduced exactly`);
  }
}

/** GPT-2's pattern, with the reference's meaning of `\s`: JavaScript's also matches U+FEFF and misses U+0085. */
const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

function byteLevel(config: Json): Json {
  // With a prefix space the order of the two steps matters, so that form stays with the library.
  if (config['use_regex'] === false || config['add_prefix_space'] === true) return config;
  return { type: 'Sequence', pretokenizers: [isolated(GPT2), { ...config, use_regex: false }] };
}

function metaspace(config: Json, path: string): Json {
  if (config['split'] !== false) {
    throw unsupported(`${path}.split`, 'Metaspace that also splits at spaces cannot be reproduced');
  }
  const scheme = config['prepend_scheme'];
  if (!isAbsent(scheme) && scheme !== 'always' && scheme !== 'never' && scheme !== 'first') {
    throw invalid('tokenizer.json', `${path}.prepend_scheme`, `unknown value ${show(scheme)}`);
  }
  // Files from before `prepend_scheme` say the same with `add_prefix_space`, which the library does not read.
  const implied = config['add_prefix_space'] === false ? 'never' : 'always';
  return { ...config, prepend_scheme: scheme ?? implied };
}

function split(config: Json, path: string): Json {
  const source = pattern(config, path);
  const invert = config['invert'] === true;
  const behavior = config['behavior'];
  const exact =
    (behavior === 'Isolated' && !invert) ||
    (behavior === 'Removed' && (invert || (source.regex && !hasCapturingGroup(source.text))));
  if (!exact) {
    const how = `${show(behavior)}${invert ? ' with invert' : ''}`;
    throw unsupported(`${path}.behavior`, `splitting with ${how} cannot be reproduced exactly`);
  }
  return { ...config, invert };
}

function bpeModel(model: Json): Json {
  // Files from before the `type` member can only be told apart by guessing, and a guess may be wrong.
  if (model['type'] !== 'BPE') {
    throw unsupported('model.type', `the model ${show(model['type'])} cannot be reproduced exactly`);
  }
  for (const field of ['continuing_subword_prefix', 'end_of_word_suffix', 'continuing_subword_suffix']) {
    const value = model[field];
    if (!isAbsent(value) && value !== '')
      throw unsupported(`model.${field}`, 'affixes of subwords are not served');
  }
  const dropout = model['dropout'];
  if (!isAbsent(dropout) && dropout !== 0) throw unsupported('model.dropout', 'random merges are not served');
  if (!isJson(model['vocab'])) {
    throw invalid('tokenizer.json', 'model.vocab', `expected an object, found ${show(model['vocab'])}`);
  }
  const merges = model['merges'];
  if (!Array.isArray(merges)) {
    throw invalid('tokenizer.json', 'model.merges', `expected a list, found ${show(merges)}`);
  }
  const paired = Array.isArray(merges[0]);
  for (const [index, merge] of merges.entries()) {
    if (!(paired ? isPair(merge) : typeof merge === 'string' && merge.split(' ').length === 2)) {
      throw invalid('tokenizer.json', `model.merges[${index}]`, `not a pair of tokens: ${show(merge)}`);
    }
  }
  const unk = model['unk_token'];
  if (!isAbsent(unk) && typeof unk !== 'string') {
    throw invalid('tokenizer.json', 'model.unk_token', `expected a text, found ${show(unk)}`);
  }
  return model;
}

function isPair(value: unknown): boolean {
  return Array.isArray(value) && value.length === 2 && value.every((part) => typeof part === 'string');
}

function isolated(regex: string): Json {
  return { type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false };
}

function pattern(config: Json, path: string): { readonly text: string; readonly regex: boolean } {
  const value = config['pattern'];
  if (isJson(value)) {
    const plain = value['String'];
    if (typeof plain === 'string' && plain !== '') return { text: plain, regex: false };
    const regex = value['Regex'];
    if (typeof regex === 'string') {
      checkOniguruma(regex, `${path}.pattern`);
      return { text: regex, regex: true };
    }
  }
  throw invalid('tokenizer.json', `${path}.pattern`, `expected a String or a Regex, found ${show(value)}`);
}

function text(config: Json, field: string, path: string): void {
  if (typeof config[field] !== 'string') {
    throw invalid('tokenizer.json', `${path}.${field}`, `expected a text, found ${show(config[field])}`);
  }
}

function member(config: Json, field: string, path: string): Json {
  const value = config[field];
  if (!isJson(value)) throw invalid('tokenizer.json', path, `expected an object, found ${show(value)}`);
  return value;
}

function optional(config: Json, field: string, read: (config: Json, path: string) => Json): Json | null {
  return isAbsent(config[field]) ? null : read(member(config, field, field), field);
}

function each(
  config: Json,
  field: string,
  path: string,
  read: (config: Json, path: string) => Json,
): readonly Json[] {
  const list = config[field];
  if (!Array.isArray(list)) {
    throw invalid('tokenizer.json', `${path}.${field}`, `expected a list, found ${show(list)}`);
  }
  return list.map((item: unknown, index) => {
    const where = `${path}.${field}[${index}]`;
    if (!isJson(item)) throw invalid('tokenizer.json', where, `expected an object, found ${show(item)}`);
    return read(item, where);
  });
}

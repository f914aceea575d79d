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

/** A token that is found in the text before the model's own merges apply. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Swallows white space before (`lstrip`) or after (`rstrip`) it. */
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  /** Looked for in the normalised text. */
  readonly normalized: boolean;
  /** A control token: never shown, and never taken from the content of a chat message. */
  readonly special: boolean;
}

/** The names by which templates and files refer to special tokens. */
export const SPECIAL_NAMES = [
  'bos_token',
  'eos_token',
  'unk_token',
  'sep_token',
  'pad_token',
  'cls_token',
  'mask_token',
] as const;
export type SpecialName = (typeof SPECIAL_NAMES)[number];

/**
 * Collects the added tokens as transformers does: those of `tokenizer.json`, those that only `added_tokens_decoder`
 * of `tokenizer_config.json` lists, and vocabulary entries that a configuration names as special.
 */
export function collectAddedTokens(
  files: TokenizerFiles,
  vocab: ReadonlyMap<string, number>,
  vocabSize: number,
): readonly AddedToken[] {
  const tokens = new Map<string, AddedToken>();
  const listed = files.tokenizer['added_tokens'] ?? [];
  if (!Array.isArray(listed)) {
    throw invalid('tokenizer.json', 'added_tokens', `expected a list, found ${show(listed)}`);
  }
  for (const [index, item] of listed.entries()) {
    const token = parse(item, 'tokenizer.json', `added_tokens[${index}]`, undefined, vocabSize);
    if (tokens.has(token.content)) {
      throw invalid('tokenizer.json', `added_tokens[${index}]`, `${show(token.content)} is listed twice`);
    }
    tokens.set(token.content, token);
  }
  const decoder = files.tokenizerConfig?.['added_tokens_decoder'];
  if (isJson(decoder)) {
    for (const [key, item] of Object.entries(decoder)) {
      const field = `added_tokens_decoder.${key}`;
      const token = parse(item, 'tokenizer_config.json', field, Number(key), vocabSize);
      if (!tokens.has(token.content)) tokens.set(token.content, token);
    }
  }
  for (const content of namedSpecials(files)) {
    const known = tokens.get(content);
    const id = known?.id ?? vocab.get(content);
    if (id === undefined) continue;
    const fresh = { id, content, lstrip: false, rstrip: false, normalized: false };
    tokens.set(content, { ...(known ?? fresh), special: true });
  }
  checkIds([...tokens.values()], vocab);
  return [...tokens.values()];
}

/** The special tokens by name, from `tokenizer_config.json`, else from `special_tokens_map.json`. */
export function specialNames(files: TokenizerFiles): ReadonlyMap<SpecialName, string> {
  const names = new Map<SpecialName, string>();
  for (const name of SPECIAL_NAMES) {
    const content = contentOf(files.tokenizerConfig?.[name]) ?? contentOf(files.specialTokensMap?.[name]);
    if (content !== null) names.set(name, content);
  }
  return names;
}

function namedSpecials(files: TokenizerFiles): Set<string> {
  const names = new Set(specialNames(files).values());
  for (const source of [files.tokenizerConfig, files.specialTokensMap]) {
    for (const field of ['additional_special_tokens', 'extra_special_tokens']) {
      const list = source?.[field];
      const items: readonly unknown[] = Array.isArray(list) ? list : isJson(list) ? Object.values(list) : [];
      for (const item of items) {
        const content = contentOf(item);
        if (content !== null) names.add(content);
      }
    }
  }
  return names;
}

/** Special tokens are written as a text or as an object with `content`. */
function contentOf(value: unknown): string | null {
  const content = isJson(value) ? value['content'] : value;
  return typeof content === 'string' && content !== '' ? content : null;
}

function parse(
  item: unknown,
  file: string,
  field: string,
  keyed: number | undefined,
  vocabSize: number,
): AddedToken {
  if (!isJson(item)) throw invalid(file, field, `expected an object, found ${show(item)}`);
  const content = item['content'];
  if (typeof content !== 'string' || content === '') {
    throw invalid(file, `${field}.content`, `expected a text, found ${show(content)}`);
  }
  if (flag(item, 'single_word', file, field, false)) {
    throw unsupported(field, `the token ${show(content)} matches whole words only, which is not served`);
  }
  const special = flag(item, 'special', file, field, false);
  return {
    id: tokenId(file, `${field}.id`, keyed ?? item['id'], vocabSize),
    content,
    lstrip: flag(item, 'lstrip', file, field, false),
    rstrip: flag(item, 'rstrip', file, field, false),
    normalized: flag(item, 'normalized', file, field, !special),
    special,
  };
}

function flag(item: Json, name: string, file: string, field: string, fallback: boolean): boolean {
  const value = item[name];
  if (isAbsent(value)) return fallback;
  if (typeof value !== 'boolean') {
    throw invalid(file, `${field}.${name}`, `expected true or false, found ${show(value)}`);
  }
  return value;
}

function checkIds(tokens: readonly AddedToken[], vocab: ReadonlyMap<string, number>): void {
  const owners = new Map<number, string>();
  for (const [content, id] of vocab) owners.set(id, content);
  for (const token of tokens) {
    const other = owners.get(token.id);
    const inVocab = vocab.get(token.content);
    if ((other !== undefined && other !== token.content) || (inVocab !== undefined && inVocab !== token.id)) {
      const clash = other === undefined ? `the id ${inVocab}` : `${show(other)}`;
      const why = `${show(token.content)} with id ${token.id} contradicts ${clash}`;
      throw invalid('tokenizer.json', 'added_tokens', why);
    }
    owners.set(token.id, token.content);
  }
}

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PatchbayError } from '../../kernel/errors.ts';

/** A parsed JSON object whose members are not checked yet. */
export type Json = Readonly<Record<string, unknown>>;

/** The files of a checkpoint folder that say how text becomes tokens; null where a file does not exist. */
export interface TokenizerFiles {
  /** `tokenizer.json` */
  readonly tokenizer: Json;
  /** `tokenizer_config.json` */
  readonly tokenizerConfig: Json | null;
  /** `special_tokens_map.json` */
  readonly specialTokensMap: Json | null;
  /** `generation_config.json` */
  readonly generationConfig: Json | null;
  /** `config.json` */
  readonly config: Json | null;
  /** `chat_template.jinja`; it wins over the template in `tokenizer_config.json`, as in transformers. */
  readonly chatTemplate: string | null;
}

/** Reads the text-related files of a checkpoint folder. Only `tokenizer.json` must exist. */
export function readTokenizerFiles(dir: string): TokenizerFiles {
  const tokenizer = readJson(dir, 'tokenizer.json');
  if (tokenizer === null) {
    throw new PatchbayError('FILE_MISSING', 'The checkpoint has no tokenizer.json.', {
      fix: 'Save the fast tokenizer beside the weights: AutoTokenizer.from_pretrained(…).save_pretrained(…).',
    });
  }
  return {
    tokenizer,
    tokenizerConfig: readJson(dir, 'tokenizer_config.json'),
    specialTokensMap: readJson(dir, 'special_tokens_map.json'),
    generationConfig: readJson(dir, 'generation_config.json'),
    config: readJson(dir, 'config.json'),
    chatTemplate: readText(dir, 'chat_template.jinja'),
  };
}

/** An error about a damaged text-related file: it names the file and the field. */
export function invalid(file: string, field: string, why: string, cause?: unknown): PatchbayError {
  return new PatchbayError('BACKBONE_INVALID', `${file}: ${field}: ${why}.`, {
    field,
    meta: { file },
    ...(cause === undefined ? {} : { cause }),
  });
}

/** An error about a construct that could not be tokenised exactly as the reference implementation does it. */
export function unsupported(field: string, why: string, cause?: unknown): PatchbayError {
  return new PatchbayError('BACKBONE_UNSUPPORTED', `tokenizer.json: ${field}: ${why}.`, {
    field,
    meta: { file: 'tokenizer.json' },
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Whether a value is a plain JSON object. */
export function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Whether a member counts as absent. */
export function isAbsent(value: unknown): value is null | undefined {
  return value === undefined || value === null;
}

/** A value shortened for an error message. */
export function show(value: unknown): string {
  const text = JSON.stringify(value ?? null) ?? 'nothing';
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}

/** Checks a token id that a file states. */
export function tokenId(file: string, field: string, value: unknown, vocabSize: number): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw invalid(file, field, `expected a token id, found ${show(value)}`);
  }
  if (value >= vocabSize) {
    throw invalid(file, field, `the token id ${value} is not below the vocabulary size ${vocabSize}`);
  }
  return value;
}

function readJson(dir: string, file: string): Json | null {
  const text = readText(dir, file);
  if (text === null) return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw invalid(file, 'document', 'the file is not valid JSON', cause);
  }
  if (!isJson(value)) throw invalid(file, 'document', `expected an object, found ${show(value)}`);
  return value;
}

function readText(dir: string, file: string): string | null {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(join(dir, file));
  } catch (cause) {
    if (isErrno(cause) && (cause.code === 'ENOENT' || cause.code === 'ENOTDIR')) return null;
    throw invalid(file, 'document', 'the file cannot be read', cause);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw invalid(file, 'document', 'the file is not valid UTF-8', cause);
  }
}

function isErrno(value: unknown): value is NodeJS.ErrnoException {
  return value instanceof Error && 'code' in value;
}

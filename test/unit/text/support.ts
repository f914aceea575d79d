import { readFileSync } from 'node:fs';
import { Tokenizer } from '@huggingface/tokenizers';
import type { Json, TokenizerFiles } from '../../../src/backbone/text/files.ts';
import { BackboneTokenizer } from '../../../src/backbone/text/tokenizer.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';

/** Texts with characters of one to four bytes, joiners, combining marks and right-to-left script. */
export const TEXTS = [
  "Hello, world! It isn't over.",
  '  two  spaces\n\n\ttab ',
  '你好，世界。这是一个测试。',
  'مرحبا بالعالم ١٢٣',
  '👩‍👩‍👧‍👦 family 🏳️‍🌈 flag 😀',
  'e\u0301 é naïve Straße 12345 ½',
  '\u0000\u0085\ufeff\ufffd end',
  '',
] as const;

export const GOLDEN = new URL('../../fixtures/golden/', import.meta.url);

export function parseJson(url: URL): Json {
  const value: Json = JSON.parse(readFileSync(url, 'utf8'));
  return value;
}

export function files(tokenizer: Json, others: Partial<TokenizerFiles> = {}): TokenizerFiles {
  return {
    tokenizer,
    tokenizerConfig: null,
    specialTokensMap: null,
    generationConfig: null,
    config: null,
    chatTemplate: null,
    ...others,
  };
}

export function special(id: number, content: string, more: Json = {}): Json {
  return {
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
    ...more,
  };
}

/** A byte-level BPE with a few merges, also inside of and across multi-byte characters, as Llama 3's or Qwen's. */
export function byteLevelJson(specials: readonly string[] = [], more: Json = {}): Json {
  const alphabet = Array.from({ length: 256 }, (_, byte) => byteChar(byte));
  const merges: [string, string][] = [];
  const vocab = new Map(alphabet.map((char, id) => [char, id]));
  const learn = (text: string): void => {
    const chars = [...new TextEncoder().encode(text)].map(byteChar);
    let left = chars[0] ?? '';
    for (const right of chars.slice(1)) {
      if (!vocab.has(left + right)) {
        merges.push([left, right]);
        vocab.set(left + right, vocab.size);
      }
      left += right;
    }
  };
  for (const word of ['Hello', ' world', 'end', '你好', '世', '😀', ' مرحبا', '\n\n', '|>']) learn(word);
  // A token that ends inside of a character: the bytes of `世` without the last, and its last with a space.
  learn('界'.slice(0, 1));
  const first = vocab.size;
  return {
    version: '1.0',
    added_tokens: specials.map((content, index) => special(first + index, content)),
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', unk_token: null, byte_fallback: false, vocab: Object.fromEntries(vocab), merges },
    ...more,
  };
}

function byteChar(byte: number): string {
  const printable = (b: number): boolean =>
    (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
  if (printable(byte)) return String.fromCharCode(byte);
  let shifted = 256;
  for (let other = 0; other < byte; other += 1) if (!printable(other)) shifted += 1;
  return String.fromCharCode(shifted);
}

/** The library's own decoding of the whole, which streams must equal; ids without a token have no text. */
export function wholeDecoder(tokenizer: Json, config: Json = {}): (ids: readonly number[]) => string {
  const library = new Tokenizer(tokenizer, config);
  return (ids) => {
    const known = ids.filter((id) => library.id_to_token(id) !== undefined);
    if (known.length === 0) return '';
    return library.decode(known, { skip_special_tokens: true, clean_up_tokenization_spaces: false });
  };
}

export function make(
  tokenizer: Json,
  others: Partial<TokenizerFiles> = {},
  vocabSize = 10_000,
): BackboneTokenizer {
  return new BackboneTokenizer(files(tokenizer, others), { vocabSize });
}

/** The error that a function throws. */
export function caught(run: () => unknown): PatchbayError {
  try {
    run();
  } catch (error) {
    if (error instanceof PatchbayError) return error;
    throw error;
  }
  throw new Error('expected an error');
}

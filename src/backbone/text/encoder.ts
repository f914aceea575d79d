import { Tokenizer } from '@huggingface/tokenizers';
import { PatchbayError } from '../../kernel/errors.ts';
import type { AddedToken } from './added-tokens.ts';
import { type FaithfulParts, faithfulParts } from './faithful.ts';
import { invalid, type Json, unsupported } from './files.ts';

/** A half-open range of UTF-16 positions in a text. */
export interface TextRange {
  readonly start: number;
  readonly end: number;
}

/**
 * Turns text into ids with the library's normaliser, pre-tokeniser and merges. Added tokens are found here and not
 * by the library, because it cannot be told that a special token counts in one place of a text and not in another.
 */
export class Encoder {
  readonly #library: Tokenizer;
  readonly #model: NonNullable<Tokenizer['model']>;
  readonly #raw: Matcher;
  readonly #normalized: Matcher;
  readonly #special: ReadonlySet<number>;

  constructor(tokenizer: Json, added: readonly AddedToken[]) {
    const parts = faithfulParts(tokenizer);
    this.#library = loadLibrary(parts);
    const model = this.#library.model;
    if (model === null) throw invalid('tokenizer.json', 'model', 'the library made no model of it');
    this.#model = model;
    const normalizer = this.#library.normalizer;
    // Special tokens are always found in the text as written. The reference looks for those that are marked
    // `normalized` in the normalised text instead, where Llama 1's `</s>` is famously missed after a letter.
    const isRaw = (token: AddedToken): boolean => normalizer === null || !token.normalized || token.special;
    this.#raw = new Matcher(added.filter(isRaw).map((token) => ({ token, text: token.content })));
    const late = added.filter((token) => !isRaw(token));
    this.#normalized = new Matcher(
      late.map((token) => ({ token, text: normalizer?.normalize(token.content) ?? token.content })),
    );
    this.#special = new Set(added.filter((token) => token.special).map((token) => token.id));
  }

  /**
   * Encodes a text without adding anything. Inside of the shielded ranges special tokens are ordinary text, also
   * where one would only touch a range; added tokens that are not special count everywhere, as vocabulary does.
   */
  encode(text: string, shielded: readonly TextRange[]): number[] {
    const ids: number[] = [];
    for (const [index, section] of this.#raw.split(text, shielded).entries()) {
      if (typeof section !== 'string') ids.push(section.id);
      else this.#encodeSection(section, index === 0, ids);
    }
    return ids;
  }

  #encodeSection(section: string, first: boolean, ids: number[]): void {
    const normalized = this.#library.normalizer?.normalize(section) ?? section;
    for (const [index, piece] of this.#normalized.split(normalized, []).entries()) {
      if (typeof piece !== 'string') {
        ids.push(piece.id);
        continue;
      }
      // Metaspace with `prepend_scheme: first` asks whether the piece opens the text.
      const options = { section_index: first && index === 0 ? 0 : 1 };
      const words = this.#library.pre_tokenizer?.pre_tokenize(piece, options) ?? [piece];
      for (const token of this.#model._call(words)) this.#pushToken(token, ids);
    }
  }

  #pushToken(token: string, ids: number[]): void {
    const unk = this.#model.unk_token_id;
    const id = this.#model.tokens_to_ids.get(token) ?? unk;
    if (id === undefined) return;
    if (id === unk || !this.#special.has(id)) {
      ids.push(id);
      return;
    }
    // Merges can spell a special token (converted SentencePiece vocabularies have such merges). Text that was not
    // recognised as one must not become one this way, so it is spelled character by character.
    for (const char of token) {
      for (const part of this.#model._call([char])) {
        const partId = this.#model.tokens_to_ids.get(part) ?? unk;
        if (partId === undefined) continue;
        if (partId !== unk && this.#special.has(partId)) {
          throw new PatchbayError('CHAT_TEMPLATE', 'A message contains a one-character special token.', {
            fix: 'Remove the character from the message: the vocabulary has no other way to write it.',
          });
        }
        ids.push(partId);
      }
    }
  }
}

function loadLibrary(parts: FaithfulParts): Tokenizer {
  const config = {
    added_tokens: [],
    normalizer: parts.normalizer,
    pre_tokenizer: parts.preTokenizer,
    model: parts.model,
    post_processor: null,
    decoder: null,
  };
  try {
    return new Tokenizer(config, {});
  } catch (cause) {
    // The library throws SyntaxError for regular expressions that it cannot translate.
    if (cause instanceof SyntaxError) {
      throw unsupported('pre_tokenizer', `a regular expression is not served (${cause.message})`, cause);
    }
    throw invalid('tokenizer.json', 'document', 'the tokenizer library rejects it', cause);
  }
}

interface Pattern {
  readonly token: AddedToken;
  readonly text: string;
}

/** Finds added tokens, the leftmost and there the longest first. */
class Matcher {
  readonly #byFirst = new Map<string, Pattern[]>();

  constructor(patterns: readonly Pattern[]) {
    for (const pattern of [...patterns].sort((a, b) => b.text.length - a.text.length)) {
      const first = pattern.text.charAt(0);
      const list = this.#byFirst.get(first);
      if (list === undefined) this.#byFirst.set(first, [pattern]);
      else list.push(pattern);
    }
  }

  /** The non-empty texts between tokens, and the tokens. */
  split(text: string, shielded: readonly TextRange[]): (string | AddedToken)[] {
    const sections: (string | AddedToken)[] = [];
    let from = 0;
    let at = 0;
    let shield = 0;
    while (at < text.length) {
      while (shield < shielded.length && (shielded[shield]?.end ?? 0) <= at) shield += 1;
      const found = this.#match(text, at, shielded[shield]);
      if (found === null) {
        at += 1;
        continue;
      }
      let start = at;
      if (found.token.lstrip) while (start > from && isSpace(text.charAt(start - 1))) start -= 1;
      if (start > from) sections.push(text.slice(from, start));
      sections.push(found.token);
      at += found.text.length;
      if (found.token.rstrip) while (at < text.length && isSpace(text.charAt(at))) at += 1;
      from = at;
    }
    if (from < text.length) sections.push(text.slice(from));
    return sections;
  }

  #match(text: string, at: number, shield: TextRange | undefined): Pattern | null {
    for (const pattern of this.#byFirst.get(text.charAt(at)) ?? []) {
      if (!text.startsWith(pattern.text, at)) continue;
      // Ranges are in order, so only the next one that ends behind `at` can overlap.
      const overlaps = shield !== undefined && shield.start < at + pattern.text.length;
      if (!(overlaps && pattern.token.special)) return pattern;
    }
    return null;
  }
}

function isSpace(char: string): boolean {
  return /^\p{White_Space}$/u.test(char);
}

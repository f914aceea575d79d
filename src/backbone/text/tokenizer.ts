import { type AddedToken, collectAddedTokens, type SpecialName, specialNames } from './added-tokens.ts';
import { compileDecoder, type Stage } from './decode-stages.ts';
import { Encoder, type TextRange } from './encoder.ts';
import { invalid, isJson, readTokenizerFiles, show, type TokenizerFiles, tokenId } from './files.ts';
import { type Framing, namedId, readBosId, readEosIds, readFraming } from './framing.ts';
import { createStreamDecoderFactory, type DecodingSource } from './stream-decoder.ts';
import { type ChatTemplates, readChatTemplates } from './templates.ts';

/** Options of {@link loadTokenizer}. */
export interface TokenizerOptions {
  /** Rows of the backbone's embedding; every id of every file must be below it. */
  readonly vocabSize: number;
}

/**
 * A backbone's tokenizer. It gives the ids that Hugging Face's Rust tokenizer gives, or refuses to load; it never
 * approximates silently.
 */
export class BackboneTokenizer implements DecodingSource {
  /** Ids of control tokens: skipped in output, and never made of the content of a chat message. */
  readonly specialIds: ReadonlySet<number>;
  readonly bosId: number | null;
  /** Ids that end a generation; empty when the checkpoint names none. */
  readonly eosIds: readonly number[];
  /** Texts of `bos_token`, `eos_token`, … as chat templates see them. */
  readonly specials: Readonly<Partial<Record<SpecialName, string>>>;
  /** Contents of all special tokens. */
  readonly specialTexts: readonly string[];
  readonly chatTemplates: ChatTemplates | null;
  readonly vocabSize: number;
  readonly #encoder: Encoder;
  readonly #framing: Framing;
  readonly #tokens: ReadonlyMap<number, AddedToken | string>;
  readonly #ids: ReadonlyMap<string, number>;
  readonly #stages: readonly (() => Stage)[];

  /** @param files Parsed files of a checkpoint; {@link loadTokenizer} reads them from a folder. */
  constructor(files: TokenizerFiles, options: TokenizerOptions) {
    const { vocabSize } = options;
    this.vocabSize = vocabSize;
    const vocab = readVocab(files, vocabSize);
    const added = collectAddedTokens(files, vocab, vocabSize);
    this.#encoder = new Encoder(files.tokenizer, added);
    this.#stages = compileDecoder(files.tokenizer['decoder']);
    const ids = new Map(vocab);
    const tokens = new Map<number, AddedToken | string>();
    for (const [token, id] of vocab) tokens.set(id, token);
    for (const token of added) {
      tokens.set(token.id, token);
      ids.set(token.content, token.id);
    }
    this.#tokens = tokens;
    this.#ids = ids;
    const special = added.filter((token) => token.special);
    this.specialIds = new Set(special.map((token) => token.id));
    this.specialTexts = special.map((token) => token.content);
    const names = specialNames(files);
    const idOf = (token: string): number | null => this.idOf(token);
    this.bosId = readBosId(files, names, idOf, vocabSize);
    this.eosIds = readEosIds(files, names, idOf, vocabSize);
    this.specials = Object.fromEntries(names);
    const eosId = namedId('eos_token', names, idOf) ?? this.eosIds[0] ?? null;
    this.#framing = readFraming(files, idOf, this.bosId, eosId, vocabSize);
    this.chatTemplates = readChatTemplates(files);
  }

  /** The id of a token by its text in the vocabulary, or null. */
  idOf(token: string): number | null {
    return this.#ids.get(token) ?? null;
  }

  /**
   * Encodes a text. Special tokens in it are parsed, so it must be the operator's or the caller's own; with
   * `addSpecialTokens` the tokenizer's BOS and EOS are put around it, even where the text has its own.
   */
  encode(text: string, options: { readonly addSpecialTokens: boolean }): number[] {
    const ids = this.#encoder.encode(text, []);
    return options.addSpecialTokens ? [...this.#framing.prefix, ...ids, ...this.#framing.suffix] : ids;
  }

  /**
   * Encodes a text without BOS or EOS in which special tokens count as plain text wherever they touch one of the
   * ranges (sorted, not overlapping).
   */
  encodeShielded(text: string, shielded: readonly TextRange[]): number[] {
    return this.#encoder.encode(text, shielded);
  }

  /**
   * Encodes a raw prompt, which is the caller's own: special tokens in it are parsed. BOS goes in front as the
   * tokenizer says, unless the prompt starts with it (a prompt that the caller rendered with a chat template does).
   * A framing EOS is left out, since the model is to continue the prompt.
   */
  encodePrompt(prompt: string): number[] {
    const ids = this.#encoder.encode(prompt, []);
    const prefix = this.#framing.prefix;
    const doubled = prefix.length > 0 && prefix.every((id, index) => ids[index] === id);
    return doubled ? ids : [...prefix, ...ids];
  }

  /** The whole text of a sequence, without special tokens and without cleaning up spaces. */
  decode(ids: readonly number[]): string {
    const stream = createStreamDecoderFactory(this)();
    return stream.push(ids) + stream.end();
  }

  visibleToken(id: number): { readonly text: string; readonly literal: boolean } | null {
    const token = this.#tokens.get(id);
    // Embeddings are often padded, so a model can sample an id that no token has; it has no text.
    if (token === undefined || this.specialIds.has(id)) return null;
    return typeof token === 'string'
      ? { text: token, literal: false }
      : { text: token.content, literal: true };
  }

  stages(): readonly Stage[] {
    return this.#stages.map((create) => create());
  }
}

/**
 * Loads `tokenizer.json` and, where they exist, `tokenizer_config.json`, `special_tokens_map.json`,
 * `generation_config.json`, `config.json` and `chat_template.jinja` from a checkpoint folder. A malformed file is
 * `BACKBONE_INVALID`; something that cannot be tokenised exactly is `BACKBONE_UNSUPPORTED`. Both name file and field.
 */
export function loadTokenizer(dir: string, options: TokenizerOptions): BackboneTokenizer {
  return new BackboneTokenizer(readTokenizerFiles(dir), options);
}

function readVocab(files: TokenizerFiles, vocabSize: number): ReadonlyMap<string, number> {
  const model = files.tokenizer['model'];
  const vocab = isJson(model) ? model['vocab'] : undefined;
  const table = new Map<string, number>();
  // Another kind of model keeps its vocabulary as a list; the encoder's checks refuse it by its name.
  if (!isJson(vocab)) return table;
  const owners = new Map<number, string>();
  for (const [token, value] of Object.entries(vocab)) {
    const id = tokenId('tokenizer.json', `model.vocab[${show(token)}]`, value, vocabSize);
    const other = owners.get(id);
    if (other !== undefined) {
      const why = `${show(token)} and ${show(other)} share the id ${id}`;
      throw invalid('tokenizer.json', 'model.vocab', why);
    }
    owners.set(id, token);
    table.set(token, id);
  }
  return table;
}

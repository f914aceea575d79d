/** A JSON value whose objects are maps, so that a hostile key such as `__proto__` is only ever a key. */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;
/** A JSON object in the order of its text. */
export type JsonObject = ReadonlyMap<string, JsonValue>;

/** Whether the value is an object. */
export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return value instanceof Map;
}

/** Whether the value is an array. */
export function isJsonArray(value: JsonValue | undefined): value is readonly JsonValue[] {
  return Array.isArray(value);
}

/** Bounds of {@link parseStrictJson}. */
export interface StrictJsonLimits {
  /** Most arrays and objects inside one another. */
  readonly maxDepth: number;
  /** Refuse numbers with a fraction or an exponent. */
  readonly integersOnly: boolean;
}

/** Why a text was refused; callers turn it into a code of their own domain. */
export class StrictJsonError extends Error {
  /** Character position in the text. */
  readonly position: number;
  /** The key that occurs twice in one object, when that is the reason. */
  readonly duplicateKey: string | undefined;
  /** How many arrays and objects enclose the place, when a key occurs twice. */
  readonly depth: number;

  constructor(
    message: string,
    position: number,
    duplicate?: { readonly key: string; readonly depth: number },
  ) {
    super(message);
    this.name = 'StrictJsonError';
    this.position = position;
    this.duplicateKey = duplicate?.key;
    this.depth = duplicate?.depth ?? 0;
  }
}

/**
 * Decodes UTF-8 and parses RFC 8259 JSON strictly. `JSON.parse` keeps the last of two equal keys, so two readers of
 * one hostile file may see different contents; here a second equal key is an error. Byte-order marks, invalid UTF-8
 * and lone surrogates (escaped or not) are errors as well, because names are compared and hashed as UTF-8.
 */
export function parseStrictJson(bytes: Uint8Array, limits: StrictJsonLimits): JsonValue {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new StrictJsonError('the text is not valid UTF-8', 0);
  }
  return new Scanner(text, limits).document();
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
// Everything that a string may contain without an escape, up to the next character that needs attention.
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids raw control characters in strings
const PLAIN_RUN = /[^"\\\u0000-\u001f]*/y;
const HEX4 = /[0-9a-fA-F]{4}/y;
const LONE_SURROGATE = /\p{Surrogate}/u;
const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['"', '"'],
  ['\\', '\\'],
  ['/', '/'],
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
]);

class Scanner {
  readonly #text: string;
  readonly #limits: StrictJsonLimits;
  #at = 0;

  constructor(text: string, limits: StrictJsonLimits) {
    this.#text = text;
    this.#limits = limits;
  }

  document(): JsonValue {
    const value = this.#value(0);
    this.#space();
    if (this.#at !== this.#text.length) this.#fail('text follows the value');
    return value;
  }

  #fail(message: string): never {
    throw new StrictJsonError(`${message} at character ${this.#at}`, this.#at);
  }

  #space(): void {
    for (;;) {
      const code = this.#text.charCodeAt(this.#at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
      this.#at++;
    }
  }

  #value(depth: number): JsonValue {
    this.#space();
    switch (this.#text[this.#at]) {
      case '{':
        return this.#object(depth + 1);
      case '[':
        return this.#array(depth + 1);
      case '"':
        return this.#string();
      case 't':
        return this.#word('true', true);
      case 'f':
        return this.#word('false', false);
      case 'n':
        return this.#word('null', null);
      default:
        return this.#number();
    }
  }

  #word<T extends JsonValue>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) this.#fail('unexpected text');
    this.#at += word.length;
    return value;
  }

  #number(): number {
    NUMBER.lastIndex = this.#at;
    const match = NUMBER.exec(this.#text);
    if (match === null) this.#fail(this.#at >= this.#text.length ? 'the text ends early' : 'unexpected text');
    const [token, fraction, exponent] = match;
    if (this.#limits.integersOnly && (fraction !== undefined || exponent !== undefined)) {
      this.#fail('a number is not an integer');
    }
    const value = Number(token);
    if (!Number.isFinite(value)) this.#fail('a number is too large');
    this.#at += token.length;
    return value;
  }

  #string(): string {
    this.#at++;
    let out = '';
    for (;;) {
      PLAIN_RUN.lastIndex = this.#at;
      const run = PLAIN_RUN.exec(this.#text)?.[0] ?? '';
      out += run;
      this.#at += run.length;
      const next = this.#text[this.#at];
      if (next === '"') {
        this.#at++;
        if (LONE_SURROGATE.test(out)) this.#fail('a string has half a surrogate pair');
        return out;
      }
      if (next !== '\\') this.#fail('a string is not closed or has a raw control character');
      out += this.#escape();
    }
  }

  #escape(): string {
    const letter = this.#text[this.#at + 1] ?? '';
    const plain = ESCAPES.get(letter);
    if (plain !== undefined) {
      this.#at += 2;
      return plain;
    }
    HEX4.lastIndex = this.#at + 2;
    const hex = letter === 'u' ? HEX4.exec(this.#text)?.[0] : undefined;
    if (hex === undefined) this.#fail('a string has an unknown escape');
    this.#at += 6;
    return String.fromCharCode(Number.parseInt(hex, 16));
  }

  #array(depth: number): readonly JsonValue[] {
    this.#enter(depth);
    const items: JsonValue[] = [];
    this.#space();
    if (this.#text[this.#at] === ']') {
      this.#at++;
      return items;
    }
    for (;;) {
      items.push(this.#value(depth));
      if (this.#closes(']')) return items;
    }
  }

  #object(depth: number): JsonObject {
    this.#enter(depth);
    const entries = new Map<string, JsonValue>();
    this.#space();
    if (this.#text[this.#at] === '}') {
      this.#at++;
      return entries;
    }
    for (;;) {
      this.#space();
      const start = this.#at;
      if (this.#text[start] !== '"') this.#fail('a key is not a string');
      const key = this.#string();
      if (entries.has(key)) {
        throw new StrictJsonError(`the key "${clip(key)}" occurs twice`, start, { key: clip(key), depth });
      }
      this.#space();
      if (this.#text[this.#at] !== ':') this.#fail('a key has no value');
      this.#at++;
      entries.set(key, this.#value(depth));
      if (this.#closes('}')) return entries;
    }
  }

  #enter(depth: number): void {
    if (depth > this.#limits.maxDepth) this.#fail(`values are nested deeper than ${this.#limits.maxDepth}`);
    this.#at++;
  }

  /** Consumes a comma or the closing bracket; whether it was the bracket. */
  #closes(bracket: ']' | '}'): boolean {
    this.#space();
    const next = this.#text[this.#at];
    if (next !== ',' && next !== bracket) this.#fail('a comma or a closing bracket is missing');
    this.#at++;
    return next === bracket;
  }
}

/** Shortens and cleans text from a hostile file so that it can be quoted in a message or a log line. */
export function clip(text: string): string {
  const printable = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '�');
  return printable.length <= 120 ? printable : `${printable.slice(0, 119)}…`;
}

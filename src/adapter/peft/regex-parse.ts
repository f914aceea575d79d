/** Parses the subset of regular expressions that `regex.ts` describes. */

/** Thrown for a pattern outside of the subset or its bounds. */
export class RegexUnsupported extends Error {}

const MAX_PATTERN_CHARS = 512;
const MAX_REPEAT = 100;
const MAX_GROUP_DEPTH = 32;

/** Whether a character (by its code) belongs to a set. */
export type CharTest = (code: number) => boolean;

/** A parsed expression. */
export type RegexNode =
  | { readonly kind: 'char'; readonly test: CharTest }
  | { readonly kind: 'start' }
  | { readonly kind: 'end' }
  | { readonly kind: 'sequence'; readonly items: readonly RegexNode[] }
  | { readonly kind: 'either'; readonly items: readonly RegexNode[] }
  | { readonly kind: 'repeat'; readonly item: RegexNode; readonly min: number; readonly max: number };

/** Parses a pattern, or throws {@link RegexUnsupported}. */
export function parseRegex(pattern: string): RegexNode {
  if (pattern.length > MAX_PATTERN_CHARS) {
    throw new RegexUnsupported(`it is longer than ${MAX_PATTERN_CHARS} characters`);
  }
  return new Parser(pattern).parse();
}

const digit: CharTest = (c) => c >= 0x30 && c <= 0x39;
const word: CharTest = (c) => digit(c) || (c >= 0x41 && c <= 0x5a) || (c >= 0x61 && c <= 0x7a) || c === 0x5f;
const space: CharTest = (c) => c === 0x20 || (c >= 0x09 && c <= 0x0d);
const not =
  (test: CharTest): CharTest =>
  (c) =>
    !test(c);

class Parser {
  readonly #chars: readonly string[];
  #at = 0;
  #depth = 0;

  constructor(pattern: string) {
    // Module names are ASCII. Refusing the rest spares the question how another engine classifies it.
    if (/[^\u0020-\u007e]/.test(pattern))
      throw new RegexUnsupported('it has characters outside of printable ASCII');
    this.#chars = [...pattern];
  }

  parse(): RegexNode {
    const node = this.#either();
    if (this.#at < this.#chars.length) throw new RegexUnsupported('a parenthesis is not opened');
    return node;
  }

  #peek(): string | undefined {
    return this.#chars[this.#at];
  }

  #take(text: string): boolean {
    if (this.#chars.slice(this.#at, this.#at + text.length).join('') !== text) return false;
    this.#at += text.length;
    return true;
  }

  #either(): RegexNode {
    const items = [this.#sequence()];
    while (this.#take('|')) items.push(this.#sequence());
    const [only] = items;
    return items.length === 1 && only !== undefined ? only : { kind: 'either', items };
  }

  #sequence(): RegexNode {
    const items: RegexNode[] = [];
    for (let next = this.#peek(); next !== undefined && next !== '|' && next !== ')'; next = this.#peek()) {
      items.push(this.#quantified());
    }
    return { kind: 'sequence', items };
  }

  #quantified(): RegexNode {
    const item = this.#atom();
    const bounds = this.#quantifier();
    if (bounds === null) return item;
    if (item.kind === 'start' || item.kind === 'end') throw new RegexUnsupported('an anchor is repeated');
    // Laziness changes what groups capture, never whether the whole text matches.
    this.#take('?');
    const next = this.#peek();
    if (next === '*' || next === '+' || next === '?' || next === '{') {
      throw new RegexUnsupported('a quantifier is repeated or possessive');
    }
    return { kind: 'repeat', item, ...bounds };
  }

  #quantifier(): { min: number; max: number } | null {
    if (this.#take('*')) return { min: 0, max: Number.POSITIVE_INFINITY };
    if (this.#take('+')) return { min: 1, max: Number.POSITIVE_INFINITY };
    if (this.#take('?')) return { min: 0, max: 1 };
    if (!this.#take('{')) return null;
    const rest = this.#chars.slice(this.#at).join('');
    const match = /^(\d{1,3})(,(\d{0,3}))?\}/.exec(rest);
    if (match === null) throw new RegexUnsupported('a brace is not a simple repetition');
    this.#at += match[0].length;
    const min = Number(match[1]);
    const max = match[2] === undefined ? min : match[3] ? Number(match[3]) : Number.POSITIVE_INFINITY;
    if (max < min) throw new RegexUnsupported('a repetition is upside down');
    if (min > MAX_REPEAT || (Number.isFinite(max) && max > MAX_REPEAT)) {
      throw new RegexUnsupported(`a repetition exceeds ${MAX_REPEAT}`);
    }
    return { min, max };
  }

  #atom(): RegexNode {
    const char = this.#chars[this.#at++] ?? '';
    switch (char) {
      case '(':
        return this.#group();
      case '[':
        return { kind: 'char', test: this.#charClass() };
      case '\\':
        return { kind: 'char', test: this.#escape() };
      case '.':
        return { kind: 'char', test: (c) => c !== 0x0a };
      case '^':
        return { kind: 'start' };
      case '$':
        return { kind: 'end' };
      case '*':
      case '+':
      case '?':
      case '{':
      case '}':
      case ']':
        throw new RegexUnsupported(`"${char}" stands alone`);
      default: {
        const code = char.charCodeAt(0);
        return { kind: 'char', test: (c) => c === code };
      }
    }
  }

  #group(): RegexNode {
    if (this.#peek() === '?' && !this.#take('?:'))
      throw new RegexUnsupported('a group is neither plain nor (?:…)');
    if (++this.#depth > MAX_GROUP_DEPTH) throw new RegexUnsupported('groups are nested too deep');
    const node = this.#either();
    this.#depth--;
    if (!this.#take(')')) throw new RegexUnsupported('a parenthesis is not closed');
    return node;
  }

  #escape(): CharTest {
    const char = this.#chars[this.#at++];
    switch (char) {
      case 'd':
        return digit;
      case 'D':
        return not(digit);
      case 'w':
        return word;
      case 'W':
        return not(word);
      case 's':
        return space;
      case 'S':
        return not(space);
    }
    // Other letters and digits are back-references, boundaries and flags of some engine.
    if (char === undefined || /[A-Za-z0-9]/.test(char))
      throw new RegexUnsupported('an escape is not supported');
    const code = char.charCodeAt(0);
    return (c) => c === code;
  }

  #charClass(): CharTest {
    const negated = this.#take('^');
    const tests: CharTest[] = [];
    for (let first = true; ; first = false) {
      const char = this.#chars[this.#at];
      if (char === undefined) throw new RegexUnsupported('a bracket is not closed');
      if (char === ']' && !first) break;
      // Python warns that these may become set operations; their meaning is not settled.
      if (char === '[' || (/[-&~|]/.test(char) && this.#chars[this.#at + 1] === char)) {
        throw new RegexUnsupported('a class has a nested set');
      }
      tests.push(this.#classItem());
    }
    this.#at++;
    const any: CharTest = (c) => tests.some((test) => test(c));
    return negated ? not(any) : any;
  }

  #classItem(): CharTest {
    const char = this.#chars[this.#at++] ?? '';
    if (char === '\\') {
      const test = this.#escape();
      if (this.#peek() === '-' && this.#chars[this.#at + 1] !== ']') {
        throw new RegexUnsupported('a range starts with an escape');
      }
      return test;
    }
    const low = char.charCodeAt(0);
    const bound = this.#chars[this.#at + 1];
    if (this.#peek() !== '-' || bound === undefined || bound === ']') return (c) => c === low;
    if (bound === '\\' || bound === '[') throw new RegexUnsupported('a range ends with an escape');
    this.#at += 2;
    const high = bound.charCodeAt(0);
    if (high < low) throw new RegexUnsupported('a range is upside down');
    return (c) => c >= low && c <= high;
  }
}

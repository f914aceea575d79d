import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  clip,
  isJsonObject,
  type JsonValue,
  parseStrictJson,
  StrictJsonError,
} from '../../../src/safetensors/json.ts';

const LIMITS = { maxDepth: 64, integersOnly: false };
const parse = (text: string): JsonValue => parseStrictJson(Buffer.from(text, 'utf8'), LIMITS);

/** The value as JSON.parse would give it; a key `__proto__` stays an own property. */
function plain(value: JsonValue): unknown {
  if (isJsonObject(value)) {
    const out: Record<string, unknown> = {};
    for (const [key, item] of value) {
      Object.defineProperty(out, key, {
        value: plain(item),
        enumerable: true,
        configurable: true,
        writable: true,
      });
    }
    return out;
  }
  return Array.isArray(value) ? value.map(plain) : value;
}

describe('parseStrictJson', () => {
  it('agrees with JSON.parse on whatever JSON.stringify writes', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6 }), fc.constantFrom(0, 1), (value, indent) => {
        const text = JSON.stringify(value, null, indent);
        // A lone surrogate is refused on purpose.
        fc.pre(!/\\ud[89a-f]/i.test(text));
        expect(plain(parse(text))).toEqual(JSON.parse(text));
      }),
      { numRuns: 2_000 },
    );
  });

  it('never accepts what JSON.parse refuses, and never throws anything but its own error', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'{}[],:"\\u0041truefalsn-.eE5 \n') }), (text) => {
        let accepted = true;
        try {
          parse(text);
        } catch (error) {
          expect(error).toBeInstanceOf(StrictJsonError);
          accepted = false;
        }
        if (accepted) JSON.parse(text);
      }),
      { numRuns: 20_000 },
    );
  });

  it.each([
    ['a key twice', '{"a":1,"a":2}'],
    ['a key twice, once escaped', '{"a":1,"\\u0061":2}'],
    ['a key twice deeper down', '[{"x":{"a":1,"b":2,"a":3}}]'],
    ['text after the value', '{} {}'],
    ['a trailing comma', '[1,]'],
    ['a comment', '{}//'],
    ['NaN', '[NaN]'],
    ['a number beyond doubles', '1e999'],
    ['a leading zero', '[01]'],
    ['a raw control character', '"\u0001"'],
    ['half a surrogate pair', '"\\ud800"'],
    ['a byte-order mark', '\ufeff{}'],
    ['nothing', ''],
    ['an open string', '"abc'],
    ['an open object', '{"a":1'],
  ])('refuses %s', (_what, text) => {
    expect(() => parse(text)).toThrow(StrictJsonError);
  });

  it('names the key that occurs twice and its depth', () => {
    try {
      parse('{"x":{"k":1,"k":1}}');
      expect.unreachable();
    } catch (error) {
      expect(error).toMatchObject({ duplicateKey: 'k', depth: 2 });
    }
  });

  it('refuses invalid UTF-8', () => {
    expect(() => parseStrictJson(Uint8Array.of(0x22, 0xff, 0x22), LIMITS)).toThrow(StrictJsonError);
  });

  it('bounds nesting without using the stack', () => {
    expect(() => parse('['.repeat(1_000_000))).toThrow(/nested deeper/);
  });

  it('treats __proto__ as any other key', () => {
    const value = parse('{"__proto__":{"polluted":true},"constructor":1}');
    expect(isJsonObject(value) && [...value.keys()]).toEqual(['__proto__', 'constructor']);
    expect(Object.hasOwn(Object.prototype, 'polluted')).toBe(false);
  });

  it('refuses fractions and exponents where integers are asked for', () => {
    for (const text of ['[1.0]', '[1e3]']) {
      expect(() => parseStrictJson(Buffer.from(text), { maxDepth: 4, integersOnly: true })).toThrow(
        StrictJsonError,
      );
    }
  });
});

describe('clip', () => {
  it('removes control and direction characters and bounds the length', () => {
    expect(clip('a\u0007b\u202ec')).toBe('a�b�c');
    expect(clip('x'.repeat(500))).toHaveLength(120);
  });
});

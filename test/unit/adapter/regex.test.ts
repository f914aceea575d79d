import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compilePatternKey } from '../../../src/adapter/peft/pattern.ts';
import { compileRegex } from '../../../src/adapter/peft/regex.ts';
import { RegexUnsupported } from '../../../src/adapter/peft/regex-parse.ts';

const atom = fc.constantFrom('a', 'b', '.', '\\.', '\\d', '\\W', '[ab]', '[^a]', '[0-9_]', '^', '$', '', '1');
const pattern = fc.letrec<{ node: string }>((tie) => ({
  node: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    atom,
    fc.tuple(tie('node'), tie('node')).map(([x, y]) => x + y),
    fc.tuple(tie('node'), tie('node')).map(([x, y]) => `(${x}|${y})`),
    fc
      .tuple(tie('node'), fc.constantFrom('*', '+', '?', '{2}', '{1,3}', '{0,}', '*?', '{,2}'))
      .map(([x, quantifier]) => `(?:${x})${quantifier}`),
  ),
})).node;

describe('compileRegex', () => {
  it('matches what a backtracking engine matches', () => {
    fc.assert(
      fc.property(
        pattern,
        fc.string({ unit: fc.constantFrom('a', 'b', '.', '1'), maxLength: 8 }),
        (source, text) => {
          let regex: ReturnType<typeof compileRegex>;
          try {
            regex = compileRegex(source);
          } catch (error) {
            expect(error).toBeInstanceOf(RegexUnsupported);
            return;
          }
          expect([source, text, regex.matchStart(text)]).toEqual([
            source,
            text,
            new RegExp(`^(?:${source})`).test(text),
          ]);
        },
      ),
      { numRuns: 20_000 },
    );
  });

  it('takes linear time where backtracking takes hours', () => {
    const text = `${'a'.repeat(5_000)}!`;
    for (const source of ['(a+)+$', '(a|a)*$', '(a|aa)+$', '(.*a){20}$', '((a*)*)*$']) {
      const start = performance.now();
      expect(compileRegex(source).matchStart(text)).toBe(false);
      expect(performance.now() - start).toBeLessThan(10_000);
    }
  });

  it.each([
    ['(?=a)', 'look-ahead'],
    ['(?<!a)b', 'look-behind'],
    ['(a)\\1', 'a back-reference'],
    ['(?i)a', 'a flag'],
    ['(?P<n>a)', 'a named group'],
    ['a\\b', 'a boundary'],
    ['a++', 'a possessive quantifier'],
    ['^*', 'a repeated anchor'],
    ['[[:alpha:]]', 'a nested set'],
    ['(a', 'an open group'],
    ['a)', 'a closing parenthesis'],
    ['[a', 'an open class'],
    ['a{1000}', 'a large repetition'],
    ['((a{100}){100}){100}', 'a large automaton'],
    ['((((((((){100}){100}){100}){100}){100}){100}){100}){100}', 'repetitions of nothing'],
    ['('.repeat(100), 'deep groups'],
    ['é', 'other scripts'],
    ['a'.repeat(600), 'a long pattern'],
  ])('refuses %s (%s)', (source) => {
    expect(() => compileRegex(source)).toThrow(RegexUnsupported);
  });
});

describe('compilePatternKey', () => {
  const name = 'model.layers.10.self_attn.q_proj';

  it.each([
    ['q_proj', true],
    ['self_attn.q_proj', true],
    ['model.layers.10.self_attn.q_proj', true],
    ['proj', false],
    ['0.self_attn.q_proj', false],
    ['10.self_attn.q_proj', true],
    ['^model.layers.10.self_attn.q_proj', true],
    ['^layers.10.self_attn.q_proj', false],
    ['layers.(10|11).*q_proj', true],
    ['.*\\.1\\..*', false],
    ['layers\\.[0-9]+\\.self_attn\\.(q|v)_proj', true],
    ['layers.\\d.self_attn.q_proj', false],
    ['q_proj|nothing', true],
    // PEFT pastes the key into its own expression, so this key ends the group and loses the anchor.
    ['model)|(x', true],
  ])('%s as PEFT would', (key, wanted) => {
    expect(compilePatternKey(key).matches(name)).toBe(wanted);
  });

  it('gives plain keys the meaning that the automaton gives them', () => {
    const piece = fc.string({ unit: fc.constantFrom('a', 'b', '.', '0'), minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(piece, fc.array(piece, { maxLength: 3 }), (key, parts) => {
        const text = [...parts, key].join('.');
        for (const candidate of [text, text.slice(1), `${text}a`]) {
          expect(compilePatternKey(key).matches(candidate)).toBe(
            compilePatternKey(`(?:${key})`).matches(candidate),
          );
        }
      }),
      { numRuns: 5_000 },
    );
  });
});

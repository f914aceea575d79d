import { existsSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Json } from '../../../src/backbone/text/files.ts';
import { createStreamDecoderFactory } from '../../../src/backbone/text/stream-decoder.ts';
import type { StreamDecoderFactory } from '../../../src/engine/runner.ts';
import { byteLevelJson, caught, GOLDEN, make, parseJson, special, TEXTS, wholeDecoder } from './support.ts';

const RUNS = { seed: 20_261_123, numRuns: 400 };

const stories = parseJson(new URL('stories260K/tokenizer.json', GOLDEN));
const starter = new URL('../../../starter/backbone/tokenizer.json', import.meta.url);

const cases: readonly (readonly [name: string, tokenizer: Json, ids: number])[] = [
  ['bytes alone', parseJson(new URL('llama-tied/tokenizer.json', GOLDEN)), 330],
  ['SentencePiece with byte fallback', stories, 512],
  ['byte-level with merges', byteLevelJson(['<|end|>', '<|user|>']), 400],
  [
    'byte-level with a visible added token',
    byteLevelJson([], { added_tokens: [special(390, '<think é>', { special: false })] }),
    400,
  ],
  [
    'Metaspace',
    { ...stories, decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' } },
    520,
  ],
  ['no decoder', { ...stories, decoder: null }, 520],
  [
    'strips at both ends',
    {
      ...stories,
      decoder: {
        type: 'Sequence',
        decoders: [
          { type: 'ByteFallback' },
          { type: 'Fuse' },
          { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
          { type: 'Strip', content: ' ', start: 2, stop: 2 },
        ],
      },
    },
    512,
  ],
  [
    'strips every token',
    {
      ...stories,
      decoder: {
        type: 'Sequence',
        decoders: [{ type: 'Strip', content: '▁', start: 1, stop: 1 }, { type: 'ByteFallback' }],
      },
    },
    512,
  ],
  ...(existsSync(starter) ? [['the starter', parseJson(starter), 1100] as const] : []),
];

describe.each(cases)('%s', (_name, json, ids) => {
  const tokenizer = make(json);
  const whole = wholeDecoder(json);
  const factory: StreamDecoderFactory = createStreamDecoderFactory(tokenizer);

  function stream(chunks: readonly (readonly number[])[]): string[] {
    const decoder = factory();
    const parts = chunks.map((chunk) => decoder.push(chunk));
    parts.push(decoder.end());
    return parts;
  }

  test('streams random ids in any chunks to what the library decodes', () => {
    const chunks = fc.array(fc.array(fc.integer({ min: 0, max: ids }), { maxLength: 6 }), { maxLength: 30 });
    fc.assert(
      fc.property(chunks, (parts) => {
        const texts = stream(parts);
        expect(texts.join('')).toBe(whole(parts.flat()));
        for (const text of texts) expect(text).not.toMatch(/\p{Surrogate}/u);
      }),
      RUNS,
    );
  });

  test('streams real text one token at a time, whole characters only', () => {
    for (const text of TEXTS) {
      const encoded = tokenizer.encode(text, { addSpecialTokens: false });
      const parts = stream(encoded.map((id) => [id]));
      expect(parts.join('')).toBe(whole(encoded));
      if (!text.includes('\ufffd')) expect(parts.join('')).not.toContain('\ufffd');
      expect(tokenizer.decode(encoded)).toBe(parts.join(''));
    }
  });

  test('streams random text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const encoded = tokenizer.encode(text, { addSpecialTokens: false });
        expect(stream(encoded.map((id) => [id])).join('')).toBe(whole(encoded));
      }),
      RUNS,
    );
  });
});

describe('bytes', () => {
  const tokenizer = make(byteLevelJson());
  const bytes = (text: string): number[] => [...new TextEncoder().encode(text)];

  test('hold an emoji back until its fourth byte', () => {
    const decoder = createStreamDecoderFactory(tokenizer)();
    const parts = bytes('😀').map((id) => decoder.push([id]));
    expect(parts).toEqual(['', '', '', '😀']);
    expect(decoder.end()).toBe('');
  });

  test('that cannot become a character do not block the stream', () => {
    const decoder = createStreamDecoderFactory(tokenizer)();
    expect(decoder.push([0xf0, 0x9f])).toBe('');
    expect(decoder.push([0x41])).toBe('\ufffdA');
    expect(decoder.push([0xff])).toBe('\ufffd');
    expect(decoder.push([0xe4, 0xbd])).toBe('');
    expect(decoder.end()).toBe('\ufffd');
    expect(decoder.end()).toBe('');
    expect(decoder.push([0x41])).toBe('');
  });

  test('continue across a special token, which is skipped', () => {
    const withSpecial = make(byteLevelJson(['<|end|>']));
    const decoder = createStreamDecoderFactory(withSpecial)();
    const end = withSpecial.idOf('<|end|>') ?? -1;
    expect(decoder.push([0xe4, end, 0xbd, 99_999, 0xa0])).toBe('你');
  });

  test('cost the same for the first and for the last of many tokens', () => {
    const decoder = createStreamDecoderFactory(tokenizer)();
    const ids = Array.from({ length: 200_000 }, (_, index) => 97 + (index % 26));
    const started = performance.now();
    let length = 0;
    for (const id of ids) length += decoder.push([id]).length;
    expect(length).toBe(ids.length);
    expect(performance.now() - started).toBeLessThan(10_000);
  });
});

test.each([
  ['WordPiece', { type: 'WordPiece', prefix: '##', cleanup: true }],
  ['CTC', { type: 'CTC', pad_token: '<pad>', word_delimiter_token: '|', cleanup: true }],
  ['a regular expression', { type: 'Replace', pattern: { Regex: 'a+' }, content: '' }],
  ['Metaspace that keeps the space', { type: 'Metaspace', replacement: '▁', prepend_scheme: 'never' }],
  [
    'Strip on parts of tokens',
    {
      type: 'Sequence',
      decoders: [{ type: 'ByteFallback' }, { type: 'Strip', content: ' ', start: 1, stop: 0 }],
    },
  ],
])('refuses the decoder %s', (_name, decoder) => {
  const error = caught(() => make({ ...stories, decoder }));
  expect(error.code).toBe('BACKBONE_UNSUPPORTED');
  expect(error.field).toMatch(/^decoder/);
});

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { Json } from '../../../src/backbone/text/files.ts';
import { openText } from '../../../src/backbone/text/open.ts';
import { loadTokenizer } from '../../../src/backbone/text/tokenizer.ts';
import { byteLevelJson, caught, files, GOLDEN, make, parseJson, special, TEXTS } from './support.ts';

const stories = parseJson(new URL('stories260K/tokenizer.json', GOLDEN));
const storiesDir = fileURLToPath(new URL('stories260K', GOLDEN));

function withModel(more: Json): Json {
  const json = byteLevelJson();
  const model = json['model'];
  return { ...json, model: { ...(typeof model === 'object' ? model : {}), ...more } };
}

describe('loading', () => {
  test('reads a folder without tokenizer_config.json', () => {
    const tokenizer = loadTokenizer(storiesDir, { vocabSize: 512 });
    expect(tokenizer.bosId).toBe(1);
    expect(tokenizer.eosIds).toEqual([2]);
    expect([...tokenizer.specialIds]).toEqual([0, 1, 2]);
    expect(tokenizer.chatTemplates).toBeNull();
  });

  test('gives the ids of the reference tokenizer', () => {
    const tokenizer = loadTokenizer(storiesDir, { vocabSize: 512 });
    // From Hugging Face's Rust tokenizer, version 0.23.2.
    expect(tokenizer.encodePrompt('Once upon a time')).toEqual([1, 403, 407, 261, 378]);
    expect(tokenizer.decode([1, 403, 407, 261, 378])).toBe('Once upon a time');
  });

  test('round-trips text of many scripts', () => {
    for (const tokenizer of [make(stories), make(byteLevelJson())]) {
      for (const text of TEXTS) {
        expect(tokenizer.decode(tokenizer.encode(text, { addSpecialTokens: true }))).toBe(text);
      }
    }
  });

  test('takes eos ids from generation_config.json, else from both other files', () => {
    const json = byteLevelJson(['<a>', '<b>', '<c>']);
    const a = make(json).idOf('<a>') ?? -1;
    const others = { tokenizerConfig: { eos_token: { content: '<b>' } }, config: { eos_token_id: a } };
    expect(make(json, others).eosIds).toEqual([a, a + 1]);
    expect(make(json, { ...others, generationConfig: { eos_token_id: [a + 2, a + 2] } }).eosIds).toEqual([
      a + 2,
    ]);
  });

  test('names file and field of what is malformed', () => {
    const cases: readonly (readonly [run: () => unknown, text: string])[] = [
      [() => make(byteLevelJson(), {}, 200), 'tokenizer.json: model.vocab'],
      [() => make(byteLevelJson(), { config: { eos_token_id: -1 } }), 'config.json: eos_token_id'],
      [
        () => make(byteLevelJson(), { generationConfig: { eos_token_id: [1, 'x'] } }),
        'generation_config.json: eos_token_id[1]',
      ],
      [
        () => make(byteLevelJson(), { tokenizerConfig: { bos_token: '<none>' } }),
        'tokenizer_config.json: bos_token',
      ],
      [
        () => make(byteLevelJson(), { tokenizerConfig: { add_bos_token: 1 } }),
        'tokenizer_config.json: add_bos_token',
      ],
      [
        () => make(byteLevelJson(), { tokenizerConfig: { chat_template: 1 } }),
        'tokenizer_config.json: chat_template',
      ],
      [() => make(byteLevelJson([], { added_tokens: {} })), 'tokenizer.json: added_tokens'],
      [() => make(byteLevelJson([], { added_tokens: [special(3, '<x>')] })), 'tokenizer.json: added_tokens'],
      [() => make(withModel({ vocab: { a: 0, b: 0 } })), 'tokenizer.json: model.vocab'],
      [() => make(withModel({ merges: [['a']] })), 'tokenizer.json: model.merges[0]'],
    ];
    for (const [run, text] of cases) {
      const error = caught(run);
      expect(error.code).toBe('BACKBONE_INVALID');
      expect(error.message).toContain(text);
    }
  });

  test('tells a missing, a broken and an unreadable file apart', () => {
    const dir = mkdtempSync(join(tmpdir(), 'patchbay-text-'));
    try {
      expect(caught(() => loadTokenizer(dir, { vocabSize: 10 })).code).toBe('FILE_MISSING');
      const text = openText(dir, { shape: { vocabSize: 10 } });
      expect(text.decoderFactory().push([1])).toBe('');
      expect(caught(() => text.encodePrompt('x')).code).toBe('FILE_MISSING');
      writeFileSync(join(dir, 'tokenizer.json'), '{');
      expect(caught(() => loadTokenizer(dir, { vocabSize: 10 })).message).toContain('tokenizer.json');
      writeFileSync(join(dir, 'tokenizer.json'), Uint8Array.of(0xff));
      expect(caught(() => loadTokenizer(dir, { vocabSize: 10 })).message).toContain('UTF-8');
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});

const split = (regex: string, more: Json = {}): Json => ({
  pre_tokenizer: { type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false, ...more },
});

test.each<readonly [string, Json]>([
  ['\\G', byteLevelJson([], split('\\Ga'))],
  ['atomic group', byteLevelJson([], split('(?>a+)b'))],
  ['possessive quantifier', byteLevelJson([], split('a++b'))],
  ['collating element', byteLevelJson([], split('[[.a.]]'))],
  ['MergedWithPrevious', byteLevelJson([], split('a', { behavior: 'MergedWithPrevious' }))],
  ['Contiguous', byteLevelJson([], split('a', { behavior: 'Contiguous' }))],
  ['inverted Isolated', byteLevelJson([], split('a', { invert: true }))],
  ['Removed with a group', byteLevelJson([], split('(a)', { behavior: 'Removed' }))],
  ['Metaspace that splits', { ...stories, pre_tokenizer: { type: 'Metaspace', replacement: '▁' } }],
  ['Whitespace', byteLevelJson([], { pre_tokenizer: { type: 'Whitespace' } })],
  ['Precompiled', byteLevelJson([], { normalizer: { type: 'Precompiled' } })],
  ['Unigram', withModel({ type: 'Unigram', vocab: [['a', 0]] })],
  ['dropout', withModel({ dropout: 0.1 })],
  ['suffix', withModel({ end_of_word_suffix: '</w>' })],
  ['BertProcessing', byteLevelJson([], { post_processor: { type: 'BertProcessing' } })],
  ['single_word', byteLevelJson([], { added_tokens: [special(380, 'x', { single_word: true })] })],
])('refuses %s', (_name, json) => {
  const error = caught(() => make(json));
  expect(error.code).toBe('BACKBONE_UNSUPPORTED');
  expect(error.field).toBeDefined();
});

describe('encoding', () => {
  test('splits Unicode digits and reads white space as the reference does', () => {
    const pre_tokenizer = {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Digits', individual_digits: true },
        { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
      ],
    };
    const merges = [
      ['Ù', '£'],
      ['Ù£', 'Ù£'],
    ];
    const json = withModel({ vocab: { Ù: 217, '£': 163, 'Ù£': 300, 'Ù£Ù£': 301 }, merges });
    expect(make(json).encode('٣٣', { addSpecialTokens: false })).toEqual([301]);
    // The reference keeps the two digits apart; the library's own `Digits` knows ASCII digits only.
    expect(make({ ...json, pre_tokenizer }).encode('٣٣', { addSpecialTokens: false })).toEqual([300, 300]);
  });

  test('adds BOS and EOS as post-processor and configuration say', () => {
    const s = { id: '<s>', ids: [1], tokens: ['<s>'] };
    expect(make(stories).encode('a', { addSpecialTokens: true })[0]).toBe(s.ids[0]);
    expect(make(stories).encode('a', { addSpecialTokens: false })[0]).not.toBe(1);
    const tokenizerConfig = {
      bos_token: '<s>',
      eos_token: '</s>',
      add_bos_token: false,
      add_eos_token: true,
    };
    const framed = make(stories, { tokenizerConfig }).encode('a', { addSpecialTokens: true });
    expect(framed[0]).not.toBe(1);
    expect(framed.at(-1)).toBe(2);
    const added = make(
      { ...stories, post_processor: null },
      { tokenizerConfig: { bos_token: '<s>', add_bos_token: true } },
    );
    expect(added.encodePrompt('a')[0]).toBe(1);
  });

  test('parses special tokens of a raw prompt, doubles no BOS and leaves EOS out', () => {
    const tokenizer = make(stories, { tokenizerConfig: { eos_token: '</s>', add_eos_token: true } });
    expect(tokenizer.encodePrompt('<s>a</s>b')).toEqual(
      tokenizer.encode('<s>a</s>b', { addSpecialTokens: false }),
    );
    expect(tokenizer.encodePrompt('a').at(-1)).not.toBe(2);
  });

  test('treats a shielded special token as text, also one that merges spell', () => {
    const merges = [
      ['<', 's'],
      ['<s', '>'],
    ];
    const json = byteLevelJson();
    const model = json['model'];
    const vocab = { '<': 0, s: 1, '>': 2, '<s': 3, '<s>': 4, a: 5 };
    const spelled = make({
      ...json,
      added_tokens: [special(4, '<s>')],
      model: { ...(typeof model === 'object' ? model : {}), vocab, merges },
    });
    expect(spelled.encode('<s>a', { addSpecialTokens: false })).toEqual([4, 5]);
    expect(spelled.encodeShielded('<s><s>', [{ start: 0, end: 3 }])).toEqual([0, 1, 2, 4]);
  });

  test('lets special tokens swallow white space and finds the longest', () => {
    const added_tokens = [
      special(380, '<x>', { lstrip: true, rstrip: true }),
      special(381, '<x><y>'),
      special(382, '<y>'),
    ];
    const tokenizer = make(byteLevelJson([], { added_tokens }));
    expect(tokenizer.encode('a \n<x>\t b', { addSpecialTokens: false })).toEqual([97, 380, 98]);
    expect(tokenizer.encode('<x><y><y>', { addSpecialTokens: false })).toEqual([381, 382]);
  });

  test('collects special tokens that only other files name', () => {
    const tokenizer = make(byteLevelJson(), {
      tokenizerConfig: { added_tokens_decoder: { 390: { content: '<late>', special: true } } },
      specialTokensMap: { additional_special_tokens: ['<late>', 'a'] },
    });
    expect(tokenizer.idOf('<late>')).toBe(390);
    expect([...tokenizer.specialIds]).toEqual([390, 97]);
    expect(files(byteLevelJson()).config).toBeNull();
  });
});

import { describe, expect, test } from 'vitest';
import { DEFAULT_ENGINE_OPTIONS, engineOptions } from '../../../src/engine/options.ts';
import type { EngineInfo } from '../../../src/engine/port.ts';
import { validateSequenceRequest } from '../../../src/engine/validate.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { type RequestParts, request } from '../../kit/fake-engine.ts';
import { FakeRunner } from '../../kit/fake-runner.ts';

const runner = new FakeRunner({ vocabSize: 32, maxContext: 64 });
const info: EngineInfo = {
  backboneDigest: 'd',
  shape: runner.shape,
  maxContext: 64,
  maxRank: 128,
  maxBlend: 3,
  eosTokenIds: [31],
};

function refusal(parts: RequestParts): { code: string; field: string | undefined } | null {
  try {
    validateSequenceRequest(info, request(parts));
    return null;
  } catch (error) {
    if (!(error instanceof PatchbayError)) throw error;
    return { code: error.code, field: error.field };
  }
}

const use = (digest: string, weight = 1) => ({ digest, weight });
const sampling = (params: RequestParts['sampling']): RequestParts => (params ? { sampling: params } : {});
const stop = (params: RequestParts['stop']): RequestParts => (params ? { stop: params } : {});

describe('a request is refused with the code and the field to blame', () => {
  const cases: [string, RequestParts, string, string][] = [
    ['empty prompt', { promptIds: [] }, 'PROMPT_EMPTY', 'promptIds'],
    ['token beyond the vocabulary', { promptIds: [1, 32] }, 'TOKEN_OUT_OF_RANGE', 'promptIds.1'],
    ['negative token', { promptIds: [-1] }, 'TOKEN_OUT_OF_RANGE', 'promptIds.0'],
    ['fractional token', { promptIds: [0.5] }, 'TOKEN_OUT_OF_RANGE', 'promptIds.0'],
    ['too long', { promptIds: Array(61).fill(1) }, 'PROMPT_TOO_LONG', 'promptIds'],
    ['no id', { id: '' }, 'BAD_INPUT', 'id'],
    ['top logprobs', { topLogprobs: 21 }, 'SAMPLING_INVALID', 'topLogprobs'],
    ['no tokens wanted', stop({ maxTokens: 0 }), 'SAMPLING_INVALID', 'stop.maxTokens'],
    ['fractional maximum', stop({ maxTokens: 1.5 }), 'SAMPLING_INVALID', 'stop.maxTokens'],
    ['empty stop string', stop({ strings: ['x', ''] }), 'SAMPLING_INVALID', 'stop.strings.1.length'],
    ['long stop string', stop({ strings: ['x'.repeat(257)] }), 'SAMPLING_INVALID', 'stop.strings.0.length'],
    ['half a character', stop({ strings: ['a\ud83d'] }), 'SAMPLING_INVALID', 'stop.strings.0'],
    ['17 stop strings', stop({ strings: Array(17).fill('x') }), 'SAMPLING_INVALID', 'stop.strings.length'],
    ['stop token', stop({ tokenIds: [40] }), 'SAMPLING_INVALID', 'stop.tokenIds.0'],
    ['temperature', sampling({ temperature: -0.1 }), 'SAMPLING_INVALID', 'sampling.temperature'],
    ['temperature over 2', sampling({ temperature: 2.01 }), 'SAMPLING_INVALID', 'sampling.temperature'],
    ['NaN temperature', sampling({ temperature: Number.NaN }), 'SAMPLING_INVALID', 'sampling.temperature'],
    ['topP of 0', sampling({ topP: 0 }), 'SAMPLING_INVALID', 'sampling.topP'],
    ['topP over 1', sampling({ topP: 1.01 }), 'SAMPLING_INVALID', 'sampling.topP'],
    ['topK', sampling({ topK: -1 }), 'SAMPLING_INVALID', 'sampling.topK'],
    ['minP of 1', sampling({ minP: 1 }), 'SAMPLING_INVALID', 'sampling.minP'],
    ['penalty of 0', sampling({ repetitionPenalty: 0 }), 'SAMPLING_INVALID', 'sampling.repetitionPenalty'],
    ['seed over 53 bits', sampling({ seed: 2 ** 53 }), 'SAMPLING_INVALID', 'sampling.seed'],
    ['weight of 0', { adapters: [use('a', 0)] }, 'BLEND_INVALID', 'adapters.0.weight'],
    [
      'weight that float32 cannot tell from 0',
      { adapters: [use('a', 1e-50)] },
      'BLEND_INVALID',
      'adapters.0.weight',
    ],
    ['infinite weight', { adapters: [use('a', 1 / 0)] }, 'BLEND_INVALID', 'adapters.0.weight'],
    ['weight over 16', { adapters: [use('a', -16.5)] }, 'BLEND_INVALID', 'adapters.0.weight'],
    ['one adapter twice', { adapters: [use('a'), use('a', 2)] }, 'BLEND_INVALID', 'adapters.1.digest'],
    ['too many', { adapters: ['a', 'b', 'c', 'd'].map((d) => use(d)) }, 'BLEND_INVALID', 'adapters'],
  ];
  test.each(cases)('%s', (_name, parts, code, field) => {
    expect(refusal(parts)).toEqual({ code, field });
  });
});

test('the bounds themselves are accepted', () => {
  expect(refusal({ promptIds: Array(60).fill(31), stop: { maxTokens: 4 } })).toBeNull();
  expect(refusal({ adapters: [use('a', 16), use('b', -16), use('c', 1e-9)] })).toBeNull();
  expect(refusal({ sampling: { temperature: 2 } })).toBeNull();
  expect(refusal({ sampling: { seed: Number.MAX_SAFE_INTEGER, topP: 1, topK: 0, minP: 0 } })).toBeNull();
});

test('engine options have defaults and name what is out of range', () => {
  expect(engineOptions({})).toEqual(DEFAULT_ENGINE_OPTIONS);
  expect(() => engineOptions({ maxBatch: 0 })).toThrow(expect.objectContaining({ field: 'maxBatch' }));
  expect(() => engineOptions({ maxBlendWeight: Number.NaN })).toThrow(
    expect.objectContaining({ code: 'CONFIG_INVALID', field: 'maxBlendWeight' }),
  );
});

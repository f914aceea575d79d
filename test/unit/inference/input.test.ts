import { afterEach, describe, expect, it, vi } from 'vitest';
import type { EngineInfo } from '../../../src/engine/port.ts';
import {
  checkSize,
  hashRequest,
  INPUT_LIMITS,
  type InferenceInput,
  isSameRequest,
  normaliseInput,
  sequenceRequest,
} from '../../../src/inference/input.ts';
import { meteredUsage } from '../../../src/inference/metered.ts';
import { RecentOutputs } from '../../../src/inference/recent-outputs.ts';
import { FakeEngine } from '../../integration/inference/fake-engine.ts';

const plain: InferenceInput = { prompt: 'hello', plainBackbone: true };
const salt = Buffer.alloc(32, 3);

afterEach(() => {
  vi.useRealTimers();
});

describe('an input', () => {
  it.each<[string, Partial<InferenceInput>]>([
    ['prompt', { promptIds: [1] }],
    ['plainBackbone', { adapters: [{ adapter: 'x' }] }],
    ['adapters', { plainBackbone: false }],
    ['idempotencyKey', { idempotencyKey: '' }],
    ['idempotencyKey', { idempotencyKey: 'x'.repeat(201) }],
    ['adapters.0.adapter', { plainBackbone: false, adapters: [{ adapter: '' }] }],
  ])('is refused with the field to blame: %s', (field, change) => {
    expect(() => normaliseInput({ ...plain, ...change })).toThrow(
      expect.objectContaining({ code: 'BAD_INPUT', field }),
    );
  });

  it('without a prompt is refused, and so is an empty conversation', () => {
    expect(() => normaliseInput({ plainBackbone: true })).toThrow(
      expect.objectContaining({ field: 'prompt' }),
    );
    expect(() => normaliseInput({ plainBackbone: true, messages: [] })).toThrow(
      expect.objectContaining({ field: 'messages' }),
    );
  });

  it('is the same request with defaults spelled out or left out, in any order', () => {
    const spelled = normaliseInput({
      topLogprobs: 0,
      maxTokens: 256,
      plainBackbone: true,
      prompt: 'hello',
      adapters: [],
    });
    const stored = { salt, requestHash: hashRequest(salt, normaliseInput(plain)) };
    expect(isSameRequest(stored, spelled)).toBe(true);
    expect(isSameRequest(stored, normaliseInput({ ...plain, sampling: { seed: 1 } }))).toBe(false);
    expect(isSameRequest(stored, normaliseInput({ ...plain, prompt: 'hello ' }))).toBe(false);
  });
});

describe('the size of an input', () => {
  const info: EngineInfo = { ...new FakeEngine().info, maxContext: 100, maxBlend: 2 };
  const check = (input: Partial<InferenceInput>): void =>
    checkSize(info, 5, normaliseInput({ plainBackbone: true, ...input }));
  const message = (chars: number) => ({ role: 'user', content: 'x'.repeat(chars - 'user'.length) });

  it.each<[string, string, Partial<InferenceInput>]>([
    ['PROMPT_TOO_LONG', 'prompt', { prompt: 'x'.repeat(501) }],
    ['PROMPT_TOO_LONG', 'messages', { messages: [message(250), message(251)] }],
    ['PROMPT_TOO_LONG', 'promptIds', { promptIds: Array.from({ length: 101 }, () => 1) }],
    [
      'BLEND_INVALID',
      'adapters',
      { ...plain, plainBackbone: false, adapters: ['a', 'b', 'c'].map((adapter) => ({ adapter })) },
    ],
    ['SAMPLING_INVALID', 'stop', { ...plain, stop: Array.from({ length: 17 }, () => 'x') }],
    ['SAMPLING_INVALID', 'stopTokenIds', { ...plain, stopTokenIds: Array.from({ length: 129 }, () => 1) }],
  ])('is refused with %s, naming %s', (code, field, input) => {
    expect(() => check(input)).toThrow(expect.objectContaining({ code, field }));
  });

  it('may be as large as the limits', () => {
    check({ prompt: 'x'.repeat(500) });
    check({ messages: [message(250), message(250)] });
    check({ promptIds: Array.from({ length: 100 }, () => 1) });
  });

  it('is bounded whatever the vocabulary says of its tokens, and however long the context is', () => {
    const most = 100 * INPUT_LIMITS.charsPerTokenMax;
    for (const tokenCharsMax of [undefined, 10_000]) {
      checkSize(info, tokenCharsMax, normaliseInput({ ...plain, prompt: 'x'.repeat(most) }));
      expect(() =>
        checkSize(info, tokenCharsMax, normaliseInput({ ...plain, prompt: 'x'.repeat(most + 1) })),
      ).toThrow(expect.objectContaining({ code: 'PROMPT_TOO_LONG' }));
    }
    const long = { ...info, maxContext: 1_000_000 };
    const prompt = 'x'.repeat(INPUT_LIMITS.promptCharsMax + 1);
    expect(() => checkSize(long, 10, normaliseInput({ ...plain, prompt }))).toThrow(
      expect.objectContaining({ code: 'PROMPT_TOO_LONG' }),
    );
  });
});

describe('what the engine gets', () => {
  const info = { ...new FakeEngine().info, maxBlend: 3 };
  const blend = (...weights: readonly number[]) =>
    sequenceRequest(info, 16, normaliseInput({ ...plain, maxTokens: 2 }), {
      requestId: 'r',
      tenantId: 't',
      promptIds: [1],
      adapters: ['c', 'a', 'b'].slice(0, weights.length).map((digest, index) => ({
        ...{ versionId: digest, adapterId: digest, ownerTenantId: 'o', digest },
        weight: weights[index] ?? 1,
      })),
      seed: 0,
    });

  it('has a blend in the order of the digests, so that its sums do not depend on how it was listed', () => {
    expect(blend(1, 2, 3).adapters).toEqual([
      { digest: 'a', weight: 2 },
      { digest: 'b', weight: 3 },
      { digest: 'c', weight: 1 },
    ]);
  });

  it('is refused with the place in the caller’s list', () => {
    expect(() => blend(1, 99)).toThrow(
      expect.objectContaining({ code: 'BLEND_INVALID', field: 'adapters.1.weight' }),
    );
  });
});

describe('what is metered', () => {
  const facts = {
    requestId: 'r',
    instanceId: 'i',
    admittedPromptTokens: 10,
    completionTokens: 0,
    cachedPromptTokens: 0,
    droppedTokens: 0,
    outputCommitment: Buffer.alloc(32),
    engine: null,
  };
  const usage = {
    promptTokens: 10,
    completionTokens: 4,
    cachedPromptTokens: 3,
    queueMs: 1,
    prefillMs: 1,
    decodeMs: 1,
    computeMs: 1,
    bytesLoaded: 0,
    executed: [],
  };

  it('is the committed output and the processed prompt, never what was generated beyond', () => {
    const left = { ...facts, completionTokens: 2, engine: usage, ending: { reason: 'cancelled' as const } };
    expect(meteredUsage(left)).toEqual({ promptTokens: 10, cachedPromptTokens: 3, completionTokens: 2 });
  });

  it('prices what the tokens told to be cached when the engine never told its end', () => {
    const lost = {
      ...facts,
      completionTokens: 2,
      cachedPromptTokens: 6,
      ending: { reason: 'error' as const },
    };
    expect(meteredUsage(lost)).toEqual({ promptTokens: 10, cachedPromptTokens: 6, completionTokens: 2 });
  });

  it('is nothing for a failure that delivered nothing, and for a prompt that was never looked at', () => {
    const failed = { ...facts, engine: usage, ending: { reason: 'error' as const } };
    expect(meteredUsage(failed)).toEqual({ promptTokens: 0, cachedPromptTokens: 0, completionTokens: 0 });
    const queued = { ...facts, engine: { ...usage, prefillMs: 0 }, ending: { reason: 'cancelled' as const } };
    expect(meteredUsage(queued).promptTokens).toBe(0);
  });
});

describe('recent outputs', () => {
  it('are forgotten by age, number and size', () => {
    let now = 0;
    const clock = { nowMs: () => now, monotonicMs: () => now };
    const recent = new RecentOutputs({ keepMs: 10, outputsMax: 2, tokensMax: 5 }, { clock });
    const tokens = (n: number) => Array.from({ length: n }, (_, id) => ({ id, logprob: 0 }));
    recent.add('a', 'a', tokens(2));
    recent.add('b', 'b', tokens(2));
    recent.add('c', 'c', tokens(1));
    expect(['a', 'b', 'c'].map((id) => recent.find(id)?.text)).toEqual([undefined, 'b', 'c']);
    recent.add('d', 'd', tokens(4));
    expect(['b', 'c', 'd'].map((id) => recent.find(id)?.text)).toEqual([undefined, 'c', 'd']);
    recent.add('e', 'e', tokens(6));
    expect(recent.find('e')).toBeNull();
    now = 10;
    expect(recent.find('d')).toBeNull();
  });

  it('weigh as much as the alternatives that come with their tokens', () => {
    const clock = { nowMs: () => 0, monotonicMs: () => 0 };
    const recent = new RecentOutputs({ keepMs: 10, outputsMax: 9, tokensMax: 100 }, { clock });
    const top = Array.from({ length: 20 }, (_, id) => ({ id, logprob: 0 }));
    for (const name of ['a', 'b', 'c'])
      recent.add(
        name,
        name,
        [1, 2].map((id) => ({ id, logprob: 0, top })),
      );
    expect(['a', 'b', 'c'].map((id) => recent.find(id)?.text)).toEqual([undefined, 'b', 'c']);
    recent.add(
      'd',
      'd',
      [1, 2, 3, 4, 5].map((id) => ({ id, logprob: 0, top })),
    );
    expect(recent.find('d')).toBeNull();
  });

  it('are forgotten in time although nothing happens', async () => {
    vi.useFakeTimers();
    const clock = { nowMs: () => Date.now(), monotonicMs: () => performance.now() };
    const recent = new RecentOutputs({ keepMs: 5_000, outputsMax: 9, tokensMax: 100 }, { clock });
    recent.start();
    recent.add('a', 'a', [{ id: 1, logprob: 0 }]);
    await vi.advanceTimersByTimeAsync(4_900);
    expect(recent.size).toBe(1);
    await vi.advanceTimersByTimeAsync(1_200);
    expect(recent.size).toBe(0);
    await recent.stop();
  });
});

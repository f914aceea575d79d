import { describe, expect, it } from 'vitest';
import {
  hashRequest,
  type InferenceInput,
  isSameRequest,
  normaliseInput,
} from '../../../src/inference/input.ts';
import { meteredUsage } from '../../../src/inference/metered.ts';
import { RecentOutputs } from '../../../src/inference/recent-outputs.ts';

const plain: InferenceInput = { prompt: 'hello', plainBackbone: true };
const salt = Buffer.alloc(32, 3);

describe('an input', () => {
  it.each<[string, Partial<InferenceInput>]>([
    ['prompt', { promptIds: [1] }],
    ['plainBackbone', { adapters: [{ adapter: 'x' }] }],
    ['adapters', { plainBackbone: false }],
    ['idempotencyKey', { idempotencyKey: '' }],
    ['idempotencyKey', { idempotencyKey: 'x'.repeat(201) }],
    ['prompt', { prompt: 'x'.repeat(4_000_001) }],
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

describe('what is metered', () => {
  const facts = {
    requestId: 'r',
    instanceId: 'i',
    admittedPromptTokens: 10,
    completionTokens: 0,
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
  };

  it('is the committed output and the processed prompt, never what was generated beyond', () => {
    const left = { ...facts, completionTokens: 2, engine: usage, ending: { reason: 'cancelled' as const } };
    expect(meteredUsage(left)).toEqual({ promptTokens: 10, cachedPromptTokens: 3, completionTokens: 2 });
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
});

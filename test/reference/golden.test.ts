import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { at, itemAt } from './array.ts';
import { readCases, readExpectations } from './cases.ts';
import { greedyChoice, referenceGreedy, referenceLogits, referenceSampleDistribution } from './generate.ts';
import { isJsonObject, type JsonObject, numberArray, readJsonObject } from './json.ts';
import { computeExpectations, FIXTURES, GOLDEN_FOLDER } from './make-fixtures.ts';
import { loadModel } from './model.ts';
import { loadAdapter, type WeightedAdapter } from './peft.ts';

/** Written by an implementation that shares no code with this one. */
const FOREIGN = ['llama-tied', 'qwen2'];

function largestDifference(left: readonly number[], right: readonly number[]): number {
  return left.reduce((largest, value, i) => Math.max(largest, Math.abs(value - at(right, i))), 0);
}

describe.each([...FOREIGN, ...FIXTURES.map(({ name }) => name)])('golden folder %s', (name) => {
  const folder = join(GOLDEN_FOLDER, name);

  test('every case is reproduced: equal tokens, log-probabilities and margins within 1e-6', () => {
    const expected = readExpectations(folder);
    const computed = computeExpectations(folder);
    expect(computed.map(({ customId, ids }) => ({ customId, ids }))).toEqual(
      expected.map(({ customId, ids }) => ({ customId, ids })),
    );
    expect(expected).toHaveLength(18);
    computed.forEach((result, i) => {
      const { logprobs, margins } = itemAt(expected, i);
      expect(result.logprobs).toHaveLength(logprobs.length);
      expect(largestDifference(result.logprobs, logprobs)).toBeLessThan(1e-6);
      expect(largestDifference(result.margins, margins)).toBeLessThan(1e-6);
    });
  });
});

describe.each(FIXTURES.map(({ name }) => name))('generated folder %s', (name) => {
  const folder = join(GOLDEN_FOLDER, name);

  test('no margin is below 2e-3, so float32 engines can be compared to the last token', () => {
    for (const { margins } of readExpectations(folder)) expect(Math.min(...margins)).toBeGreaterThan(2e-3);
  });

  test('cases cover a one-token prompt, prompts over 64 tokens, every adapter and blends', () => {
    const cases = readCases(folder);
    const lengths = cases.map(({ promptIds }) => promptIds.length);
    expect(Math.min(...lengths)).toBe(1);
    expect(lengths.filter((length) => length > 64).length).toBeGreaterThanOrEqual(4);
    const settings = new Set(cases.map(({ adapters }) => adapters.map(({ path }) => path).join('+')));
    expect(settings.size).toBe(9);
    expect([...settings].filter((setting) => setting.includes('+'))).toHaveLength(2);
  });

  test('every adapter changes the tokens the backbone would have chosen', () => {
    const cases = readCases(folder).slice(1, 9);
    const plain = computeExpectations(
      folder,
      cases.map((item) => ({ ...item, adapters: [] })),
    );
    const expected = readExpectations(folder);
    plain.forEach(({ ids }, i) => {
      expect(ids).not.toEqual(itemAt(expected, i + 1).ids);
    });
  });
});

describe('stories260K, a pretrained checkpoint recorded from llama.cpp in float32', () => {
  const folder = join(GOLDEN_FOLDER, 'stories260K');
  const golden = readJsonObject(join(folder, 'golden.json'));
  const promptIds = numberArray(golden.prompt_ids, 'prompt_ids');
  const runs = golden.runs;
  if (!isJsonObject(runs)) throw new Error('golden.json has no runs');

  const runOf = (name: string): { run: JsonObject; adapters: WeightedAdapter[] } => {
    const run = runs[name];
    if (!isJsonObject(run)) throw new Error(`golden.json has no run ${name}`);
    const path = run.adapter;
    const adapters =
      typeof path === 'string' && path !== ''
        ? [{ adapter: loadAdapter(join(folder, path)), weight: 1 }]
        : [];
    return { run, adapters };
  };

  function pairs(value: unknown): [number, number][] {
    if (!Array.isArray(value)) throw new Error('expected an array of pairs');
    return value.map((entry: unknown) => {
      const pair = numberArray(entry, 'pair');
      return [at(pair, 0), at(pair, 1)];
    });
  }

  test.each(Object.keys(runs))(
    '%s: the greedy tokens are the same, and every recorded logit is within 1e-3',
    (name) => {
      const { run, adapters } = runOf(name);
      const model = loadModel(folder);
      const greedy = numberArray(run.greedy, 'greedy');
      const result = referenceGreedy({
        model,
        adapters,
        promptIds,
        maxTokens: greedy.length,
        ignoreEos: true,
      });
      expect(result.ids).toEqual(greedy);

      const logits = referenceLogits(model, adapters, [...promptIds, ...greedy]);
      pairs(run.prompt_top1).forEach(([id, logit], position) => {
        const row = itemAt(logits, position);
        expect(greedyChoice(row).id).toBe(id);
        expect(Math.abs(at(row, id) - logit)).toBeLessThan(1e-3);
      });
      const steps: unknown = run.top10_per_step;
      if (!Array.isArray(steps)) throw new Error('expected top10_per_step');
      expect(steps).toHaveLength(greedy.length);
      steps.forEach((step: unknown, i) => {
        const row = itemAt(logits, promptIds.length - 1 + i);
        for (const [id, logit] of pairs(step)) expect(Math.abs(at(row, id) - logit)).toBeLessThan(1e-3);
      });
    },
  );

  test('the sampling distribution sums to one and sharpens as the temperature falls', () => {
    const model = loadModel(folder);
    const peak = (temperature: number): number => {
      const distribution = referenceSampleDistribution(model, [], promptIds, temperature);
      expect(distribution.reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 12);
      return Math.max(...distribution);
    };
    expect(peak(0.5)).toBeGreaterThan(peak(1));
    expect(peak(1)).toBeGreaterThan(peak(2));
  });

  test('a run that may stop ends before the end-of-sequence token and says so', () => {
    const model = loadModel(folder);
    const free = referenceGreedy({ model, adapters: [], promptIds, maxTokens: 6, ignoreEos: true });
    const stopping = { ...model, config: { ...model.config, eosTokenIds: [at(free.ids, 3)] } };
    const stopped = referenceGreedy({
      model: stopping,
      adapters: [],
      promptIds,
      maxTokens: 6,
      ignoreEos: false,
    });
    expect(stopped.ids).toEqual(free.ids.slice(0, 3));
    expect(stopped.finishReason).toBe('stop');
    expect(free.finishReason).toBe('length');
  });

  test('the licence travels with the checkpoint', () => {
    expect(readFileSync(join(folder, 'LICENSE.llama2c'), 'utf8')).toMatch(/Permission is hereby granted/);
  });
});

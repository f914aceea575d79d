import { describe, expect, test } from 'vitest';
import type { SamplingParams } from '../../../src/engine/port.ts';
import { createSampler } from '../../../src/engine/sampler.ts';
import { philox, uniform } from '../../../src/engine/sampling/philox.ts';
import { largest } from '../../../src/engine/sampling/select.ts';

const NEUTRAL: SamplingParams = { temperature: 0, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1, seed: 0 };

function draw(logits: readonly number[], params: Partial<SamplingParams>, rest: Partial<DrawRest> = {}) {
  const { seen = [], step = 0, topLogprobs = 0 } = rest;
  const sampler = createSampler(logits.length);
  const row = Float32Array.from(logits);
  return sampler.sample({
    logits: row,
    params: { ...NEUTRAL, ...params },
    seen: new Set(seen),
    step,
    topLogprobs,
  });
}

interface DrawRest {
  readonly seen: readonly number[];
  readonly step: number;
  readonly topLogprobs: number;
}

/** Oracle: the filtered distribution by full sorts in float64, straight from the definitions. */
function oracle(
  logits: readonly number[],
  params: SamplingParams,
  seen: readonly number[],
): Map<number, number> {
  const scores = Array.from(Float32Array.from(logits));
  for (const id of new Set(seen)) {
    const x = scores[id] ?? 0;
    scores[id] = Math.fround(x < 0 ? x * params.repetitionPenalty : x / params.repetitionPenalty);
  }
  let ranked = scores.map((score, id) => ({ id, score })).sort((a, b) => b.score - a.score || a.id - b.id);
  const max = ranked[0]?.score ?? 0;
  const weight = (score: number) => Math.exp((score - max) / params.temperature);
  if (params.topK > 0) ranked = ranked.slice(0, params.topK);
  const total = ranked.reduce((sum, { score }) => sum + weight(score), 0);
  let mass = 0;
  ranked = ranked.filter(({ score }, index) => {
    const keep = index === 0 || mass < params.topP * total - 1e-12;
    mass += weight(score);
    return keep;
  });
  ranked = ranked.filter(({ score }) => weight(score) >= params.minP);
  const kept = ranked.reduce((sum, { score }) => sum + weight(score), 0);
  return new Map(ranked.map(({ id, score }) => [id, weight(score) / kept]));
}

describe('greedy sampling', () => {
  test('takes the largest logit, the lowest id of equal ones', () => {
    expect(draw([1, 5, 2, 5], {})?.id).toBe(1);
    expect(draw([-3, -3, -3], {})?.id).toBe(0);
  });

  test('ignores the seed and the filters', () => {
    expect(draw([0, 1, 2], { seed: 99, topK: 1, topP: 0.1, minP: 0.9 })?.id).toBe(2);
  });

  test('a repetition penalty divides positive and multiplies negative logits of seen tokens, once each', () => {
    expect(draw([4, 3, -1], { repetitionPenalty: 2 }, { seen: [0, 0] })?.id).toBe(1);
    expect(draw([-2, -3, -9], { repetitionPenalty: 2 }, { seen: [0] })?.id).toBe(1);
    expect(draw([4, 3, -1], { repetitionPenalty: 1.3 }, { seen: [0, 0, 0] })?.id).toBe(0);
  });
});

describe('log-probabilities', () => {
  test('are those of the raw logits, whatever penalty, temperature and filters do', () => {
    const logits = [2, 1, 0.5, -4];
    const logSum = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0));
    const token = draw(
      logits,
      { temperature: 3, topK: 1, repetitionPenalty: 5 },
      { seen: [0], topLogprobs: 3 },
    );
    expect(token?.id).toBe(1);
    expect(token?.logprob).toBeCloseTo(1 - logSum, 12);
    expect(token?.top?.map(({ id }) => id)).toEqual([0, 1, 2]);
    token?.top?.forEach(({ id, logprob }) => {
      expect(logprob).toBeCloseTo((logits[id] ?? 0) - logSum, 12);
    });
  });

  test('survive logits whose exponentials overflow', () => {
    const token = draw([10_000, 9_999], { temperature: 0 });
    expect(token?.logprob).toBeCloseTo(-Math.log1p(Math.exp(-1)), 12);
  });
});

test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
  'a logit of %d anywhere gives no token',
  (bad) => {
    for (const params of [{}, { temperature: 1 }, { temperature: 1, topK: 1 }]) {
      expect(draw([1, 2, bad], params)).toBeNull();
      expect(draw([bad, 2, 1], params)).toBeNull();
    }
  },
);

describe('the random stream', () => {
  test('is Philox4x32-10 by the known answers of Random123', () => {
    const words = (hex: string) => hex.split(' ').map((word) => Number.parseInt(word, 16));
    expect(philox([0, 0, 0, 0], [0, 0])).toEqual(words('6627e8d5 e169c58d bc57ac4c 9b00dbd8'));
    const ones = 0xffffffff;
    expect(philox([ones, ones, ones, ones], [ones, ones])).toEqual(
      words('408f276d 41c83b0e a20bc7c6 6d5451fd'),
    );
    expect(philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])).toEqual(
      words('d16cfe09 94fdcceb 5001e420 24126ea1'),
    );
  });

  test('differs by seed (all 53 bits) and by step, and stays in [0, 1)', () => {
    const seeds = [0, 1, 2 ** 32, 2 ** 52, Number.MAX_SAFE_INTEGER];
    const draws = seeds.flatMap((seed) => [0, 1, 2].map((step) => uniform(seed, step)));
    expect(new Set(draws).size).toBe(draws.length);
    for (const u of draws) expect(u >= 0 && u < 1).toBe(true);
  });
});

describe('sampled distributions equal the sort-based oracle', () => {
  const logits = Array.from({ length: 40 }, (_, id) => Math.sin(id * 12.9898) * 4 + (id % 7 === 0 ? 1.5 : 0));
  // Exact ties, at the cut of top-k and of top-p too: only the rule "lower id first" gives one answer.
  const tied = Array.from({ length: 40 }, (_, id) => [3, 3, 2, 2, 2, 1, 1, 1, 1, 0][id % 10] ?? 0);
  const cases: Partial<SamplingParams>[] = [
    { temperature: 1 },
    { temperature: 0.3 },
    { temperature: 2.5, topK: 5 },
    { temperature: 1, topP: 0.6 },
    { temperature: 1.7, topP: 0.95 },
    { temperature: 1, minP: 0.1 },
    { temperature: 1.3, topK: 9, topP: 0.7, minP: 0.2, repetitionPenalty: 1.4 },
    { temperature: 50, topP: 0.99 },
    { temperature: 1, topP: 1e-9 },
    { temperature: 1, topK: 1000 },
  ];
  for (const [name, row] of Object.entries({ logits, tied })) {
    test.each(cases)(`${name} with %j`, (given) => {
      const params = { ...NEUTRAL, ...given };
      const seen = [0, 7, 7, 12];
      const expected = oracle(row, params, seen);
      const sampler = createSampler(row.length);
      const values = Float32Array.from(row);
      const draws = 4000;
      const counts = new Map<number, number>();
      for (let step = 0; step < draws; step++) {
        const token = sampler.sample({
          logits: values,
          params: { ...params, seed: 42 },
          seen: new Set(seen),
          step,
          topLogprobs: 0,
        });
        const id = token?.id ?? -1;
        counts.set(id, (counts.get(id) ?? 0) + 1);
      }
      for (const id of counts.keys()) expect(expected.has(id), `token ${id} was filtered`).toBe(true);
      for (const [id, p] of expected) {
        // Five standard deviations: the seed is fixed, so this either always passes or never does.
        const tolerance = 5 * Math.sqrt((p * (1 - p)) / draws) + 1e-9;
        expect(Math.abs((counts.get(id) ?? 0) / draws - p)).toBeLessThanOrEqual(tolerance);
      }
    });
  }
});

test('the sampler does not modify the logits that it is given', () => {
  const logits = Float32Array.of(1, 2, 3, 4);
  createSampler(4).sample({
    logits,
    params: { ...NEUTRAL, temperature: 1, topK: 2, repetitionPenalty: 3 },
    seen: new Set([3]),
    step: 0,
    topLogprobs: 2,
  });
  expect([...logits]).toEqual([1, 2, 3, 4]);
});

test('the k largest come largest first, equal ones by id, for every k', () => {
  const values = Float32Array.from({ length: 300 }, (_, i) => Math.round(Math.sin(i * 78.233) * 20));
  const sorted = [...values.keys()].sort((a, b) => (values[b] ?? 0) - (values[a] ?? 0) || a - b);
  for (const k of [0, 1, 2, 7, 20, 299, 300, 400]) expect(largest(values, k)).toEqual(sorted.slice(0, k));
});

import { expect, test } from 'vitest';
import { distance, perplexity, position } from '../../../src/bench/accuracy.ts';

const EVEN = Float32Array.of(0, 0, 0, 0);
const SKEWED = Float32Array.of(Math.log(4), Math.log(2), 0, 0);

test('a position is the softmax in logarithms, and the lowest id of the likeliest tokens', () => {
  expect(position(EVEN, 2)).toMatchObject({ best: 0 });
  expect(position(EVEN, 2).logprob).toBeCloseTo(-Math.log(4), 6);
  const { best, logprob, distribution } = position(SKEWED, 1);
  expect(best).toBe(0);
  expect(logprob).toBeCloseTo(Math.log(2 / 8), 6);
  expect(distribution.reduce((sum, value) => sum + Math.exp(value), 0)).toBeCloseTo(1, 12);
});

test('perplexity of an even choice of four is four', () => {
  expect(perplexity([position(EVEN, 0), position(EVEN, 3)])).toBeCloseTo(4, 6);
});

test('the same distribution is no distance away', () => {
  const positions = [position(EVEN, 1), position(SKEWED, 0)];
  expect(distance(positions, positions)).toEqual({
    meanKl: 0,
    meanLogprobDifference: 0,
    maxLogprobDifference: 0,
    sameBest: 1,
  });
});

test('distance is the divergence from the reference, and how the answer’s probability changed', () => {
  const found = distance([position(SKEWED, 1), position(EVEN, 0)], [position(EVEN, 1), position(EVEN, 0)]);
  // 1/2 log 2 + 1/4 log 1 + 2 × 1/8 log 1/2, and nothing at the other position.
  expect(found.meanKl).toBeCloseTo((0.5 * Math.log(2) - 0.25 * Math.log(2)) / 2, 6);
  expect(found.maxLogprobDifference).toBeCloseTo(0, 6);
  expect(found.sameBest).toBe(1);
});

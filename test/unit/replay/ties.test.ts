import { expect, test } from 'vitest';
import { replaySteps } from '../../../src/cli/commands/verify-replay-steps.ts';
import type { Draw } from '../../../src/engine/sampler.ts';
import { FollowingSampler, type Place } from '../../../src/replay/following-sampler.ts';
import type { Replay } from '../../../src/replay/replay.ts';
import type { Step } from '../../../src/verifier/step.ts';

const VOCABULARY = 5;

function draw(step: number, logits: readonly number[], repetitionPenalty = 1): Draw {
  const params = { temperature: 0, topP: 1, topK: 0, minP: 0, repetitionPenalty, seed: 0 };
  return { logits: Float32Array.from(logits), params, seen: new Set([2]), step, topLogprobs: 1 };
}

/** Follows an answer over rows of logits of our own making. */
function follow(answer: readonly number[], rows: readonly (readonly number[])[]) {
  const sampler = new FollowingSampler(answer, VOCABULARY);
  const chosen = rows.map((row, step) => sampler.sample(draw(step, row))?.id);
  return { places: sampler.places, chosen };
}

function tokensStep(places: readonly Place[], answer: readonly number[], nearTie: number): Step | undefined {
  const executed = { backbone: 'b', adapters: [], finish: 'length' };
  const run = { places, tokens: answer.length, reason: 'length' as const };
  const found: Replay = { backbone: 'b', adapters: [], run };
  const terms = { executed, answer, bits: 32, finish: 'length' as const, nearTie };
  return replaySteps(found, terms).find(({ step }) => step === 'replay.tokens');
}

// The second and third tokens are 2^-10 apart in the second row: a number that floats hold exactly.
const ROWS = [
  [0, 1, 9, 3, 0],
  [0, 4, 4 + 2 ** -10, 1, 0],
  [7, 0, 0, 0, 1],
];
const ANSWER = [2, 1, 0];

test('a near-tie is followed, noted with its margin, and told apart from a difference by the limit alone', () => {
  const { places, chosen } = follow(ANSWER, ROWS);
  expect(chosen).toEqual(ANSWER);
  expect(places.map(({ behind }) => behind)).toEqual([0, 2 ** -10, 0]);
  expect(places.map(({ margin }) => margin)).toEqual([6, 2 ** -10, 6]);
  expect(places[1]).toMatchObject({ at: 1, given: 1, best: 2 });

  const held = tokensStep(places, ANSWER, 2 ** -10);
  expect(held?.result).toBe('true');
  expect(held?.compared).toBe(
    '2 of 3 tokens are those of this run, 1 at near-ties of at most 0.0009765625: position 1 has 1, this run 2, ' +
      'whose logit is 0.000977 higher (and 0.000977 above the second best)',
  );
  const exact = tokensStep(places, ANSWER, 2 ** -11);
  expect(exact?.result).toBe('false');
  expect(exact?.compared).toContain('where 0.00048828125 is a near-tie; 1 of 3 positions differ by more');
  expect(tokensStep(places, ANSWER, 0)?.result).toBe('false');
});

test('a token that is far behind is none, however near the two best are to each other', () => {
  const { places } = follow([2, 3, 0], ROWS);
  expect(places[1]).toMatchObject({ given: 3, best: 2, behind: 3 + 2 ** -10, margin: 2 ** -10 });
  expect(tokensStep(places, [2, 3, 0], 1e-3)?.result).toBe('false');
});

test('of equal logits the lower token is best, as in the engine, and the other is at a tie of 0', () => {
  const { places } = follow([1], [[0, 5, 5, 0, 0]]);
  expect(places[0]).toMatchObject({ best: 1, behind: 0, margin: 0 });
  const other = follow([2], [[0, 5, 5, 0, 0]]).places;
  expect(other[0]).toMatchObject({ given: 2, best: 1, behind: 0 });
  expect(tokensStep(other, [2], 0)?.result).toBe('true');
});

test('behind the answer it chooses as the engine does, and what is no token it does not follow', () => {
  const { chosen, places } = follow([2, 99], [...ROWS]);
  expect(chosen).toEqual([2, 2, 0]);
  expect(places.map(({ behind }) => behind)).toEqual([0, Number.POSITIVE_INFINITY]);
  const step = tokensStep(places, [2, 99], 100);
  expect([step?.result, step?.compared]).toEqual([
    'false',
    'position 1 has 99, which is not in the vocabulary, where 100 is a near-tie; 1 of 2 positions differ by more',
  ]);
});

test('an answer that is longer than the run is false, and one that is shorter', () => {
  const { places } = follow(ANSWER, ROWS);
  const longer = tokensStep(places, [...ANSWER, 1], 1e-3);
  expect([longer?.result, longer?.compared]).toEqual(['false', 'the run ended after 3 of 4 tokens']);
});

test('margins are those behind the repetition penalty, and logits that are not finite choose nothing', () => {
  const sampler = new FollowingSampler([2], VOCABULARY);
  expect(sampler.sample(draw(0, [0, 4, 6, 0, 0], 2))?.id).toBe(2);
  expect(sampler.places[0]).toMatchObject({ best: 1, behind: 1, margin: 1 });
  expect(new FollowingSampler([2], VOCABULARY).sample(draw(0, [0, Number.NaN, 6, 0, 0]))).toBeNull();
});

test('scores that are not finite are judged by nobody: neither right nor a tie', () => {
  const sampler = new FollowingSampler([2], VOCABULARY);
  // The token was seen before, and a penalty near 0 makes its score larger than any number.
  sampler.sample(draw(0, [0, 4, 6, 0, 0], 1e-300));
  expect(sampler.places[0]?.behind).toBe(Number.NaN);
  expect(tokensStep(sampler.places, [2], 0.5)?.result).toBe('unchecked');
});

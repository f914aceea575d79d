import { expect, test } from 'vitest';
import type { Clock } from '../../../src/kernel/clock.ts';
import { AttemptBound } from '../../../src/tenant/attempt-bound.ts';

function boundOf(most: number) {
  let ms = 0;
  const clock: Clock = { nowMs: () => 0, monotonicMs: () => ms };
  const pass = (more: number): void => {
    ms += more;
  };
  return { bound: new AttemptBound(most, clock), pass };
}

test('so many of a subject pass in a minute, whatever others do, and as many in the next', () => {
  const { bound, pass } = boundOf(2);
  const admitted = (subject: string) => [1, 2, 3].map(() => bound.admits(subject));
  expect(admitted('a')).toEqual([true, true, false]);
  pass(59_999);
  expect(bound.admits('a')).toBe(false);
  expect(admitted('b')).toEqual([true, true, false]);
  pass(1);
  expect(admitted('a')).toEqual([true, true, false]);
});

test('the one that was seen first is forgotten when there are too many', () => {
  const { bound } = boundOf(1);
  expect(bound.admits('first')).toBe(true);
  for (let i = 0; i < 9_999; i += 1) bound.admits(String(i));
  expect(bound.admits('first')).toBe(false);
  bound.admits('one more');
  expect(bound.admits('9998')).toBe(false);
  expect(bound.admits('first')).toBe(true);
});

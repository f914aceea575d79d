import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  countOf,
  includes,
  type Range,
  rangesText,
  shared,
  united,
  without,
} from '../../../src/verifier/checks/ranges.ts';

const SEED = 20_261_129;
const MOST = 24;

const range: fc.Arbitrary<Range> = fc
  .record({ first: fc.integer({ min: 1, max: MOST }), more: fc.integer({ min: 0, max: 6 }) })
  .map(({ first, more }) => ({ first: BigInt(first), last: BigInt(first + more) }));
const ranges = fc.array(range, { maxLength: 6 });

/** The numbers one by one, which the functions never look at. */
const numbers = (all: readonly Range[]): readonly bigint[] =>
  [...Array(MOST + 8).keys()]
    .map(BigInt)
    .filter((number) => all.some(({ first, last }) => first <= number && number <= last));

test('sets of numbers by their ranges are those of the numbers one by one', () => {
  const property = fc.property(ranges, ranges, (one, other) => {
    const [a, b] = [new Set(numbers(one)), new Set(numbers(other))];
    expect(numbers(united([...one, ...other]))).toEqual(numbers([...one, ...other]));
    expect(numbers(without(one, other))).toEqual([...a].filter((number) => !b.has(number)));
    expect(numbers(shared(one, other))).toEqual([...a].filter((number) => b.has(number)));
    expect(countOf(united(one))).toBe(BigInt(a.size));
    for (const result of [united(one), without(one, other), shared(one, other)]) {
      for (const [index, { first, last }] of result.entries()) {
        expect(first <= last).toBe(true);
        if (index > 0) expect(first > (result[index - 1]?.last ?? first) + 1n).toBe(true);
      }
    }
    for (const number of a) expect(includes(united(one), number)).toBe(true);
    for (const number of b) expect(includes(united(one), number)).toBe(a.has(number));
  });
  fc.assert(property, { seed: SEED, numRuns: 300 });
});

test('the largest ranges cost as little as the smallest', () => {
  const all = { first: 1n, last: 2n ** 64n - 1n };
  expect(without([all], [{ first: 5n, last: 2n ** 64n - 3n }])).toEqual([
    { first: 1n, last: 4n },
    { first: 2n ** 64n - 2n, last: 2n ** 64n - 1n },
  ]);
  expect(rangesText([{ first: 3n, last: 3n }, all])).toBe('3, 1-18446744073709551615');
});

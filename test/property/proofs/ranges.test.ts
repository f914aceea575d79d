import fc from 'fast-check';
import { expect, test } from 'vitest';
import { joinRanges } from '../../../src/proofs/epochs/ranges.ts';

const SEED = Number(process.env['PATCHBAY_TEST_SEED'] ?? 20_261_129);

test('ranges have the same numbers, ascend and do not touch, whatever they are made of', () => {
  const range = fc.tuple(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 0, max: 9 }));
  fc.assert(
    fc.property(fc.array(range, { maxLength: 30 }), (made) => {
      const ranges = made.map(([first, more]) => ({ first: BigInt(first), last: BigInt(first + more) }));
      const numbers = (of: typeof ranges) =>
        new Set(
          of.flatMap(({ first, last }) =>
            Array.from({ length: Number(last - first) + 1 }, (_, i) => Number(first) + i),
          ),
        );
      const joined = [...joinRanges(ranges)];
      expect([...numbers(joined)].sort()).toEqual([...numbers(ranges)].sort());
      for (const [index, { first, last }] of joined.entries()) {
        expect(first <= last).toBe(true);
        const next = joined[index + 1];
        if (next !== undefined) expect(next.first > last + 1n).toBe(true);
      }
    }),
    { seed: SEED },
  );
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { blendShares } from '../../../src/metering/shares.ts';

const weight = fc
  .double({ min: -1e6, max: 1e6, noNaN: true, noDefaultInfinity: true })
  .filter((value) => value !== 0);

describe('the shares of a blend', () => {
  it('are |weight| over the sum of |weights|, as decimals and not as doubles', () => {
    expect(blendShares([0.1, -0.2])).toEqual([
      { numerator: 1n, denominator: 3n },
      { numerator: 2n, denominator: 3n },
    ]);
    expect(blendShares([1])).toEqual([{ numerator: 1n, denominator: 1n }]);
    expect(blendShares([1e-7, 3e-7])).toEqual([
      { numerator: 1n, denominator: 4n },
      { numerator: 3n, denominator: 4n },
    ]);
    expect(blendShares([1e21, 1e21])).toEqual([
      { numerator: 1n, denominator: 2n },
      { numerator: 1n, denominator: 2n },
    ]);
    expect(blendShares([])).toEqual([]);
  });

  it('add up to one exactly, whatever the weights', () => {
    fc.assert(
      fc.property(fc.array(weight, { minLength: 1, maxLength: 8 }), (weights) => {
        const shares = blendShares(weights);
        const sum = shares.reduce((total, share) => total + share.numerator, 0n);
        for (const share of shares) {
          expect(share.denominator).toBe(sum);
          expect(share.numerator > 0n).toBe(true);
        }
      }),
      { numRuns: 1_000 },
    );
  });

  it('keep the order of the weights', () => {
    fc.assert(
      fc.property(weight, weight, (a, b) => {
        const [first, second] = blendShares([a, b]);
        const order = Math.sign(Math.abs(a) - Math.abs(b));
        expect(Math.sign(Number((first?.numerator ?? 0n) - (second?.numerator ?? 0n)))).toBe(order);
      }),
    );
  });
});

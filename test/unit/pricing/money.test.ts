import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { allocate, formatMoney, parseMoney, roundDown, roundHalfEven } from '../../../src/kernel/money.ts';

const SEED = 20_260_301;
const amount = fc.bigInt({ min: 0n, max: 10n ** 40n });
const positive = fc.bigInt({ min: 1n, max: 10n ** 30n });

describe('rounding', () => {
  it('goes to the nearest integer, and at a tie to the even one', () => {
    const halves = [0n, 1n, 2n, 3n, 4n, 5n, 6n, 7n].map((n) => roundHalfEven(n, 2n));
    expect(halves).toEqual([0n, 0n, 1n, 2n, 2n, 2n, 3n, 4n]);
    expect(roundHalfEven(14n, 10n)).toBe(1n);
    expect(roundHalfEven(16n, 10n)).toBe(2n);
    expect(roundHalfEven(2n ** 80n + 1n, 2n)).toBe(2n ** 79n);
  });

  it('is within a half of the exact value and keeps order', () => {
    fc.assert(
      fc.property(amount, amount, positive, (a, b, d) => {
        const rounded = roundHalfEven(a, d);
        const off = 2n * (rounded * d - a);
        expect(off <= d && -off <= d).toBe(true);
        if (a <= b) expect(rounded <= roundHalfEven(b, d)).toBe(true);
        expect(roundDown(a, d) * d <= a && (roundDown(a, d) + 1n) * d > a).toBe(true);
      }),
      { seed: SEED, numRuns: 2_000 },
    );
  });

  it('refuses negative amounts and divisors that are not positive', () => {
    expect(() => roundHalfEven(-1n, 2n)).toThrow(RangeError);
    expect(() => roundDown(1n, 0n)).toThrow(RangeError);
    expect(() => allocate(1n, [0n, 0n])).toThrow(RangeError);
    expect(() => allocate(1n, [2n, -1n])).toThrow(RangeError);
    expect(() => allocate(1n, [])).toThrow(RangeError);
  });
});

describe('allocation', () => {
  it('gives what is left to the largest remainders, and among equal ones to who comes first', () => {
    expect(allocate(100n, [1n, 1n, 1n])).toEqual([34n, 33n, 33n]);
    expect(allocate(5n, [1n, 1n, 1n])).toEqual([2n, 2n, 1n]);
    // Exact parts 0.7, 1.4 and 4.9: the units left go to the third and the first.
    expect(allocate(7n, [1n, 2n, 7n])).toEqual([1n, 1n, 5n]);
    expect(allocate(1n, [0n, 1n])).toEqual([0n, 1n]);
    expect(allocate(0n, [3n, 4n])).toEqual([0n, 0n]);
  });

  it('adds up exactly, stays within one unit of the exact part, and gives nothing to a weight of zero', () => {
    const weights = fc
      .array(fc.oneof(fc.constant(0n), fc.bigInt({ min: 1n, max: 10n ** 20n })), {
        minLength: 1,
        maxLength: 64,
      })
      .filter((all) => all.some((weight) => weight > 0n));
    fc.assert(
      fc.property(amount, weights, (total, all) => {
        const parts = allocate(total, all);
        const sum = all.reduce((added, weight) => added + weight, 0n);
        expect(parts.reduce((added, each) => added + each, 0n)).toBe(total);
        for (const [index, each] of parts.entries()) {
          const exact = total * (all[index] ?? 0n);
          expect(each * sum > exact - sum && each * sum < exact + sum).toBe(true);
        }
        for (const [i, a] of all.entries()) {
          for (const [j, b] of all.entries()) {
            if (a > b || (a === b && i < j)) expect((parts[i] ?? 0n) >= (parts[j] ?? 0n)).toBe(true);
          }
        }
      }),
      { seed: SEED, numRuns: 500 },
    );
  });
});

describe('decimal amounts', () => {
  it('are read and written exactly', () => {
    expect(parseMoney('0.15')).toBe(150_000_000n);
    expect(parseMoney('-1')).toBe(-1_000_000_000n);
    expect(parseMoney('9007199254740993.000000001')).toBe(9_007_199_254_740_993_000_000_001n);
    expect(formatMoney(150_000_000n)).toBe('0.15');
    expect(formatMoney(-1n)).toBe('-0.000000001');
    expect(formatMoney(0n)).toBe('0');
    for (const text of ['', '1.', '.5', '1e3', '0.1234567890', '+1', ' 1', '1,5', '0x1']) {
      expect(parseMoney(text), text).toBeNull();
    }
    fc.assert(
      fc.property(fc.bigInt({ min: -(10n ** 30n), max: 10n ** 30n }), (nanos) => {
        expect(parseMoney(formatMoney(nanos))).toBe(nanos);
      }),
      { seed: SEED },
    );
  });
});

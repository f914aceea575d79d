import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { adjust, sums } from '../../../src/invoicing/adjustments.ts';
import { type BillingTerms, requireBillingTerms } from '../../../src/invoicing/terms.ts';

/** Printed on failure by fast-check; with the same seed it draws the same. */
const SEED = Number(process.env['PATCHBAY_TEST_SEED'] ?? 20_260_404);

const terms = (more: Partial<BillingTerms> = {}): BillingTerms => ({
  currency: 'USD',
  freeNano: 0n,
  minimumNano: 0n,
  tiers: [],
  ...more,
});
const tier = (fromNano: bigint, discountPpm: bigint) => ({ fromNano, discountPpm });

describe('terms', () => {
  test('change nothing when there are none, or when they are of zero', () => {
    expect(adjust(123n, null)).toEqual({ adjustments: [], totalNano: 123n });
    expect(adjust(123n, terms())).toEqual({ adjustments: [], totalNano: 123n });
    expect(adjust(0n, terms({ freeNano: 5n, tiers: [tier(0n, 1_000_000n)] }))).toEqual({
      adjustments: [],
      totalNano: 0n,
    });
  });

  test('give an allowance, of no more than the charges', () => {
    expect(adjust(100n, terms({ freeNano: 30n }))).toEqual({
      adjustments: [{ kind: 'ALLOWANCE', amountNano: -30n }],
      totalNano: 70n,
    });
    expect(adjust(20n, terms({ freeNano: 30n }))).toMatchObject({ totalNano: 0n });
  });

  test('discount each tier on its own part of what the allowance leaves', () => {
    const tiers = [tier(100n, 100_000n), tier(200n, 250_000n)];
    expect(adjust(350n, terms({ freeNano: 50n, tiers }))).toEqual({
      adjustments: [
        { kind: 'ALLOWANCE', amountNano: -50n },
        { kind: 'TIER', fromNano: 100n, discountPpm: 100_000n, basisNano: 100n, amountNano: -10n },
        { kind: 'TIER', fromNano: 200n, discountPpm: 250_000n, basisNano: 100n, amountNano: -25n },
      ],
      totalNano: 265n,
    });
    // At a tier's beginning there is nothing in it yet.
    expect(adjust(150n, terms({ freeNano: 50n, tiers })).adjustments).toHaveLength(1);
  });

  test('round each tier once, half to even', () => {
    const half = (charges: bigint) => adjust(charges, terms({ tiers: [tier(0n, 500_000n)] })).totalNano;
    expect([1n, 2n, 3n, 5n].map(half)).toEqual([1n, 1n, 1n, 3n]);
  });

  test('charge what lacks to the minimum, after discounts, and for nothing used too', () => {
    expect(adjust(0n, terms({ minimumNano: 7n }))).toEqual({
      adjustments: [{ kind: 'MINIMUM', amountNano: 7n }],
      totalNano: 7n,
    });
    expect(adjust(10n, terms({ freeNano: 9n, minimumNano: 7n }))).toEqual({
      adjustments: [
        { kind: 'ALLOWANCE', amountNano: -9n },
        { kind: 'MINIMUM', amountNano: 6n },
      ],
      totalNano: 7n,
    });
    expect(adjust(7n, terms({ minimumNano: 7n })).adjustments).toEqual([]);
  });

  test('are exact beyond 2^53', () => {
    const charges = 3n * 10n ** 18n + 1n;
    const { totalNano, adjustments } = adjust(charges, terms({ freeNano: 1n, tiers: [tier(0n, 333_333n)] }));
    expect(adjustments[1]?.amountNano).toBe(-999_999_000_000_000_000n);
    expect(totalNano).toBe(2_000_001_000_000_000_000n);
  });

  test('always add up: parts equal the whole, and no reduction exceeds the charges', () => {
    const amount = fc.bigInt({ min: 0n, max: 10n ** 18n });
    const anyTerms = fc.record({
      currency: fc.constant('USD'),
      freeNano: amount,
      minimumNano: amount,
      tiers: fc
        .uniqueArray(fc.record({ fromNano: amount, discountPpm: fc.bigInt({ min: 0n, max: 1_000_000n }) }), {
          maxLength: 20,
          selector: ({ fromNano }) => fromNano,
        })
        .map((tiers) => tiers.toSorted((a, b) => (a.fromNano < b.fromNano ? -1 : 1))),
    });
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 10n ** 19n }), anyTerms, (charges, drawn) => {
        requireBillingTerms(drawn, 'terms');
        const { adjustments, totalNano } = adjust(charges, drawn);
        const { reductionNano, minimumNano } = sums(adjustments);
        expect(charges + adjustments.reduce((sum, { amountNano }) => sum + amountNano, 0n)).toBe(totalNano);
        expect(charges - reductionNano + minimumNano).toBe(totalNano);
        expect(reductionNano <= charges).toBe(true);
        expect(totalNano >= drawn.minimumNano).toBe(true);
        const basis = adjustments.reduce((sum, one) => sum + (one.kind === 'TIER' ? one.basisNano : 0n), 0n);
        expect(basis <= charges).toBe(true);
        expect(adjustments.every(({ amountNano }) => amountNano !== 0n)).toBe(true);
      }),
      { seed: SEED, numRuns: 500 },
    );
  });
});

describe('terms out of bounds', () => {
  test.each([
    ['terms.currency', { currency: 'usd' }],
    ['terms.free', { freeNano: -1n }],
    ['terms.minimum', { minimumNano: 10n ** 18n + 1n }],
    ['terms.tiers', { tiers: Array.from({ length: 21 }, (_, i) => tier(BigInt(i), 0n)) }],
    ['terms.tiers.0.discountPpm', { tiers: [tier(0n, 1_000_001n)] }],
    ['terms.tiers.1.from', { tiers: [tier(5n, 0n), tier(5n, 0n)] }],
  ])('are refused with the field %s', (field, more) => {
    expect(() => requireBillingTerms(terms(more), 'terms')).toThrow(expect.objectContaining({ field }));
  });
});

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { allocate, roundHalfEven } from '../../../src/kernel/money.ts';
import { blendShares } from '../../../src/metering/shares.ts';
import { priceRequest } from '../../../src/pricing/price.ts';
import { splitCharge } from '../../../src/pricing/split.ts';
import type { PricedPart, PriceTerms, RoyaltyTerms } from '../../../src/pricing/terms.ts';
import { addUpToOne, divide, round, sharesOfWeights } from '../../../src/verifier/pricing/arithmetic.ts';
import { feeOf, linesOf } from '../../../src/verifier/pricing/lines.ts';
import { request, use } from '../pricing/arbitraries.ts';

const SEED = 20_261_129;
const ID = '018f3c5e-7b1a-7c4e-9d2f-0000000000b0';

// The verifier's arithmetic and that of the program know nothing of each other; both follow docs/concepts/pricing.md.

function priceDocument(price: PriceTerms) {
  return {
    format: 'patchbay-price/1' as const,
    id: ID,
    currency: price.currency,
    inputPerMillion: String(price.inputPerMillion),
    cachedInputPerMillion: String(price.cachedInputPerMillion),
    outputPerMillion: String(price.outputPerMillion),
    rankPerMillion: String(price.rankPerMillion),
    interactivePpm: String(price.classPpm.INTERACTIVE),
    standardPpm: String(price.classPpm.STANDARD),
    batchPpm: String(price.classPpm.BATCH),
    platformFeePpm: String(price.platformFeePpm),
  };
}

function royaltyDocument(royalty: RoyaltyTerms | null) {
  if (royalty === null) return null;
  const format = 'patchbay-royalty/1' as const;
  return royalty.kind === 'SHARE'
    ? { format, id: ID, kind: royalty.kind, sharePpm: String(royalty.sharePpm) }
    : {
        ...{ format, id: ID, kind: royalty.kind },
        inputPerMillion: String(royalty.inputPerMillion),
        outputPerMillion: String(royalty.outputPerMillion),
      };
}

test('lines, fees and earnings are those that the program charges', () => {
  const property = fc.property(request, use, ({ pinned, splits }, { promptTokens, cached, completion }) => {
    const charge = priceRequest(pinned, {
      promptTokens,
      cachedPromptTokens: cached,
      completionTokens: completion,
    });
    const division = splitCharge(pinned, charge, splits);
    for (const [index, part] of pinned.parts.entries()) {
      const lines = linesOf(termsOf(part));
      const charged = (kind: string): bigint =>
        charge.lines.find((line) => line.part === index && line.kind === kind)?.amount ?? 0n;
      expect(lines).toEqual({
        input: charged('INPUT'),
        cached: charged('CACHED_INPUT'),
        output: charged('OUTPUT'),
        rankAmount: charged('RANK'),
        royalty: charged('ROYALTY'),
      });
      const fee = feeOf(lines.royalty, priceDocument(part.price));
      expect(fee).toBe(division.fees[index]);
      const beneficiaries = splits.get(part.splitVersionId ?? '')?.beneficiaries ?? [];
      if (beneficiaries.length === 0) continue;
      const amounts = divide(
        lines.royalty - fee,
        beneficiaries.map(({ parts }) => parts),
      );
      const earned = division.earnings
        .filter((earning) => earning.part === index)
        .map(({ amount }) => amount);
      expect(amounts.filter((amount) => amount > 0n)).toEqual(earned);
    }

    function termsOf(part: PricedPart) {
      return {
        counts: { prompt: BigInt(promptTokens), cached: BigInt(cached), completion: BigInt(completion) },
        share: { over: part.share.numerator, under: part.share.denominator },
        price: priceDocument(part.price),
        multiplier: part.price.classPpm[pinned.priority],
        rank: part.adapter === null ? null : BigInt(part.adapter.rank),
        royalty: royaltyDocument(part.royalty),
      };
    }
  });
  fc.assert(property, { seed: SEED, numRuns: 400 });
});

test('shares are those of the program, and add up to one', () => {
  const weight = fc.double({ noNaN: true, noDefaultInfinity: true }).filter((value) => value !== 0);
  const property = fc.property(fc.array(weight, { minLength: 1, maxLength: 8 }), (weights) => {
    const shares = sharesOfWeights(weights);
    expect(addUpToOne(shares)).toBe(true);
    for (const [index, { numerator, denominator }] of blendShares(weights).entries()) {
      const { over = 0n, under = 0n } = shares[index] ?? {};
      expect(over * denominator).toBe(numerator * under);
    }
  });
  fc.assert(property, { seed: SEED, numRuns: 400 });
});

test('rounding and division are those of the program', () => {
  const natural = fc.bigInt({ min: 0n, max: 10n ** 24n });
  const positive = fc.bigInt({ min: 1n, max: 10n ** 12n });
  const rounding = fc.property(natural, positive, (over, under) => {
    expect(round({ over, under })).toBe(roundHalfEven(over, under));
    expect(round({ over: 2n * over + 1n, under: 2n })).toBe(roundHalfEven(2n * over + 1n, 2n));
  });
  fc.assert(rounding, { seed: SEED, numRuns: 400 });
  const division = fc.property(
    natural,
    fc.array(positive, { minLength: 1, maxLength: 6 }),
    (total, weights) => {
      expect(divide(total, weights)).toEqual(allocate(total, weights));
      const equal = weights.map(() => 1n);
      expect(divide(total, equal)).toEqual(allocate(total, equal));
    },
  );
  fc.assert(division, { seed: SEED, numRuns: 400 });
});

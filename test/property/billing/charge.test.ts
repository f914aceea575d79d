import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  chargeOf,
  pricingFromJson,
  pricingToJson,
  type RequestPricing,
} from '../../../src/billing/pricing.ts';
import { priceRequest } from '../../../src/pricing/price.ts';
import { type Case, request, use } from '../pricing/arbitraries.ts';

const SEED = 20_260_501;

function pricingOf({ pinned, splits }: Case): RequestPricing {
  const beneficiaries = [...splits.values()].flatMap((terms) =>
    terms.beneficiaries.map((one) => one.tenantId),
  );
  const earnings = new Map(beneficiaries.map((id) => [id, `earnings-${id}`]));
  const accounts = { customer: 'customer', platformBase: 'base', platformFee: 'fee', earnings };
  // A pin names its version by an id and its time, which the generator leaves to the samples.
  return { pinned, splits, accounts };
}

const counts = ({
  promptTokens,
  cached,
  completion,
}: {
  promptTokens: number;
  cached: number;
  completion: number;
}) => ({
  promptTokens,
  cachedPromptTokens: cached,
  completionTokens: completion,
});

const sum = (amounts: readonly bigint[]): bigint => amounts.reduce((total, amount) => total + amount, 0n);

test(`a charge is the price, its parts and its credits add up to it, and none is negative (seed ${SEED})`, () => {
  fc.assert(
    fc.property(request, use, (made, used) => {
      const charge = chargeOf(pricingOf(made), counts(used));
      expect(charge.amount).toBe(priceRequest(made.pinned, counts(used)).total);
      expect(sum(charge.credits.map(({ amount }) => amount))).toBe(charge.amount);
      expect(charge.credits.every(({ amount }) => amount > 0n)).toBe(true);
      const lines = charge.parts.flatMap(({ input, cached, output, rank, royalty }) => [
        input,
        cached,
        output,
        rank,
        royalty,
      ]);
      expect(sum(lines)).toBe(charge.amount);
      for (const { royalty, fee } of charge.parts) expect(fee >= 0n && fee <= royalty).toBe(true);
      // Whatever beneficiaries get is the royalties without the fees.
      const earned = charge.credits.filter(({ subjectId }) => subjectId !== null).map(({ amount }) => amount);
      expect(sum(earned)).toBe(sum(charge.parts.map(({ royalty, fee }) => royalty - fee)));
    }),
    { seed: SEED, numRuns: 2_000 },
  );
});

test(`who reads the pricing of an admission charges the same (seed ${SEED})`, () => {
  fc.assert(
    fc.property(request, use, (made, used) => {
      const pricing = pricingOf(made);
      const read = pricingFromJson(JSON.parse(JSON.stringify(pricingToJson(pricing))));
      expect(chargeOf(read, counts(used))).toEqual(chargeOf(pricing, counts(used)));
    }),
    { seed: SEED, numRuns: 500 },
  );
});

test('anything else than a pricing is refused', () => {
  for (const value of [null, {}, { pin: {}, splits: {}, accounts: {} }, 'x', 7]) {
    expect(() => pricingFromJson(value)).toThrow();
  }
});

import type { Fraction } from '../../../src/kernel/money.ts';
import { blendShares } from '../../../src/metering/shares.ts';
import type { Pinned, PinnedPricing, PricedPart, PriceTerms } from '../../../src/pricing/terms.ts';

export const OWNER = '018f3c5e-7b1a-7c4e-9d2f-0000000000a0';

/** Terms of which a test names what it is about; everything else is free and of class one. */
export function terms(more: Partial<PriceTerms> = {}): Pinned<PriceTerms> {
  return {
    versionId: '018f3c5e-7b1a-7c4e-9d2f-0000000000b0',
    currency: 'USD',
    inputPerMillion: 0n,
    cachedInputPerMillion: 0n,
    outputPerMillion: 0n,
    rankPerMillion: 0n,
    classPpm: { INTERACTIVE: 1_000_000n, STANDARD: 1_000_000n, BATCH: 1_000_000n },
    platformFeePpm: 0n,
    ...more,
  };
}

/** The part of an adapter, or of the plain backbone when it is null. */
export function part(more: Partial<PricedPart> = {}): PricedPart {
  return {
    adapter: {
      versionId: '018f3c5e-7b1a-7c4e-9d2f-0000000000c0',
      adapterId: '018f3c5e-7b1a-7c4e-9d2f-0000000000d0',
      ownerTenantId: OWNER,
      rank: 8,
    },
    share: { numerator: 1n, denominator: 1n },
    price: terms(),
    royalty: null,
    splitVersionId: null,
    ...more,
  };
}

/** A request of these parts. */
export function pinned(...parts: readonly PricedPart[]): PinnedPricing {
  return { at: new Date(0), currency: 'USD', priority: 'STANDARD', parts };
}

/** Parts with the shares of a blend. */
export function blend(weights: readonly number[], make: (share: Fraction, index: number) => PricedPart) {
  return pinned(...blendShares(weights).map(make));
}

/** Token counts, none unless named. */
export const tokens = (promptTokens = 0, completionTokens = 0, cachedPromptTokens = 0) => ({
  promptTokens,
  completionTokens,
  cachedPromptTokens,
});

import fc from 'fast-check';
import { blendShares } from '../../../src/metering/shares.ts';
import type { PinnedPricing, PricedPart, SplitTerms } from '../../../src/pricing/terms.ts';
import { part, terms } from '../../unit/pricing/sample.ts';

// Small prices and halves make lines that round up together, large ones leave the doubles behind.
const perMillion = fc.oneof(
  fc.constantFrom(0n, 1n, 499_999n, 500_000n, 500_001n, 1_500_000n),
  fc.bigInt({ min: 0n, max: 10n ** 15n }),
);
const ppm = fc.oneof(fc.constantFrom(0n, 500_000n, 1_000_000n), fc.bigInt({ min: 0n, max: 100_000_000n }));
const price = fc
  .record({
    inputPerMillion: perMillion,
    cachedInputPerMillion: perMillion,
    outputPerMillion: perMillion,
    rankPerMillion: fc.bigInt({ min: 0n, max: 10n ** 12n }),
    classPpm: fc.record({ INTERACTIVE: ppm, STANDARD: ppm, BATCH: ppm }),
    platformFeePpm: fc.bigInt({ min: 0n, max: 1_000_000n }),
  })
  .map(terms);
const royalty = fc.oneof(
  fc.constant(null),
  fc.record({
    versionId: fc.constant('r'),
    kind: fc.constant('PER_TOKEN' as const),
    inputPerMillion: perMillion,
    outputPerMillion: perMillion,
  }),
  fc.record({
    versionId: fc.constant('r'),
    kind: fc.constant('SHARE' as const),
    sharePpm: fc.bigInt({ min: 0n, max: 10_000_000n }),
  }),
);
const weight = fc
  .double({ min: -16, max: 16, noNaN: true, noDefaultInfinity: true })
  .filter((value) => value !== 0);
const split = fc.array(fc.bigInt({ min: 1n, max: 10n ** 15n }), { minLength: 1, maxLength: 6 }).map(
  (all): SplitTerms => ({
    beneficiaries: all.map((parts, index) => ({ tenantId: `tenant-${index}`, parts })),
  }),
);

/** What a request is priced by. */
export interface Case {
  readonly pinned: PinnedPricing;
  readonly splits: ReadonlyMap<string, SplitTerms>;
}

/** Anything that a request can be priced by, within the bounds of what can be set. */
export const request: fc.Arbitrary<Case> = fc
  .record({
    priority: fc.constantFrom('INTERACTIVE' as const, 'STANDARD' as const, 'BATCH' as const),
    parts: fc.array(fc.record({ weight, price, royalty, split, rank: fc.integer({ min: 1, max: 1_024 }) }), {
      minLength: 1,
      maxLength: 8,
    }),
    plain: fc.boolean(),
  })
  .map(({ priority, parts, plain }) => {
    const used = plain ? parts.slice(0, 1) : parts;
    const shares = blendShares(used.map((each) => each.weight));
    const splits = new Map<string, SplitTerms>();
    const made = used.map((each, index): PricedPart => {
      splits.set(`split-${index}`, each.split);
      const share = shares[index] ?? { numerator: 1n, denominator: 1n };
      if (plain) return part({ adapter: null, price: each.price });
      const { adapter } = part();
      return part({
        adapter: adapter && { ...adapter, rank: each.rank },
        share,
        price: each.price,
        royalty: each.royalty,
        splitVersionId: `split-${index}`,
      });
    });
    return { pinned: { at: new Date(0), currency: 'USD', priority, parts: made }, splits };
  });

/** A prompt, how much of it is cached, and how much of the allowed answer is generated. */
export const use = fc
  .record({ prompt: fc.nat(200_000), max: fc.nat(20_000), small: fc.boolean() })
  .chain(({ prompt, max, small }) => {
    const promptTokens = small ? prompt % 6 : prompt;
    const maxTokens = small ? max % 6 : max;
    return fc.record({
      promptTokens: fc.constant(promptTokens),
      maxTokens: fc.constant(maxTokens),
      cached: fc.nat(promptTokens),
      completion: fc.nat(maxTokens),
      unread: fc.boolean(),
    });
  });

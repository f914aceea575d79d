import { z } from 'zod';
import { currency, decimal, uuid } from './texts.ts';

// The bounds are those of docs/concepts/pricing.md.
const perMillion = decimal(10n ** 15n);
const multiplier = decimal(10n ** 8n);

const price = z.strictObject({
  format: z.literal('patchbay-price/1'),
  id: uuid,
  currency,
  inputPerMillion: perMillion,
  cachedInputPerMillion: perMillion,
  outputPerMillion: perMillion,
  rankPerMillion: decimal(10n ** 12n),
  interactivePpm: multiplier,
  standardPpm: multiplier,
  batchPpm: multiplier,
  platformFeePpm: decimal(10n ** 6n),
});

const tokenRoyalty = z.strictObject({
  format: z.literal('patchbay-royalty/1'),
  id: uuid,
  kind: z.literal('PER_TOKEN'),
  inputPerMillion: perMillion,
  outputPerMillion: perMillion,
});

const shareRoyalty = z.strictObject({
  format: z.literal('patchbay-royalty/1'),
  id: uuid,
  kind: z.literal('SHARE'),
  sharePpm: decimal(10n ** 7n),
});

const split = z.strictObject({
  format: z.literal('patchbay-split/1'),
  id: uuid,
  beneficiaries: z
    .array(z.strictObject({ tenant: uuid, parts: decimal(10n ** 15n, 1n) }))
    .min(1)
    .max(64)
    .refine(
      (all) => new Set(all.map(({ tenant }) => tenant)).size === all.length,
      'must name each beneficiary once',
    ),
});

/** A document that a field names by its digest. */
export const pricingDocument = z.discriminatedUnion('format', [
  price,
  z.discriminatedUnion('kind', [tokenRoyalty, shareRoyalty]),
  split,
]);

export type PriceDocument = z.infer<typeof price>;
export type RoyaltyDocument = z.infer<typeof tokenRoyalty> | z.infer<typeof shareRoyalty>;
export type SplitDocument = z.infer<typeof split>;
export type PricingDocument = z.infer<typeof pricingDocument>;

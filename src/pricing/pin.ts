import { z } from 'zod';
import type { Json } from '../db/idempotency.ts';
import { PRIORITY_CLASSES } from '../kernel/priority.ts';
import type { PinnedPricing, PricedPart } from './terms.ts';

const integer = z
  .string()
  .regex(/^\d{1,400}$/)
  .transform(BigInt);

const price = z.object({
  versionId: z.string(),
  currency: z.string(),
  inputPerMillion: integer,
  cachedInputPerMillion: integer,
  outputPerMillion: integer,
  rankPerMillion: integer,
  classPpm: z.object({ INTERACTIVE: integer, STANDARD: integer, BATCH: integer }),
  platformFeePpm: integer,
});

const royalty = z.discriminatedUnion('kind', [
  z.object({
    versionId: z.string(),
    kind: z.literal('PER_TOKEN'),
    inputPerMillion: integer,
    outputPerMillion: integer,
  }),
  z.object({ versionId: z.string(), kind: z.literal('SHARE'), sharePpm: integer }),
]);

const pinned = z.object({
  at: z.iso.datetime().transform((text) => new Date(text)),
  currency: z.string(),
  priority: z.enum(PRIORITY_CLASSES),
  parts: z.array(
    z.object({
      adapter: z
        .object({
          versionId: z.string(),
          adapterId: z.string(),
          ownerTenantId: z.string(),
          rank: z.number(),
        })
        .nullable(),
      share: z.object({ numerator: integer, denominator: integer }),
      price,
      royalty: royalty.nullable(),
      splitVersionId: z.string().nullable(),
    }),
  ),
});

/** A pin as JSON, with integers as decimal strings, to be kept with an admission. */
export function pinToJson({ at, currency, priority, parts }: PinnedPricing): Json {
  return { at: at.toISOString(), currency, priority, parts: parts.map(partToJson) };
}

function partToJson({ adapter, share, price: terms, royalty: asked, splitVersionId }: PricedPart): Json {
  return {
    adapter: adapter === null ? null : { ...adapter },
    share: { numerator: String(share.numerator), denominator: String(share.denominator) },
    price: {
      versionId: terms.versionId,
      currency: terms.currency,
      inputPerMillion: String(terms.inputPerMillion),
      cachedInputPerMillion: String(terms.cachedInputPerMillion),
      outputPerMillion: String(terms.outputPerMillion),
      rankPerMillion: String(terms.rankPerMillion),
      classPpm: {
        INTERACTIVE: String(terms.classPpm.INTERACTIVE),
        STANDARD: String(terms.classPpm.STANDARD),
        BATCH: String(terms.classPpm.BATCH),
      },
      platformFeePpm: String(terms.platformFeePpm),
    },
    royalty: asked === null ? null : royaltyToJson(asked),
    splitVersionId,
  };
}

function royaltyToJson(asked: NonNullable<PricedPart['royalty']>): Json {
  const { versionId, kind } = asked;
  if (asked.kind === 'SHARE') return { versionId, kind, sharePpm: String(asked.sharePpm) };
  return {
    versionId,
    kind,
    inputPerMillion: String(asked.inputPerMillion),
    outputPerMillion: String(asked.outputPerMillion),
  };
}

/** Reads {@link pinToJson} back; throws on anything else. */
export function pinFromJson(value: unknown): PinnedPricing {
  return pinned.parse(value);
}

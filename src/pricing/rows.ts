import { z } from 'zod';
import type { Json } from '../db/idempotency.ts';
import type { Uuid } from '../kernel/ids.ts';
import { DEFAULT_CURRENCY } from '../kernel/money.ts';
import type { PriceTerms, RoyaltyTerms } from './terms.ts';
import type { EffectiveVersion } from './versions.ts';

/** A version of a backbone's or an adapter's prices. */
export interface PriceVersion extends EffectiveVersion {
  /** Exactly one of the two is set. */
  readonly backboneDigest: string | null;
  readonly adapterId: Uuid | null;
  /** Null when the adapter has the backbone's prices from here on. */
  readonly terms: PriceTerms | null;
}

/** A version of what the owner of an adapter asks for it. */
export interface RoyaltyVersion extends EffectiveVersion {
  readonly adapterId: Uuid;
  readonly terms: RoyaltyTerms;
}

/** What every row of versions has. */
interface VersionRow {
  readonly id: Uuid;
  readonly effectiveFrom: Date;
  readonly createdAt: Date;
}

const priceTerms = z.object({
  currency: z.string(),
  inputNanoPerMillion: z.bigint(),
  cachedInputNanoPerMillion: z.bigint(),
  outputNanoPerMillion: z.bigint(),
  rankNanoPerMillion: z.bigint(),
  interactivePpm: z.bigint(),
  standardPpm: z.bigint(),
  batchPpm: z.bigint(),
  platformFeePpm: z.bigint(),
});

const royaltyTerms = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('PER_TOKEN'),
    inputNanoPerMillion: z.bigint(),
    outputNanoPerMillion: z.bigint(),
  }),
  z.object({ kind: z.literal('SHARE'), sharePpm: z.bigint() }),
]);

/** Reads a row of price_version. */
export function toPriceVersion(
  row: VersionRow & {
    readonly backboneDigest: string | null;
    readonly adapterId: Uuid | null;
    readonly inherits: boolean;
  },
  effectiveUntil: Date | null,
): PriceVersion {
  const { id, effectiveFrom, createdAt, backboneDigest, adapterId } = row;
  const version = { id, effectiveFrom, effectiveUntil, createdAt, backboneDigest, adapterId };
  if (row.inherits) return { ...version, terms: null };
  const columns = priceTerms.parse(row);
  const terms: PriceTerms = {
    currency: columns.currency,
    inputPerMillion: columns.inputNanoPerMillion,
    cachedInputPerMillion: columns.cachedInputNanoPerMillion,
    outputPerMillion: columns.outputNanoPerMillion,
    rankPerMillion: columns.rankNanoPerMillion,
    classPpm: {
      INTERACTIVE: columns.interactivePpm,
      STANDARD: columns.standardPpm,
      BATCH: columns.batchPpm,
    },
    platformFeePpm: columns.platformFeePpm,
  };
  return { ...version, terms };
}

/** The columns of terms; without terms those of a version that inherits, whose currency says nothing. */
export function priceColumns(terms: PriceTerms | null, currency: string | null) {
  if (terms === null) return { inherits: true, currency: currency ?? DEFAULT_CURRENCY };
  return {
    currency: terms.currency,
    inputNanoPerMillion: terms.inputPerMillion,
    cachedInputNanoPerMillion: terms.cachedInputPerMillion,
    outputNanoPerMillion: terms.outputPerMillion,
    rankNanoPerMillion: terms.rankPerMillion,
    interactivePpm: terms.classPpm.INTERACTIVE,
    standardPpm: terms.classPpm.STANDARD,
    batchPpm: terms.classPpm.BATCH,
    platformFeePpm: terms.platformFeePpm,
  };
}

/** Reads a row of royalty_version. */
export function toRoyaltyVersion(
  row: VersionRow & { readonly adapterId: Uuid },
  effectiveUntil: Date | null,
): RoyaltyVersion {
  const { id, effectiveFrom, createdAt, adapterId } = row;
  const columns = royaltyTerms.parse(row);
  const terms: RoyaltyTerms =
    columns.kind === 'SHARE'
      ? columns
      : {
          kind: columns.kind,
          inputPerMillion: columns.inputNanoPerMillion,
          outputPerMillion: columns.outputNanoPerMillion,
        };
  return { id, effectiveFrom, effectiveUntil, createdAt, adapterId, terms };
}

/** The columns of terms. */
export function royaltyColumns(terms: RoyaltyTerms) {
  if (terms.kind === 'SHARE') return terms;
  return {
    kind: terms.kind,
    inputNanoPerMillion: terms.inputPerMillion,
    outputNanoPerMillion: terms.outputPerMillion,
  };
}

/** Terms as JSON, integers as decimal strings, for the audit log and the hash of a request. */
export function termsJson(terms: PriceTerms | RoyaltyTerms): Json {
  const entries = 'classPpm' in terms ? { ...terms, ...terms.classPpm, classPpm: undefined } : terms;
  return Object.fromEntries(
    Object.entries(entries).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]])),
  );
}

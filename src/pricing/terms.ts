import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { CURRENCY, type Fraction, MILLION } from '../kernel/money.ts';
import { PRIORITY_CLASSES, type PriorityClass } from '../kernel/priority.ts';

/** What an operator asks: nano-units of the currency for a million tokens, and rates in parts per million. */
export interface PriceTerms {
  readonly currency: string;
  readonly inputPerMillion: bigint;
  readonly cachedInputPerMillion: bigint;
  readonly outputPerMillion: bigint;
  /** For each rank of an adapter and a million tokens that were computed with it. */
  readonly rankPerMillion: bigint;
  /** What the amounts above are multiplied by in each class. */
  readonly classPpm: Readonly<Record<PriorityClass, bigint>>;
  /** The platform's part of royalties. */
  readonly platformFeePpm: bigint;
}

/** What an owner asks on top: for tokens, or as a share of what the adapter's part costs without it. */
export type RoyaltyTerms =
  | { readonly kind: 'PER_TOKEN'; readonly inputPerMillion: bigint; readonly outputPerMillion: bigint }
  | { readonly kind: 'SHARE'; readonly sharePpm: bigint };

/** Who earns a royalty, in which parts of the whole; their order breaks ties of rounding. */
export interface SplitTerms {
  readonly beneficiaries: readonly { readonly tenantId: Uuid; readonly parts: bigint }[];
}

/** A version of something that is in effect from a time on. */
export type Pinned<T> = T & { readonly versionId: Uuid };

/** One adapter version of a request, or the plain backbone, and everything that its price follows from. */
export interface PricedPart {
  readonly adapter: PricedAdapter | null;
  /** The part's share of the request; the shares of one request add up to one. */
  readonly share: Fraction;
  readonly price: Pinned<PriceTerms>;
  /** Null when the owner asks for nothing, and for the plain backbone. */
  readonly royalty: Pinned<RoyaltyTerms> | null;
  /** Null when the owner earns all of it, and for the plain backbone. */
  readonly splitVersionId: Uuid | null;
}

/** The adapter version of a part. */
export interface PricedAdapter {
  readonly versionId: Uuid;
  readonly adapterId: Uuid;
  readonly ownerTenantId: Uuid;
  readonly rank: number;
}

/** Everything that the price of one request follows from but its token counts, as of its admission. */
export interface PinnedPricing {
  /** The time for which the versions were in effect. */
  readonly at: Date;
  readonly currency: string;
  readonly priority: PriorityClass;
  readonly parts: readonly PricedPart[];
}

/** What a request used. */
export interface TokenCounts {
  /** All prompt tokens, the cached ones among them. */
  readonly promptTokens: number;
  readonly cachedPromptTokens: number;
  readonly completionTokens: number;
}

/** Bounds of what can be set; the database has the same as checks. */
export const PRICE_LIMITS = {
  /** A million units of the currency for a million tokens. */
  perMillionMax: 10n ** 15n,
  rankPerMillionMax: 10n ** 12n,
  /** A hundredfold. */
  classPpmMax: 100n * MILLION,
  /** Tenfold. */
  royaltySharePpmMax: 10n * MILLION,
  beneficiariesMax: 64,
  partsMax: 10n ** 15n,
} as const;

/** Throws BAD_INPUT, naming the field, unless the terms are within the bounds. */
export function requirePriceTerms(terms: PriceTerms, field: string): void {
  const { perMillionMax, rankPerMillionMax, classPpmMax } = PRICE_LIMITS;
  if (!CURRENCY.test(terms.currency)) {
    bad(`${field}.currency`, 'The currency must be 3 to 8 capital letters, such as USD.');
  }
  requireRange(terms.inputPerMillion, perMillionMax, `${field}.inputPerMillion`);
  requireRange(terms.cachedInputPerMillion, perMillionMax, `${field}.cachedInputPerMillion`);
  requireRange(terms.outputPerMillion, perMillionMax, `${field}.outputPerMillion`);
  requireRange(terms.rankPerMillion, rankPerMillionMax, `${field}.rankPerMillion`);
  for (const priority of PRIORITY_CLASSES) {
    requireRange(terms.classPpm[priority], classPpmMax, `${field}.${priority.toLowerCase()}Ppm`);
  }
  requireRange(terms.platformFeePpm, MILLION, `${field}.platformFeePpm`);
}

/** Throws BAD_INPUT, naming the field, unless the terms are within the bounds. */
export function requireRoyaltyTerms(terms: RoyaltyTerms, field: string): void {
  if (terms.kind === 'SHARE') {
    requireRange(terms.sharePpm, PRICE_LIMITS.royaltySharePpmMax, `${field}.sharePpm`);
    return;
  }
  requireRange(terms.inputPerMillion, PRICE_LIMITS.perMillionMax, `${field}.inputPerMillion`);
  requireRange(terms.outputPerMillion, PRICE_LIMITS.perMillionMax, `${field}.outputPerMillion`);
}

/** Throws BAD_INPUT, naming the field, unless the split gives positive parts to different beneficiaries. */
export function requireSplitTerms({ beneficiaries }: SplitTerms, field: string): void {
  const { beneficiariesMax, partsMax } = PRICE_LIMITS;
  if (beneficiaries.length < 1 || beneficiaries.length > beneficiariesMax) {
    bad(field, `A split has 1 to ${beneficiariesMax} beneficiaries.`);
  }
  if (new Set(beneficiaries.map(({ tenantId }) => tenantId)).size < beneficiaries.length) {
    bad(field, 'Each beneficiary can be named once.');
  }
  for (const [index, { parts }] of beneficiaries.entries()) {
    if (parts < 1n || parts > partsMax) bad(`${field}.${index}.parts`, `Parts must be 1 to ${partsMax}.`);
  }
}

function requireRange(value: bigint, max: bigint, field: string): void {
  if (value < 0n || value > max) bad(field, `The value must be 0 to ${max}.`);
}

function bad(field: string, message: string): never {
  throw new PatchbayError('BAD_INPUT', message, { field });
}

import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { Json } from '../kernel/json.ts';
import { CURRENCY, MILLION } from '../kernel/money.ts';
import type { EffectiveVersion } from '../pricing/versions.ts';

/** From which amount on which discount is given. */
export interface VolumeTier {
  /** Of the charges that the allowance leaves. */
  readonly fromNano: bigint;
  /** On what lies between this tier and the next one, in parts per million. */
  readonly discountPpm: bigint;
}

/** What depends on a whole period. */
export interface BillingTerms {
  readonly currency: string;
  /** So much of a period's charges is free. */
  readonly freeNano: bigint;
  /** At least so much is charged for a period. */
  readonly minimumNano: bigint;
  /** In ascending order. */
  readonly tiers: readonly VolumeTier[];
}

/** A version of a tenant's terms, or of the default ones. */
export interface BillingTermsVersion extends EffectiveVersion {
  /** Null for the default, which is the platform's. */
  readonly tenantId: Uuid | null;
  /** Null when the default holds from here on. */
  readonly terms: BillingTerms | null;
}

/** Bounds of what can be set; the database has the same as checks. */
export const TERMS_LIMITS = { amountMax: 10n ** 18n, tiersMax: 20 } as const;

/** Throws BAD_INPUT, naming the field, unless the terms are within the bounds. */
export function requireBillingTerms(terms: BillingTerms, field: string): void {
  const { amountMax, tiersMax } = TERMS_LIMITS;
  if (!CURRENCY.test(terms.currency)) {
    bad(`${field}.currency`, 'The currency must be 3 to 8 capital letters, such as USD.');
  }
  requireRange(terms.freeNano, amountMax, `${field}.free`);
  requireRange(terms.minimumNano, amountMax, `${field}.minimum`);
  if (terms.tiers.length > tiersMax) bad(`${field}.tiers`, `There are at most ${tiersMax} tiers.`);
  for (const [index, { fromNano, discountPpm }] of terms.tiers.entries()) {
    requireRange(fromNano, amountMax, `${field}.tiers.${index}.from`);
    requireRange(discountPpm, MILLION, `${field}.tiers.${index}.discountPpm`);
    const before = terms.tiers[index - 1];
    if (before !== undefined && before.fromNano >= fromNano) {
      bad(`${field}.tiers.${index}.from`, 'Each tier begins at a higher amount than the one before it.');
    }
  }
}

/** Terms as JSON, integers as decimal text. */
export function billingTermsJson(terms: BillingTerms): { readonly [name: string]: Json } {
  return {
    currency: terms.currency,
    freeNano: String(terms.freeNano),
    minimumNano: String(terms.minimumNano),
    tiers: terms.tiers.map((tier) => ({
      fromNano: String(tier.fromNano),
      discountPpm: String(tier.discountPpm),
    })),
  };
}

function requireRange(value: bigint, max: bigint, field: string): void {
  if (value < 0n || value > max) bad(field, `The value must be 0 to ${max}.`);
}

function bad(field: string, message: string): never {
  throw new PatchbayError('BAD_INPUT', message, { field });
}

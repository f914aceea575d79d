import { MILLION, roundHalfEven } from '../kernel/money.ts';
import type { BillingTerms } from './terms.ts';

/** What the terms of a period change of its charges. Reductions are negative. */
export type Adjustment =
  | { readonly kind: 'ALLOWANCE'; readonly amountNano: bigint }
  | {
      readonly kind: 'TIER';
      readonly fromNano: bigint;
      readonly discountPpm: bigint;
      /** The part of the charges that the discount is given on. */
      readonly basisNano: bigint;
      readonly amountNano: bigint;
    }
  | { readonly kind: 'MINIMUM'; readonly amountNano: bigint };

/** A period's charges after its terms. */
export interface Adjusted {
  /** Those that are not zero: allowance, tiers in ascending order, minimum. */
  readonly adjustments: readonly Adjustment[];
  readonly totalNano: bigint;
}

/**
 * Applies terms to the charges of a period: the allowance comes off first; what is left is divided among the tiers, each
 * giving its discount on its own part, rounded once, half to even; what then lacks to the minimum is charged on top.
 */
export function adjust(chargesNano: bigint, terms: BillingTerms | null): Adjusted {
  if (terms === null) return { adjustments: [], totalNano: chargesNano };
  const adjustments: Adjustment[] = [];
  const allowance = least(terms.freeNano, chargesNano);
  if (allowance > 0n) adjustments.push({ kind: 'ALLOWANCE', amountNano: -allowance });
  const left = chargesNano - allowance;
  let totalNano = left;
  for (const [index, { fromNano, discountPpm }] of terms.tiers.entries()) {
    const until = terms.tiers[index + 1]?.fromNano ?? left;
    const basisNano = least(until, left) - least(fromNano, left);
    const discount = roundHalfEven(basisNano * discountPpm, MILLION);
    if (discount === 0n) continue;
    adjustments.push({ kind: 'TIER', fromNano, discountPpm, basisNano, amountNano: -discount });
    totalNano -= discount;
  }
  if (totalNano < terms.minimumNano) {
    adjustments.push({ kind: 'MINIMUM', amountNano: terms.minimumNano - totalNano });
    totalNano = terms.minimumNano;
  }
  return { adjustments, totalNano };
}

/** What is given back, and what is charged on top: both zero or positive. */
export function sums(adjustments: readonly Adjustment[]): {
  readonly reductionNano: bigint;
  readonly minimumNano: bigint;
} {
  let reductionNano = 0n;
  let minimumNano = 0n;
  for (const { kind, amountNano } of adjustments) {
    if (kind === 'MINIMUM') minimumNano += amountNano;
    else reductionNano -= amountNano;
  }
  return { reductionNano, minimumNano };
}

function least(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

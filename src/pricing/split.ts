import { invariant } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { allocate, MILLION, roundHalfEven } from '../kernel/money.ts';
import type { PricedRequest } from './price.ts';
import type { PinnedPricing, SplitTerms } from './terms.ts';

/** What one beneficiary earns by one adapter version of a request. */
export interface Earning {
  /** Index of the part, in the order of {@link PinnedPricing.parts}. */
  readonly part: number;
  readonly adapterVersionId: Uuid;
  /** Who earns. */
  readonly tenantId: Uuid;
  readonly amount: bigint;
}

/** Who gets what of a request's price. */
export interface ChargeSplit {
  /** Everything but the royalties, and the fee on them. */
  readonly platform: bigint;
  /** The fee alone, by part. */
  readonly fees: readonly bigint[];
  /** In the order of the parts and then of the beneficiaries; amounts of zero are left out. */
  readonly earnings: readonly Earning[];
}

/**
 * Divides the price of a request: platform + earnings = total, exactly. Formulas 6 and 7 of docs/concepts/pricing.md.
 *
 * @param splits the terms of every split version that the parts name.
 */
export function splitCharge(
  pinned: PinnedPricing,
  charge: PricedRequest,
  splits: ReadonlyMap<Uuid, SplitTerms>,
): ChargeSplit {
  let platform = charge.total;
  const fees: bigint[] = [];
  const earnings: Earning[] = [];
  for (const [part, { adapter, price, splitVersionId }] of pinned.parts.entries()) {
    const royalty = charge.lines.reduce(
      (sum, line) => (line.part === part && line.kind === 'ROYALTY' ? sum + line.amount : sum),
      0n,
    );
    const fee = roundHalfEven(royalty * price.platformFeePpm, MILLION);
    fees.push(fee);
    if (adapter === null) continue;
    const terms = termsOf(splitVersionId, adapter.ownerTenantId, splits);
    const amounts = allocate(
      royalty - fee,
      terms.beneficiaries.map(({ parts }) => parts),
    );
    for (const [index, { tenantId }] of terms.beneficiaries.entries()) {
      const amount = amounts[index] ?? 0n;
      if (amount > 0n) earnings.push({ part, adapterVersionId: adapter.versionId, tenantId, amount });
    }
    platform -= royalty - fee;
  }
  return { platform, fees, earnings };
}

function termsOf(versionId: Uuid | null, owner: Uuid, splits: ReadonlyMap<Uuid, SplitTerms>): SplitTerms {
  if (versionId === null) return { beneficiaries: [{ tenantId: owner, parts: 1n }] };
  const terms = splits.get(versionId);
  invariant(terms, `the split ${versionId} was not read`);
  return terms;
}

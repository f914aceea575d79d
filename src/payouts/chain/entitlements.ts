import type { Entitlement } from '../../chain/payout-tree.ts';
import { toTokenUnits } from '../../chain/token-units.ts';
import type { Uuid } from '../../kernel/ids.ts';

/** All that a beneficiary was paid for one account, in nano-units. */
export interface PaidForAccount {
  readonly beneficiary: Uuid;
  readonly account: string;
  readonly amountNano: bigint;
}

/**
 * What accounts can claim in all. Rounded down once for each beneficiary and account, over everything that was ever ordered for
 * them, so that what is smaller than the token's unit is carried into later trees and never lost.
 */
export function entitlementsOf(paid: Iterable<PaidForAccount>, decimals: number): readonly Entitlement[] {
  const sums = new Map<string, PaidForAccount>();
  for (const one of paid) {
    const key = `${one.beneficiary}/${one.account}`;
    const amountNano = (sums.get(key)?.amountNano ?? 0n) + one.amountNano;
    sums.set(key, { ...one, amountNano });
  }
  const totals = new Map<string, bigint>();
  for (const { account, amountNano } of sums.values()) {
    const { units } = toTokenUnits(amountNano, decimals);
    totals.set(account, (totals.get(account) ?? 0n) + units);
  }
  return [...totals].flatMap(([account, cumulative]) => (cumulative === 0n ? [] : [{ account, cumulative }]));
}

/** The least amount of which a token pays anything, in nano-units. */
export function leastNano(decimals: number): bigint {
  return decimals >= NANO_DECIMALS ? 1n : 10n ** BigInt(NANO_DECIMALS - decimals);
}

const NANO_DECIMALS = 9;

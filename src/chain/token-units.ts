import { NANO } from '../kernel/money.ts';

const NANO_DECIMALS = 9;

/** An amount of nano-units in the smallest unit of a token, and what is smaller than that. */
export interface TokenUnits {
  /** In the token's smallest unit. */
  readonly units: bigint;
  /** Nano-units that are left: they stay owed. */
  readonly restNano: bigint;
}

/**
 * What of an amount a token can express, rounded down. Given all that somebody has earned from the beginning, the rest is
 * carried by itself: it is part of the next total.
 */
export function toTokenUnits(nano: bigint, decimals: number): TokenUnits {
  if (nano < 0n) throw new RangeError('Only amounts that are not negative are paid.');
  if (!Number.isInteger(decimals) || decimals < 0 || decimals > 255) {
    throw new RangeError(`A token cannot have ${decimals} decimals.`);
  }
  if (decimals >= NANO_DECIMALS) {
    return { units: nano * 10n ** BigInt(decimals - NANO_DECIMALS), restNano: 0n };
  }
  const unitNano = NANO / 10n ** BigInt(decimals);
  return { units: nano / unitNano, restNano: nano % unitNano };
}

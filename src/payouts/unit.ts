import { NANO } from '../kernel/money.ts';

const DIGITS_DEFAULT = 2;
const ISO_4217 = /^[A-Z]{3}$/;

/** The smallest unit of a currency that banks pay, in nano-units: a cent for USD, a yen for JPY. */
export function minorUnitNano(currency: string): bigint {
  const digits = ISO_4217.test(currency)
    ? new Intl.NumberFormat('en', { style: 'currency', currency }).resolvedOptions().maximumFractionDigits
    : undefined;
  return NANO / 10n ** BigInt(digits ?? DIGITS_DEFAULT);
}

/** The largest multiple of the unit that is not above the amount, for an amount that is not negative. */
export function floorTo(unit: bigint, amount: bigint): bigint {
  return amount - (amount % unit);
}

/** The smallest positive multiple of the unit that is not below the amount. */
export function ceilTo(unit: bigint, amount: bigint): bigint {
  if (amount <= unit) return unit;
  return floorTo(unit, amount + unit - 1n);
}

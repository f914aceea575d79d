/**
 * Exact money: integers of nano-units (10^-9 of the currency) in bigints, and fractions of integers. Nothing here is a
 * float, and everything that rounds says so in its name. The rules are specified in docs/concepts/pricing.md, from
 * which an independent program must get the same numbers.
 */

/** A non-negative fraction of integers, not necessarily in lowest terms. */
export interface Fraction {
  readonly numerator: bigint;
  readonly denominator: bigint;
}

/** One, as a fraction. */
export const ONE: Fraction = { numerator: 1n, denominator: 1n };

/** The currency of an installation whose operator has not chosen one. */
export const DEFAULT_CURRENCY = 'USD';

/** The form of a currency's code. */
export const CURRENCY = /^[A-Z]{3,8}$/;

/** Parts per million: the unit of rates. */
export const MILLION = 1_000_000n;

/** Nano-units of one unit of the currency. */
export const NANO = 1_000_000_000n;
const NANO_DIGITS = 9;

/** `numerator / denominator` for a non-negative numerator, rounded to the nearest integer and at a tie to the even one. */
export function roundHalfEven(numerator: bigint, denominator: bigint): bigint {
  requireDivisible(numerator, denominator);
  const whole = numerator / denominator;
  const twice = (numerator % denominator) * 2n;
  if (twice === denominator) return whole + (whole % 2n);
  return twice > denominator ? whole + 1n : whole;
}

/** The largest integer not above `numerator / denominator`, for a non-negative numerator. */
export function roundDown(numerator: bigint, denominator: bigint): bigint {
  requireDivisible(numerator, denominator);
  return numerator / denominator;
}

/**
 * Divides a total into parts by weights, so that the parts add up to it exactly: everybody gets their exact part rounded
 * down, and what is left goes, one nano-unit each, to the largest remainders; among equal ones to who comes first.
 *
 * @param weights non-negative, at least one of them positive.
 */
export function allocate(total: bigint, weights: readonly bigint[]): readonly bigint[] {
  const sum = weights.reduce((added, weight) => added + weight, 0n);
  if (weights.some((weight) => weight < 0n)) throw new RangeError('A weight is negative.');
  requireDivisible(total, sum);
  const parts = weights.map((weight) => (total * weight) / sum);
  let left = parts.reduce((rest, part) => rest - part, total);
  const order = weights
    .map((weight, index) => ({ index, remainder: (total * weight) % sum }))
    .sort((a, b) => (a.remainder === b.remainder ? a.index - b.index : a.remainder > b.remainder ? -1 : 1));
  for (const { index } of order) {
    if (left === 0n) break;
    parts[index] = (parts[index] ?? 0n) + 1n;
    left -= 1n;
  }
  return parts;
}

const DECIMAL = /^(-?)(\d{1,30})(?:\.(\d{1,9}))?$/;

/** An amount in units, such as `0.15`, as nano-units; null for anything else, more than nine decimals included. */
export function parseMoney(text: string): bigint | null {
  const match = DECIMAL.exec(text);
  if (match === null) return null;
  const [, sign = '', whole = '', fraction = ''] = match;
  const nanos = BigInt(whole) * NANO + BigInt(fraction.padEnd(NANO_DIGITS, '0'));
  return sign === '-' ? -nanos : nanos;
}

/** Nano-units as an amount in units, exactly and without zeros at the end: `0.15`. */
export function formatMoney(nanos: bigint): string {
  const absolute = nanos < 0n ? -nanos : nanos;
  const fraction = (absolute % NANO).toString().padStart(NANO_DIGITS, '0').replace(/0+$/, '');
  const text = fraction === '' ? `${absolute / NANO}` : `${absolute / NANO}.${fraction}`;
  return nanos < 0n ? `-${text}` : text;
}

function requireDivisible(numerator: bigint, denominator: bigint): void {
  if (numerator < 0n) throw new RangeError('Only amounts that are not negative are divided.');
  if (denominator <= 0n) throw new RangeError('Amounts are divided by positive numbers only.');
}

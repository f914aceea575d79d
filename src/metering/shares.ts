/** A share of a blend as an exact fraction of non-negative integers. */
export interface ExactShare {
  readonly numerator: bigint;
  readonly denominator: bigint;
}

/**
 * Splits a blend by |weight| / Σ|weight|, exactly. A weight counts as the shortest decimal that reads back as the
 * same double (what JSON and JavaScript print), so that 0.1 is one tenth and not its binary neighbour; money that is
 * split by these fractions can then be recomputed from a printed receipt.
 *
 * All fractions of one blend have the same denominator and their numerators add up to it.
 */
export function blendShares(weights: readonly number[]): readonly ExactShare[] {
  const decimals = weights.map((weight) => toDecimal(Math.abs(weight)));
  const scale = decimals.reduce((most, d) => Math.max(most, d.exponent), 0);
  const scaled = decimals.map((d) => d.digits * 10n ** BigInt(scale - d.exponent));
  const sum = scaled.reduce((total, n) => total + n, 0n);
  const divisor = scaled.reduce(gcd, sum);
  if (divisor === 0n) return weights.map(() => ({ numerator: 0n, denominator: 1n }));
  return scaled.map((n) => ({ numerator: n / divisor, denominator: sum / divisor }));
}

/** A non-negative finite number as `digits / 10^exponent`, with an exponent of at least 0. */
function toDecimal(value: number): { readonly digits: bigint; readonly exponent: number } {
  const [mantissa = '0', power = '0'] = String(value).split('e');
  const [whole = '0', fraction = ''] = mantissa.split('.');
  const exponent = fraction.length - Number(power);
  const digits = BigInt(whole + fraction);
  return exponent >= 0 ? { digits, exponent } : { digits: digits * 10n ** BigInt(-exponent), exponent: 0 };
}

function gcd(a: bigint, b: bigint): bigint {
  let [x, y] = [a, b];
  while (y !== 0n) [x, y] = [y, x % y];
  return x;
}

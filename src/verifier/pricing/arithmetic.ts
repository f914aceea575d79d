/** A fraction of integers, the denominator positive. */
export interface Ratio {
  readonly over: bigint;
  readonly under: bigint;
}

/** The integer nearest to a fraction that is not negative, and at a tie the even one of the two. */
export function round({ over, under }: Ratio): bigint {
  const below = over / under;
  const rest = over - below * under;
  const distance = 2n * rest - under;
  if (distance < 0n) return below;
  if (distance > 0n) return below + 1n;
  return below % 2n === 0n ? below : below + 1n;
}

export function sum(values: readonly bigint[]): bigint {
  return values.reduce((total, value) => total + value, 0n);
}

/** Reads `numerator/denominator`. */
export function parseShare(text: string): Ratio {
  const slash = text.indexOf('/');
  return { over: BigInt(text.slice(0, slash)), under: BigInt(text.slice(slash + 1)) };
}

/** Denominators that shares of one request can have among them; a bound on what hostile shares cost to add. */
const MOST_DENOMINATORS = 64;

/** Whether fractions add up to exactly one. */
export function addUpToOne(shares: readonly Ratio[]): boolean {
  const byDenominator = new Map<bigint, bigint>();
  for (const { over, under } of shares) byDenominator.set(under, (byDenominator.get(under) ?? 0n) + over);
  if (byDenominator.size > MOST_DENOMINATORS) return false;
  let total: Ratio = { over: 0n, under: 1n };
  for (const [under, over] of byDenominator) {
    total = { over: total.over * under + over * total.under, under: total.under * under };
  }
  return total.over === total.under;
}

export function sameRatio(a: Ratio, b: Ratio): boolean {
  return a.over * b.under === b.over * a.under;
}

/** The shares of a blend: each weight without its sign, as the shortest decimal that reads back the same, over their sum. */
export function sharesOfWeights(weights: readonly number[]): readonly Ratio[] {
  const decimals = weights.map(shortestDecimal);
  const places = Math.max(...decimals.map((decimal) => decimal.places));
  const wholes = decimals.map(({ digits, places: own }) => digits * 10n ** BigInt(places - own));
  const under = sum(wholes);
  return wholes.map((over) => ({ over, under }));
}

/** |weight| as `digits / 10^places`. Scientific notation without a precision prints the shortest digits there are. */
function shortestDecimal(weight: number): { readonly digits: bigint; readonly places: number } {
  const [, first = '0', more = '', power = '0'] =
    /^([0-9])(?:\.([0-9]+))?e([+-][0-9]+)$/.exec(Math.abs(weight).toExponential()) ?? [];
  const places = more.length - Number(power);
  const digits = BigInt(first + more);
  return places >= 0 ? { digits, places } : { digits: digits * 10n ** BigInt(-places), places: 0 };
}

/** Divides a total by weights, by largest remainder; among equal remainders to whom comes first. */
export function divide(total: bigint, weights: readonly bigint[]): readonly bigint[] {
  const whole = sum(weights);
  const ranked = weights
    .map((weight, place) => ({ place, floor: (total * weight) / whole, rest: (total * weight) % whole }))
    .toSorted((a, b) => (a.rest > b.rest ? -1 : a.rest < b.rest ? 1 : a.place - b.place));
  const left = total - sum(ranked.map(({ floor }) => floor));
  return ranked
    .map(({ place, floor }, position) => ({ place, amount: BigInt(position) < left ? floor + 1n : floor }))
    .toSorted((a, b) => a.place - b.place)
    .map(({ amount }) => amount);
}

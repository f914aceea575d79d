import { expect, test } from 'vitest';
import { type SloraLaw, sloraRequests } from '../../../src/bench/slora.ts';

const LAW: SloraLaw = {
  adapters: 100,
  alpha: 1,
  rate: 10,
  cv: 1,
  input: [8, 16],
  output: [3, 5],
  seed: 7,
};
const COUNT = 5_000;

function gaps(law: SloraLaw): { readonly mean: number; readonly cv: number } {
  const times = sloraRequests(law, COUNT).map(({ atMs }) => atMs);
  const between = times.slice(1).map((at, index) => at - (times[index] ?? 0));
  const mean = between.reduce((sum, gap) => sum + gap, 0) / between.length;
  const variance = between.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / between.length;
  return { mean, cv: Math.sqrt(variance) / mean };
}

test('arrivals have the wanted rate and coefficient of variation', () => {
  for (const cv of [0.5, 1, 2]) {
    const measured = gaps({ ...LAW, cv });
    expect(Math.abs(measured.mean / 100 - 1)).toBeLessThan(0.1);
    expect(Math.abs(measured.cv / cv - 1)).toBeLessThan(0.1);
  }
});

test('popularity follows the power law, and lengths are uniform between their bounds', () => {
  const share = (alpha: number): number => {
    const requests = sloraRequests({ ...LAW, alpha }, COUNT);
    return requests.filter(({ adapter }) => adapter < 10).length / COUNT;
  };
  // P(x < 1/10) = 0.1^α.
  for (const alpha of [0.1, 0.5, 1]) expect(Math.abs(share(alpha) - 0.1 ** alpha)).toBeLessThan(0.02);
  const lengths = new Set(sloraRequests(LAW, COUNT).map(({ newTokens }) => newTokens));
  expect([...lengths].toSorted()).toEqual([3, 4, 5]);
});

test('the same seed gives the same load whatever is registered', () => {
  const load = (adapters: number) =>
    sloraRequests({ ...LAW, adapters }, 50).map(({ adapter: _adapter, ...rest }) => rest);
  expect(load(64)).toEqual(load(2_000));
  expect(sloraRequests({ ...LAW, seed: 8 }, 50)).not.toEqual(sloraRequests(LAW, 50));
});

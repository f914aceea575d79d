import { expect, test } from 'vitest';
import { ECONOMICS_ORDERS, type Line, lineKey, pageOf, sortLines } from '../../../src/economics/order.ts';
import { Rates } from '../../../src/economics/rates.ts';
import { figuresOf } from '../../../src/economics/report.ts';

const NOTHING = {
  revenue: 0n,
  earned: 0n,
  computeUs: 0n,
  hostByteUs: 0n,
  bankByteUs: 0n,
  loads: 0n,
  bytesLoaded: 0n,
  loadUs: 0n,
};
const rates = new Rates({ perHour: 3_600n, memoryPercent: 50 }, { aliveUs: 1_000n, capacityByteUs: 1_000n });
const line = (name: string, revenue: bigint): Line => ({
  name,
  figures: figuresOf({ ...NOTHING, revenue }, rates),
});
/** Several with the same value, and one past 2^53. */
const LINES = [
  line('e', 3n),
  line('a', 3n),
  line('plain backbone', -2n),
  line('x/y z', 9_007_199_254_740_993n),
  line('d', 3n),
];

test.each(ECONOMICS_ORDERS)('%s: pages of any size are the whole list in order, once', (order) => {
  const sorted = sortLines(LINES, order);
  for (const first of [1, 2, 3, 5]) {
    const seen: Line[] = [];
    let after: string | null = null;
    for (let more = true; more; ) {
      const page: ReturnType<typeof pageOf<Line>> = pageOf(sorted, order, { first, after });
      seen.push(...page.items);
      const last = page.items.at(-1);
      after = last === undefined ? null : lineKey(last, order);
      more = page.hasNextPage;
    }
    expect(seen).toEqual(sorted);
  }
});

test('the order is by value, and among equal ones by name', () => {
  const names = (order: (typeof ECONOMICS_ORDERS)[number]) => sortLines(LINES, order).map(({ name }) => name);
  expect(names('LOWEST_MARGIN')).toEqual(['plain backbone', 'a', 'd', 'e', 'x/y z']);
  expect(names('HIGHEST_MARGIN')).toEqual(['x/y z', 'a', 'd', 'e', 'plain backbone']);
});

test('a cursor of another order, or no cursor, is refused', () => {
  const sorted = sortLines(LINES, 'LOWEST_MARGIN');
  const [first] = sorted;
  const key = first === undefined ? '' : lineKey(first, 'LOWEST_MARGIN');
  expect(() => pageOf(sorted, 'HIGHEST_MARGIN', { first: 1, after: key })).toThrow(
    expect.objectContaining({ code: 'BAD_INPUT', field: 'after' }),
  );
  for (const after of ['', 'LOWEST_MARGIN x a', 'LOWEST_MARGIN 1']) {
    expect(() => pageOf(sorted, 'LOWEST_MARGIN', { first: 1, after })).toThrow(
      expect.objectContaining({ code: 'BAD_INPUT', field: 'after' }),
    );
  }
});

test('amounts are rounded once, to the even nano-unit at a tie, and are exact past 2^53', () => {
  const price = { perHour: 7_200n, memoryPercent: 25 };
  const time = { aliveUs: 3_600_000_000n, capacityByteUs: 3_600_000_000n * 100n };
  const some = new Rates(price, time);
  expect(some.machines()).toBe(7_200n);
  // Three quarters of two nano-units a second: 1.5 for one second, and 4.5 for three.
  expect([some.compute(1_000_000n), some.compute(3_000_000n)]).toEqual([2n, 4n]);
  // A quarter of the hour's price for all the capacity, in proportion for less.
  expect(some.memory(time.capacityByteUs)).toBe(1_800n);
  expect(some.memory(time.capacityByteUs / 3n)).toBe(600n);
  expect(some.memory(0n)).toBe(0n);
  const huge = 9_007_199_254_740_993n * 3_600_000_000n;
  expect(new Rates({ perHour: 1_000n, memoryPercent: 0 }, time).compute(huge)).toBe(
    9_007_199_254_740_993_000n,
  );
  // No engine told anything: there is nothing to price memory by.
  expect(new Rates(price, { aliveUs: 0n, capacityByteUs: 0n }).memory(5n)).toBe(0n);
  expect(some.dedicated(5n)).toBe(36_000n);
});

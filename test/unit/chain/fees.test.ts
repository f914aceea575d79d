import fc from 'fast-check';
import { expect, test } from 'vitest';
import { firstFees, raisedFees } from '../../../src/chain/outbox/fees.ts';

const GWEI = 1_000_000_000n;

test.each([
  ['twice the base fee and the tip', { baseFee: 10n, tip: 3n }, 100n, { maxFee: 23n, priorityFee: 3n }],
  ['the ceiling at most', { baseFee: 60n, tip: 3n }, 100n, { maxFee: 100n, priorityFee: 3n }],
  ['no more of a tip than that', { baseFee: 60n, tip: 300n }, 100n, { maxFee: 100n, priorityFee: 100n }],
  ['nothing above it', { baseFee: 101n, tip: 0n }, 100n, null],
  [
    'the price of a chain without a base fee',
    { baseFee: null, tip: 7n },
    100n,
    { maxFee: 7n, priorityFee: null },
  ],
  ['nothing above it there', { baseFee: null, tip: 101n }, 100n, null],
  ['something where gas costs nothing', { baseFee: 0n, tip: 0n }, 100n, { maxFee: 1n, priorityFee: 0n }],
])('a first attempt offers %s', (_name, market, ceiling, fees) => {
  expect(firstFees(market, ceiling)).toEqual(fees);
});

test('a further attempt offers an eighth more at least, what is usual, and never more than the ceiling', () => {
  const wei = fc.bigInt(0n, 2_000n * GWEI);
  const market = fc.record({ baseFee: fc.option(wei), tip: wei });
  fc.assert(
    fc.property(market, market, fc.bigInt(1n, 2_000n * GWEI), (then, now, ceiling) => {
      const before = firstFees(then, ceiling);
      if (before === null) return;
      // A chain does not lose its base fee.
      const today =
        before.priorityFee === null ? { ...now, baseFee: null } : { ...now, baseFee: now.baseFee ?? 0n };
      const raised = raisedFees(before, today, ceiling);
      if (raised === null) {
        expect(before.maxFee * 9n + 8n).toBeGreaterThan(ceiling * 8n);
        return;
      }
      expect(raised.maxFee).toBeLessThanOrEqual(ceiling);
      expect(raised.maxFee * 8n).toBeGreaterThanOrEqual(before.maxFee * 9n);
      const usual = firstFees(today, ceiling);
      expect(raised.maxFee).toBeGreaterThanOrEqual(usual?.maxFee ?? 0n);
      if (before.priorityFee === null) {
        expect(raised.priorityFee).toBeNull();
        return;
      }
      expect(raised.priorityFee).not.toBeNull();
      const tip = raised.priorityFee ?? 0n;
      expect(tip * 8n).toBeGreaterThanOrEqual(before.priorityFee * 9n);
      expect(tip).toBeLessThanOrEqual(raised.maxFee);
    }),
  );
});

test('fees rise until the ceiling stops them', () => {
  let fees = firstFees({ baseFee: GWEI, tip: GWEI }, 100n * GWEI);
  let steps = 0;
  while (fees !== null) {
    fees = raisedFees(fees, { baseFee: GWEI, tip: GWEI }, 100n * GWEI);
    steps += 1;
  }
  // 3 gwei, by an eighth each time.
  expect(steps).toBe(30);
});

import { describe, expect, test } from 'vitest';
import { type BudgetPeriod, periodAt } from '../../../src/billing/budget-period.ts';

function of(period: BudgetPeriod, at: string): readonly string[] {
  const { start, end } = periodAt(period, new Date(at));
  return [start.toISOString(), end.toISOString()];
}

describe('a period', () => {
  test.each([
    ['DAY', '2028-02-28T23:59:59.999Z', '2028-02-28', '2028-02-29'],
    ['DAY', '2028-02-29T00:00:00.000Z', '2028-02-29', '2028-03-01'],
    ['DAY', '2027-02-28T12:00:00.000Z', '2027-02-28', '2027-03-01'],
    ['DAY', '2026-12-31T23:59:59.999Z', '2026-12-31', '2027-01-01'],
    ['MONTH', '2028-02-29T23:59:59.999Z', '2028-02-01', '2028-03-01'],
    ['MONTH', '2028-03-01T00:00:00.000Z', '2028-03-01', '2028-04-01'],
    ['MONTH', '2026-12-31T23:59:59.999Z', '2026-12-01', '2027-01-01'],
    ['MONTH', '2027-01-01T00:00:00.000Z', '2027-01-01', '2027-02-01'],
    // 2100 is no leap year.
    ['DAY', '2100-02-28T23:00:00.000Z', '2100-02-28', '2100-03-01'],
  ] as const)('%s of %s is from %s to %s, in UTC', (period, at, start, end) => {
    expect(of(period, at)).toEqual([`${start}T00:00:00.000Z`, `${end}T00:00:00.000Z`]);
  });

  test('does not move with an offset that a time was written in', () => {
    expect(of('DAY', '2026-03-29T01:30:00+14:00')).toEqual([
      '2026-03-28T00:00:00.000Z',
      '2026-03-29T00:00:00.000Z',
    ]);
  });
});

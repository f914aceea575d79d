import { afterEach, describe, expect, test } from 'vitest';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { parsePeriod, periodOf } from '../../../src/kernel/period.ts';

const zone = process.env['TZ'];
afterEach(() => {
  if (zone === undefined) delete process.env['TZ'];
  else process.env['TZ'] = zone;
});

const bounds = (label: string): readonly string[] => {
  const { start, end } = parsePeriod(label);
  return [start.toISOString(), end.toISOString()];
};

describe('a period', () => {
  test.each([
    ['2024-02', '2024-02-01T00:00:00.000Z', '2024-03-01T00:00:00.000Z', 29],
    ['2023-02', '2023-02-01T00:00:00.000Z', '2023-03-01T00:00:00.000Z', 28],
    ['2100-02', '2100-02-01T00:00:00.000Z', '2100-03-01T00:00:00.000Z', 28],
    ['2000-02', '2000-02-01T00:00:00.000Z', '2000-03-01T00:00:00.000Z', 29],
    ['2025-12', '2025-12-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 31],
    ['2025-04', '2025-04-01T00:00:00.000Z', '2025-05-01T00:00:00.000Z', 30],
  ])('%s is the month from %s until %s', (label, start, end, days) => {
    expect(bounds(label)).toEqual([start, end]);
    const period = parsePeriod(label);
    expect((period.end.getTime() - period.start.getTime()) / 86_400_000).toBe(days);
  });

  test.each(['Pacific/Kiritimati', 'America/New_York', 'Europe/Berlin'])('is the same in %s', (name) => {
    process.env['TZ'] = name;
    expect(new Date(2025, 6, 1).toISOString()).not.toBe('2025-07-01T00:00:00.000Z');
    expect(bounds('2025-03')).toEqual(['2025-03-01T00:00:00.000Z', '2025-04-01T00:00:00.000Z']);
    expect(periodOf(new Date('2025-03-31T23:59:59.999Z')).label).toBe('2025-03');
    expect(periodOf(new Date('2025-04-01T00:00:00.000Z')).label).toBe('2025-04');
  });

  test.each([
    '',
    '2024',
    '2024-2',
    '2024-00',
    '2024-13',
    '2024-02-01',
    '0024-02',
    '1999-12',
    ' 2024-02',
    '２０24-02',
  ])('is not %j', (label) => {
    expect(() => parsePeriod(label)).toThrow(PatchbayError);
  });
});

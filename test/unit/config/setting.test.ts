import fc from 'fast-check';
import { expect, test } from 'vitest';
import { loadConfig } from '../../../src/config/config.ts';
import { parseBytes, parseDurationMs } from '../../../src/config/setting.ts';

test.each([
  ['0', 0],
  ['1048576', 1_048_576],
  ['256MB', 268_435_456],
  ['256 mib', 268_435_456],
  ['1.5GB', 1_610_612_736],
  ['2k', 2_048],
  ['1TB', 2 ** 40],
])('%s is a size', (text, bytes) => {
  expect(parseBytes(text)).toBe(bytes);
});

test.each(['', 'MB', '-1', '1e9', '12 apples', '1.2.3MB', '0x10', '99999999999999999TB', 'Infinity'])(
  '%j is no size',
  (text) => {
    expect(parseBytes(text)).toBeNull();
  },
);

test.each([
  ['1500', 1_500],
  ['1500ms', 1_500],
  ['30s', 30_000],
  ['1.5 s', 1_500],
  ['5m', 300_000],
  ['2h', 7_200_000],
])('%s is a duration', (text, ms) => {
  expect(parseDurationMs(text)).toBe(ms);
});

test.each(['', 's', '-5s', '5 days', '1e3', 'NaN'])('%j is no duration', (text) => {
  expect(parseDurationMs(text)).toBeNull();
});

test('whatever text comes, a size is null or a safe whole number that is not negative', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.stringMatching(/^[0-9]{1,18}(\.[0-9]{1,8})?[kmgtKMGT]?i?[bB]?$/)),
      (text) => {
        const bytes = parseBytes(text);
        return bytes === null || (Number.isSafeInteger(bytes) && bytes >= 0);
      },
    ),
  );
});

test('amounts of money are exact, within bounds, and nothing else is one', () => {
  const minimum = (text: string): bigint =>
    loadConfig({ PATCHBAY_PAYOUT_MINIMUM: text }).config.payouts.minimumNano;
  expect(['0', '12.50', '0.000000001', '1000000000'].map(minimum)).toEqual([
    0n,
    12_500_000_000n,
    1n,
    10n ** 18n,
  ]);
  for (const wrong of ['-1', '1e3', '0.0000000001', '1000000000.01', '1,5', 'ten']) {
    expect(() => minimum(wrong), wrong).toThrow(/PAYOUT_MINIMUM .* an amount such as 12.50/);
  }
});

import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { paymentKey } from '../../../src/payouts/key.ts';
import { ceilTo, floorTo, minorUnitNano } from '../../../src/payouts/unit.ts';

describe('the smallest unit that a bank pays', () => {
  test.each([
    ['USD', 10_000_000n],
    ['EUR', 10_000_000n],
    ['JPY', 1_000_000_000n],
    ['KWD', 1_000_000n],
    // No currency of anybody's.
    ['XQZ', 10_000_000n],
    ['CREDITS', 10_000_000n],
  ])('of %s is %s nano-units', (currency, unit) => {
    expect(minorUnitNano(currency)).toBe(unit);
  });

  test('amounts are rounded to it in both directions', () => {
    expect([0n, 9n, 10n, 19n].map((amount) => floorTo(10n, amount))).toEqual([0n, 0n, 10n, 10n]);
    expect([0n, 1n, 10n, 11n, 20n].map((amount) => ceilTo(10n, amount))).toEqual([10n, 10n, 10n, 20n, 20n]);
    expect(floorTo(10_000_000n, 2n ** 60n + 1n)).toBe(1_152_921_504_600_000_000n);
  });
});

describe('the key of a payment', () => {
  const content = {
    beneficiary: '0192f000-0000-7000-8000-0000000000aa',
    earnedBefore: new Date('2026-02-28T23:59:59.999Z'),
    amountNano: 2n ** 59n,
    currency: 'USD',
    kind: 'FILE' as const,
    accountName: 'Jos\u00e9',
    accountReference: 'DE89370400440532013000',
  };

  test('is the SHA-256 of what the documentation says', () => {
    const text = [
      'patchbay:payout:v1',
      '0192f000-0000-7000-8000-0000000000aa',
      '1772323199999',
      '576460752303423488',
      'USD',
      'FILE',
      'Jos\u00e9',
      'DE89370400440532013000',
    ].join('\n');
    expect(paymentKey(content)).toBe(createHash('sha256').update(text).digest('hex'));
    expect(paymentKey({ ...content })).toBe(paymentKey(content));
  });

  test('differs with every part of the content', () => {
    const others = [
      { beneficiary: '0192f000-0000-7000-8000-0000000000ab' },
      { earnedBefore: new Date('2026-03-01T00:00:00.000Z') },
      { amountNano: 2n ** 59n + 1n },
      { currency: 'EUR' },
      { accountName: 'Jose' },
      { accountReference: 'GB29NWBK60161331926819' },
    ].map((more) => paymentKey({ ...content, ...more }));
    expect(new Set([...others, paymentKey(content)]).size).toBe(others.length + 1);
  });
});

import { describe, expect, test } from 'vitest';
import {
  maskReference,
  requireAccountName,
  requireAccountReference,
  requireReferenceOf,
} from '../../../src/payouts/account.ts';

const refused = (field: string) => expect.objectContaining({ code: 'BAD_INPUT', field });

describe('an account name', () => {
  test.each([
    ['  Ada   Lovelace ', 'Ada Lovelace'],
    ["O'Brien & Söhne (Köln), GmbH", "O'Brien & Söhne (Köln), GmbH"],
    ['株式会社パッチ', '株式会社パッチ'],
    ['3D Prints', '3D Prints'],
    // Two spellings of one letter are one.
    ['Jose\u0301', 'Jos\u00e9'],
  ])('%j is kept as %j', (given, kept) => {
    expect(requireAccountName(given)).toBe(kept);
  });

  test.each(['', ' ', '=1+1', '+49 Ltd', '-x', '@x', '"x', 'a\nb', 'a\tb', 'a;b', 'x'.repeat(71)])(
    '%j is refused',
    (given) => {
      expect(() => requireAccountName(given)).toThrow(refused('accountName'));
    },
  );
});

describe('an account reference', () => {
  test.each([
    // The examples of the IBAN registry.
    ['DE89 3704 0044 0532 0130 00', 'DE89370400440532013000'],
    ['gb29nwbk60161331926819', 'GB29NWBK60161331926819'],
    ['FR14 2004 1010 0505 0001 3M02 606', 'FR1420041010050500013M02606'],
    ['NO93 8601 1117 947', 'NO9386011117947'],
    // No IBAN by its form.
    ['021000021 12345', '02100002112345'],
  ])('%j is kept as %j', (given, kept) => {
    expect(requireAccountReference(given)).toBe(kept);
  });

  test.each(['', '1234', 'DE89-3704', 'Ü12345', 'x'.repeat(35), '12345;'])('%j is refused', (given) => {
    expect(() => requireAccountReference(given)).toThrow(refused('accountReference'));
  });

  test('every single wrong character of an IBAN is found', () => {
    const iban = 'DE89370400440532013000';
    for (let at = 2; at < iban.length; at += 1) {
      const wrong = iban[at] === '7' ? '1' : '7';
      const mistyped = iban.slice(0, at) + wrong + iban.slice(at + 1);
      expect(() => requireAccountReference(mistyped), mistyped).toThrow(
        'The check digits of the IBAN are wrong.',
      );
    }
  });

  test('is masked in logs', () => {
    expect(maskReference('DE89370400440532013000')).toBe('…3000');
  });
});

describe('an address', () => {
  // The examples of EIP-55.
  const KNOWN = '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed';

  test.each([KNOWN, KNOWN.toLowerCase(), `0x${KNOWN.slice(2).toUpperCase()}`, ` ${KNOWN}\n`])(
    '%j is kept with its checksum',
    (given) => {
      expect(requireReferenceOf('CHAIN', given)).toBe(KNOWN);
    },
  );

  test.each([
    KNOWN.replace('aA', 'Aa'),
    KNOWN.slice(2),
    KNOWN.slice(0, -1),
    `${KNOWN}0`,
    `0x${'0'.repeat(40)}`,
    // Another form of an address, and an account of a bank.
    'XE7338O073KYGTWWZN0F2WZ0R8PX5ZPPZS',
    'DE89370400440532013000',
  ])('%j is refused', (given) => {
    expect(() => requireReferenceOf('CHAIN', given)).toThrow(refused('accountReference'));
  });

  test('is none of a bank’s', () => {
    expect(() => requireReferenceOf('FILE', KNOWN)).toThrow(refused('accountReference'));
  });
});

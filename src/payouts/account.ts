import { PatchbayError } from '../kernel/errors.ts';

const NAME_CHARS_MAX = 70;
/** Begins with a letter or digit, so that no program that opens a file of payments takes a name for a formula. */
const NAME = /^[\p{L}\p{N}][\p{L}\p{M}\p{N} .,'’()/&+-]*$/u;
const REFERENCE = /^[A-Z0-9]{5,34}$/;
const IBAN = /^[A-Z]{2}\d{2}[A-Z0-9]{11,30}$/;

/** The name of an account, trimmed and in one spelling, or BAD_INPUT. */
export function requireAccountName(text: string): string {
  const name = text.normalize('NFC').trim().replaceAll(/ +/g, ' ');
  if (name.length <= NAME_CHARS_MAX && NAME.test(name)) return name;
  throw new PatchbayError(
    'BAD_INPUT',
    `An account name has 1 to ${NAME_CHARS_MAX} letters, digits, spaces and . , ' ( ) / & + -, and begins with a letter or digit.`,
    { field: 'accountName' },
  );
}

/**
 * The reference of an account without spaces and in capitals, or BAD_INPUT. What has the form of an IBAN must have its
 * check digits right: a payment to a mistyped account is hard to get back.
 */
export function requireAccountReference(text: string): string {
  const reference = text.replaceAll(/\s/g, '').toUpperCase();
  if (!REFERENCE.test(reference)) {
    throw new PatchbayError('BAD_INPUT', 'An account reference has 5 to 34 letters A to Z and digits.', {
      field: 'accountReference',
      fix: 'Give the IBAN, or the account number as the operator’s bank wants it.',
    });
  }
  if (IBAN.test(reference) && mod97(reference) !== 1) {
    throw new PatchbayError('BAD_INPUT', 'The check digits of the IBAN are wrong.', {
      field: 'accountReference',
      fix: 'Compare the IBAN with your bank’s.',
    });
  }
  return reference;
}

/** As much of a reference as tells which one it is, for logs. */
export function maskReference(reference: string): string {
  return `…${reference.slice(-4)}`;
}

/** ISO 7064: the country and check digits at the end, letters as 10 to 35, modulo 97. */
function mod97(iban: string): number {
  let remainder = 0;
  for (const character of iban.slice(4) + iban.slice(0, 4)) {
    for (const digit of Number.parseInt(character, 36).toString()) {
      remainder = (remainder * 10 + Number(digit)) % 97;
    }
  }
  return remainder;
}

import { getAddress } from 'ethers/address';
import { PatchbayError } from '../kernel/errors.ts';
import type { RailKind } from './rail.ts';

const NAME_CHARS_MAX = 70;
/** Begins with a letter or digit, so that no program that opens a file of payments takes a name for a formula. */
const NAME = /^[\p{L}\p{N}][\p{L}\p{M}\p{N} .,'’()/&+-]*$/u;
const REFERENCE = /^[A-Z0-9]{5,34}$/;
const ADDRESS = /^0x[0-9a-fA-F]{40}$/;
const ADDRESS_ZERO = `0x${'0'.repeat(40)}`;
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

/** What an account of the kind is called, in its one spelling, or BAD_INPUT. */
export function requireReferenceOf(kind: RailKind, text: string): string {
  return kind === 'CHAIN' ? requireAddress(text) : requireAccountReference(text);
}

/**
 * An address with the checksum of EIP-55 in its letters, or BAD_INPUT. Where the letters are of both cases they are a checksum
 * already, and must be the right one: tokens that are claimed for a mistyped address are gone.
 */
function requireAddress(text: string): string {
  const trimmed = text.trim();
  const bad = (message: string, fix: string): PatchbayError =>
    new PatchbayError('BAD_INPUT', message, { field: 'accountReference', fix });
  if (!ADDRESS.test(trimmed)) {
    throw bad('An account on a chain is 0x and 40 hexadecimal digits.', 'Give the address of your wallet.');
  }
  if (trimmed.toLowerCase() === ADDRESS_ZERO) {
    throw bad('Nobody has the zero address.', 'Give the address of your wallet.');
  }
  try {
    return getAddress(trimmed);
  } catch {
    throw bad(
      'The checksum in the letters of the address is wrong.',
      'Copy the address from your wallet again, as a whole.',
    );
  }
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

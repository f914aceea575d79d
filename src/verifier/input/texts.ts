import { getAddress } from 'ethers';
import { z } from 'zod';

/** The largest number of 64 bits. */
export const MAX_U64 = 2n ** 64n - 1n;

/** The digits of the largest number of 256 bits, which a token's amounts can have. */
const MOST_DIGITS = 78;

const DECIMAL = /^(?:0|[1-9][0-9]{0,77})$/;

/** Whether a text is a whole number in its one spelling, not above the bound. */
export function isDecimal(text: string, max: bigint, min = 0n): boolean {
  return DECIMAL.test(text) && BigInt(text) <= max && BigInt(text) >= min;
}

/** A whole number as decimal text. */
export function decimal(max: bigint, min = 0n): z.ZodString {
  return z
    .string()
    .max(MOST_DIGITS)
    .refine(
      (text) => isDecimal(text, max, min),
      `must be a whole number from ${min} to ${max} as decimal text`,
    );
}

/** 32 bytes. */
export const hash = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 lower-case hexadecimal digits');

/** A UUID as it is printed. */
export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
export const uuid = z.string().regex(UUID, 'must be a UUID in lower case');

/** 65 bytes with `0x`. */
export const signature = z
  .string()
  .regex(/^0x[0-9a-f]{130}$/, 'must be 65 bytes in lower-case hexadecimal, with 0x');

/** An address with its checksum (EIP-55) or all in lower case, as it is written: a digest may cover the text. */
export const writtenAddress = z
  .string()
  .refine(isAddress, 'must be an address: 0x and 40 digits with the checksum of EIP-55, or in lower case');

/** The same; read, it has the checksum. */
export const address = writtenAddress.transform((text) => getAddress(text));

function isAddress(text: string): boolean {
  if (!/^0x[0-9a-fA-F]{40}$/.test(text)) return false;
  const lower = text.toLowerCase();
  return text === lower || text === getAddress(lower);
}

/** Milliseconds since 1970, sizes and places. */
export const u64 = decimal(MAX_U64);

/** Amounts of nano-units, and sums of them. */
export const MAX_AMOUNT = 10n ** 38n;
export const amount = decimal(MAX_AMOUNT);

/** The code of a currency. */
export const currency = z.string().regex(/^[A-Z]{3,8}$/, 'must be 3 to 8 capital letters');

/** 32 bytes as Ethereum writes them. */
export const word = z.string().regex(/^0x[0-9a-f]{64}$/, 'must be 0x and 64 lower-case hexadecimal digits');

import { createHmac } from 'node:crypto';
import { crc32 } from 'node:zlib';

/** Randomness as a port, so that tests decide what is drawn. */
export type RandomBytes = (size: number) => Uint8Array;

/** What a key is for: the operator of the installation, or one tenant. */
export type ApiKeyKind = 'OPERATOR' | 'TENANT';

/**
 * The recognisable beginnings of keys. A key is `<prefix><32 random characters><6 checksum characters>`, all of
 * `[0-9A-Za-z]`, so that a leak scanner finds it with one expression and tells it from a typo without asking us.
 */
export const KEY_PREFIXES = { OPERATOR: 'pbo_', TENANT: 'pbt_' } as const satisfies Record<
  ApiKeyKind,
  string
>;

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const RANDOM_CHARS = 32;
const CHECKSUM_CHARS = 6;
/** How much of a key is stored in clear and shown in lists: the prefix and five of its 32 random characters. */
const SHOWN_CHARS = 9;
const PATTERN = /^(pbo_|pbt_)[0-9A-Za-z]{38}$/;

/** A key as text that has the right form and checksum; nothing says yet that it exists. */
export interface ParsedKey {
  readonly kind: ApiKeyKind;
  readonly text: string;
}

/** Draws a new key of about 190 bits. */
export function generateKey(kind: ApiKeyKind, random: RandomBytes): string {
  const body = KEY_PREFIXES[kind] + randomChars(random);
  return body + checksum(body);
}

/** Recognises a key without the database; null for anything that we did not generate. */
export function parseKey(text: string): ParsedKey | null {
  if (!PATTERN.test(text)) return null;
  const body = text.slice(0, -CHECKSUM_CHARS);
  if (checksum(body) !== text.slice(-CHECKSUM_CHARS)) return null;
  return { kind: text.startsWith(KEY_PREFIXES.OPERATOR) ? 'OPERATOR' : 'TENANT', text };
}

/** The part of a key that may be stored and shown. */
export function shownPrefix(key: string): string {
  return key.slice(0, SHOWN_CHARS);
}

/** What the database stores of a key: without the server's pepper it can neither be computed nor searched. */
export function hashKey(pepper: string, key: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(createHmac('sha256', pepper).update('patchbay/api-key/').update(key).digest());
}

function randomChars(random: RandomBytes): string {
  // Bytes from 248 on are drawn again, because 256 is not a multiple of 62 and some characters would be likelier.
  const limit = 256 - (256 % ALPHABET.length);
  let chars = '';
  while (chars.length < RANDOM_CHARS) {
    for (const byte of random(RANDOM_CHARS)) {
      if (byte < limit && chars.length < RANDOM_CHARS) chars += ALPHABET.charAt(byte % ALPHABET.length);
    }
  }
  return chars;
}

function checksum(body: string): string {
  let rest = crc32(body);
  let chars = '';
  for (let i = 0; i < CHECKSUM_CHARS; i += 1) {
    chars = ALPHABET.charAt(rest % ALPHABET.length) + chars;
    rest = Math.floor(rest / ALPHABET.length);
  }
  return chars;
}

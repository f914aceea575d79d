import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import { invariant } from '../kernel/errors.ts';

const SALT_BYTES = 16;
const IV_BYTES = 12;
const TAG_BYTES = 16;

/**
 * Encrypts text (AES-256-GCM) under a key that needs both the server's pepper and the context. What is sealed with a
 * client's idempotency key as the context can be opened by that client's retry alone: the database stores only a
 * hash of that key, and the pepper is not in the database.
 */
export function seal(pepper: string, context: string, text: string): string {
  const salt = randomBytes(SALT_BYTES);
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv('aes-256-gcm', deriveKey(pepper, context, salt), iv);
  const body = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
  return Buffer.concat([salt, iv, cipher.getAuthTag(), body]).toString('base64');
}

/** Opens what {@link seal} made; throws when the pepper, the context or a byte differs. */
export function unseal(pepper: string, context: string, sealed: string): string {
  const bytes = Buffer.from(sealed, 'base64');
  invariant(bytes.length >= SALT_BYTES + IV_BYTES + TAG_BYTES, 'a sealed text has salt, iv and tag');
  const salt = bytes.subarray(0, SALT_BYTES);
  const iv = bytes.subarray(SALT_BYTES, SALT_BYTES + IV_BYTES);
  const tag = bytes.subarray(SALT_BYTES + IV_BYTES, SALT_BYTES + IV_BYTES + TAG_BYTES);
  const decipher = createDecipheriv('aes-256-gcm', deriveKey(pepper, context, salt), iv, {
    authTagLength: TAG_BYTES,
  });
  decipher.setAuthTag(tag);
  const body = decipher.update(bytes.subarray(SALT_BYTES + IV_BYTES + TAG_BYTES));
  return Buffer.concat([body, decipher.final()]).toString('utf8');
}

function deriveKey(pepper: string, context: string, salt: Uint8Array): Buffer {
  return Buffer.from(hkdfSync('sha256', pepper, salt, `patchbay/seal/${context}`, 32));
}

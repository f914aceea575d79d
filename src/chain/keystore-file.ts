import { readFile } from 'node:fs/promises';
import { PatchbayError } from '../kernel/errors.ts';
import type { KeySource } from './account.ts';

/**
 * The key in an encrypted file.
 * @throws PatchbayError CHAIN_KEY without a password, FILE_MISSING when it cannot be read.
 */
export async function keystoreFile(file: string, password: string | null): Promise<KeySource> {
  if (password === null) {
    throw new PatchbayError('CHAIN_KEY', 'The keystore needs a password.', {
      fix: 'Set PATCHBAY_CHAIN_KEYSTORE_PASSWORD.',
    });
  }
  try {
    return { kind: 'keystore', json: await readFile(file, 'utf8'), password };
  } catch (cause) {
    throw new PatchbayError('FILE_MISSING', `${file} cannot be read.`, { field: 'keystore', cause });
  }
}

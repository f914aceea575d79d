import { hkdfSync, scrypt as nativeScrypt, randomBytes, type ScryptOptions } from 'node:crypto';
import { copyFile, link, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import {
  computeAddress,
  decryptKeystoreJson,
  encryptKeystoreJson,
  hexlify,
  SigningKey,
  scrypt,
} from 'ethers';
import { PatchbayError } from '../../kernel/errors.ts';
import { walletSigner } from './wallet.ts';

const deriveKey = promisify<Uint8Array, Uint8Array, number, ScryptOptions, Buffer>(nativeScrypt);

// The program's own takes seconds of the main thread for what Node does beside it in a third of one.
scrypt.register((password, salt, N, r, p, length) =>
  deriveKey(password, salt, length, { N, r, p, maxmem: 256 * N * r }),
);

/**
 * The private key in an encrypted file (Web3 Secret Storage, version 3, with scrypt), which is made once. Of two processes
 * that make it at once, both read what the first wrote.
 *
 * @throws PatchbayError `CONFIG_INVALID` when the password is not that of the file
 */
export async function keystoreKey(file: string, password: string): Promise<string> {
  const found = await readText(file);
  const text = found ?? (await makeKeystore(file, password));
  try {
    return (await decryptKeystoreJson(text, password)).privateKey;
  } catch (cause) {
    throw new PatchbayError('CONFIG_INVALID', `The key in ${file} cannot be opened with its password.`, {
      cause,
      fix: 'Set PATCHBAY_PROOF_KEY_PASSWORD, or the PATCHBAY_SECRET that it was made under, or restore the file from a backup.',
    });
  }
}

/** The password of a keystore without one of its own. */
export function derivedPassword(secret: string): string {
  return Buffer.from(hkdfSync('sha256', secret, '', 'patchbay proof key', 32)).toString('hex');
}

/**
 * Has the key of the file replaced: makes the next one beside it, lets `succeed` put that in use, and then moves it into
 * place. The replaced key is kept beside it. Killed at any point, the next call goes on.
 */
export async function replaceKeystore(
  file: string,
  password: string,
  succeed: (present: string, next: string) => Promise<void>,
): Promise<void> {
  const present = await keystoreKey(file, password);
  const draft = `${file}.next`;
  const next = await keystoreKey(draft, password);
  await succeed(present, next);
  const { address } = walletSigner(present);
  await copyFile(file, `${file}.${address}`);
  await rename(draft, file);
}

async function makeKeystore(file: string, password: string): Promise<string> {
  const privateKey = hexlify(randomBytes(32));
  const account = { address: computeAddress(new SigningKey(privateKey).publicKey), privateKey };
  await mkdir(dirname(file), { recursive: true });
  const draft = `${file}.${randomBytes(6).toString('hex')}`;
  await writeFile(draft, await encryptKeystoreJson(account, password), { mode: 0o600, flag: 'wx' });
  try {
    // Linking a complete file, which fails where there is one already.
    await link(draft, file);
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
  } finally {
    await rm(draft, { force: true });
  }
  return readFile(file, 'utf8');
}

async function readText(file: string): Promise<string | null> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return null;
    throw error;
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

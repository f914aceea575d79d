import { decryptKeystoreJson, isKeystoreJson, type Provider, Wallet } from 'ethers';
import { PatchbayError } from '../kernel/errors.ts';

/** Where the key of an account comes from. */
export type KeySource =
  | { readonly kind: 'key'; readonly key: string }
  /** An encrypted file as Ethereum's clients write it. */
  | { readonly kind: 'keystore'; readonly json: string; readonly password: string };

/** Who signs and pays, on one chain. */
export interface Account {
  readonly wallet: Wallet;
  readonly provider: Provider;
}

/**
 * The account that a key stands for.
 * @throws PatchbayError CHAIN_KEY; it never holds any of the key.
 */
export async function openAccount(source: KeySource, provider: Provider): Promise<Account> {
  return { wallet: (await openWallet(source)).connect(provider), provider };
}

/** The key alone, which signs without a node. */
export async function openWallet(source: KeySource): Promise<Wallet> {
  return plainWallet(source.kind === 'key' ? source.key : await decrypted(source));
}

function plainWallet(key: string): Wallet {
  try {
    return new Wallet(key.startsWith('0x') ? key : `0x${key}`);
  } catch {
    // The cause repeats what it was given.
    throw new PatchbayError('CHAIN_KEY', 'The key is not a secp256k1 key of 64 hexadecimal digits.');
  }
}

async function decrypted({
  json,
  password,
}: {
  readonly json: string;
  readonly password: string;
}): Promise<string> {
  if (!isKeystoreJson(json)) {
    throw new PatchbayError('CHAIN_KEY', 'The keystore is not an encrypted key of version 3.');
  }
  try {
    return (await decryptKeystoreJson(json, password)).privateKey;
  } catch (cause) {
    throw new PatchbayError('CHAIN_KEY', 'The keystore cannot be decrypted with this password.', { cause });
  }
}

import { fromHex, sha256, u64, uuidBytes } from './bytes.ts';
import { digestOf, type Plain } from './canonical.ts';

/** By what an epoch names a request, which says nothing to who does not know its id. */
export function requestHash(log: string, id: string): string {
  return sha256('patchbay:request:v1\0', fromHex(log), uuidBytes(id));
}

/** Of whom an account is. */
export interface Subject {
  readonly kind: 'tenant' | 'version';
  readonly subject: string;
}

/** Where the account of a subject is among those of an epoch. */
export function accountKey(log: string, epoch: bigint, { kind, subject }: Subject): string {
  return sha256(
    'patchbay:account-key:v1\0',
    fromHex(log),
    u64(epoch),
    Uint8Array.of(kind === 'tenant' ? 1 : 2),
    uuidBytes(subject),
  );
}

/** The commitment to an account. */
export function accountCommitment(salt: string, account: Plain): string {
  return sha256('patchbay:account:v1\0', fromHex(salt), fromHex(digestOf(account)));
}

/** The leaf of an account. */
export function accountLeaf(key: string, commitment: string): string {
  return sha256(Uint8Array.of(0), fromHex(key), fromHex(commitment));
}

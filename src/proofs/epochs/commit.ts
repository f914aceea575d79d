import { createHash } from 'node:crypto';
import type { Uuid } from '../../kernel/ids.ts';
import { uuidBytes } from '../log/uuid.ts';
import { leafHash } from '../merkle/hash.ts';
import type { AccountKind } from './types.ts';

// What accounts and requests are called in epochs: docs/reference/proofs.md.

const REQUEST = Buffer.from('patchbay:request:v1\0', 'latin1');
const ACCOUNT_KEY = Buffer.from('patchbay:account-key:v1\0', 'latin1');
const ACCOUNT = Buffer.from('patchbay:account:v1\0', 'latin1');
const KINDS: Readonly<Record<AccountKind, number>> = { tenant: 1, version: 2 };

/** How an epoch names a request: says nothing to who does not know its id. */
export function requestHash(logId: Uint8Array, requestId: Uuid): Buffer {
  return createHash('sha256').update(REQUEST).update(logId).update(uuidBytes(requestId)).digest();
}

/** By what the accounts of an epoch are ordered. */
export function accountKey(logId: Uint8Array, epoch: bigint, kind: AccountKind, subject: Uuid): Buffer {
  const number = Buffer.alloc(9);
  number.writeBigUInt64BE(epoch);
  number.writeUInt8(KINDS[kind], 8);
  return createHash('sha256')
    .update(ACCOUNT_KEY)
    .update(logId)
    .update(number)
    .update(uuidBytes(subject))
    .digest();
}

/** The commitment to an account, given as canonical JSON. */
export function accountCommitment(salt: Uint8Array, account: string): Buffer {
  return createHash('sha256').update(ACCOUNT).update(salt).update(sha256(account)).digest();
}

/** The leaf of an account. */
export function accountLeaf(key: Uint8Array, commitment: Uint8Array): Uint8Array {
  return leafHash(Buffer.concat([key, commitment]));
}

/** The digest of a document, given as canonical JSON. */
export function sha256(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest();
}

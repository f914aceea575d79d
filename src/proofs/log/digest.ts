import { createHash } from 'node:crypto';
import { TypedDataEncoder } from 'ethers/hash';
import { isUuid, type Uuid } from '../../kernel/ids.ts';

/** What a signature on a head says. */
export interface SignedHead {
  readonly root: Uint8Array;
  readonly size: number;
  /** Milliseconds since 1970. */
  readonly signedAtMs: number;
}

const TREE_HEAD = {
  TreeHead: [
    { name: 'root', type: 'bytes32' },
    { name: 'size', type: 'uint64' },
    { name: 'signedAt', type: 'uint64' },
  ],
};

/** The id of a deployment's log, 32 bytes, from the UUID that was drawn for it: docs/reference/proofs.md. */
export function logIdOf(uuid: Uuid): Uint8Array {
  if (!isUuid(uuid)) throw new TypeError('The id of a log is made from a lower-case UUID.');
  return createHash('sha256')
    .update('patchbay:log:v1\0')
    .update(Buffer.from(uuid.replaceAll('-', ''), 'hex'))
    .digest();
}

/** The EIP-712 digest that a head is signed by. */
export function treeHeadDigest(logId: Uint8Array, { root, size, signedAtMs }: SignedHead): Uint8Array {
  const domain = { name: 'Patchbay proofs', version: '1', salt: `0x${Buffer.from(logId).toString('hex')}` };
  const digest = TypedDataEncoder.hash(domain, TREE_HEAD, { root, size, signedAt: signedAtMs });
  return Buffer.from(digest.slice(2), 'hex');
}

import { createHash } from 'node:crypto';
import type { Uuid } from '../../kernel/ids.ts';
import { type TypedMessage, typedDigest, typedMessage } from './typed.ts';
import { uuidBytes } from './uuid.ts';

/** What a signature on a head says. */
export interface SignedHead {
  readonly root: Uint8Array;
  readonly size: number;
  /** Milliseconds since 1970. */
  readonly signedAtMs: number;
}

const TREE_HEAD: TypedMessage = typedMessage('TreeHead', [
  { name: 'root', type: 'bytes32' },
  { name: 'size', type: 'uint64' },
  { name: 'signedAt', type: 'uint64' },
]);

/** The id of a deployment's log, 32 bytes, from the UUID that was drawn for it: docs/reference/proofs.md. */
export function logIdOf(uuid: Uuid): Uint8Array {
  return createHash('sha256').update('patchbay:log:v1\0').update(uuidBytes(uuid)).digest();
}

/** The EIP-712 digest that a head is signed by. */
export function treeHeadDigest(logId: Uint8Array, { root, size, signedAtMs }: SignedHead): Uint8Array {
  return typedDigest(logId, TREE_HEAD, { root, size, signedAt: signedAtMs });
}

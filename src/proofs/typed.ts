import { typedDigest, typedMessage } from './log/typed.ts';

const BATCH = typedMessage('ReceiptBatch', [
  { name: 'root', type: 'bytes32' },
  { name: 'size', type: 'uint64' },
  { name: 'signedAt', type: 'uint64' },
]);
const SUCCESSION = typedMessage('KeySuccession', [
  { name: 'next', type: 'address' },
  { name: 'validFrom', type: 'uint64' },
]);
const CLAIM = typedMessage('PayoutClaim', [
  { name: 'digest', type: 'bytes32' },
  { name: 'signedAt', type: 'uint64' },
]);
const EPOCH = typedMessage('Epoch', [
  { name: 'number', type: 'uint64' },
  { name: 'digest', type: 'bytes32' },
  { name: 'signedAt', type: 'uint64' },
]);

/** What is signed of a batch of receipts. Times are milliseconds since 1970. */
export function batchDigest(
  logId: Uint8Array,
  batch: { readonly root: Uint8Array; readonly size: number; readonly signedAt: number },
): Uint8Array {
  return typedDigest(logId, BATCH, batch);
}

/** What a key signs of the one that follows it. */
export function successionDigest(
  logId: Uint8Array,
  succession: { readonly next: string; readonly validFrom: number },
): Uint8Array {
  return typedDigest(logId, SUCCESSION, succession);
}

/** What is signed of a claim on a chain. */
export function claimDigest(
  logId: Uint8Array,
  claim: { readonly digest: Uint8Array; readonly signedAt: number },
): Uint8Array {
  return typedDigest(logId, CLAIM, claim);
}

/** What is signed of an epoch. */
export function epochDigest(
  logId: Uint8Array,
  epoch: { readonly number: bigint; readonly digest: Uint8Array; readonly signedAt: number },
): Uint8Array {
  return typedDigest(logId, EPOCH, epoch);
}

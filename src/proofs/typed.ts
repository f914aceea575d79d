import { concat, getBytes, keccak256, TypedDataEncoder } from 'ethers';

const BATCH = encoder('ReceiptBatch', [
  { name: 'root', type: 'bytes32' },
  { name: 'size', type: 'uint64' },
  { name: 'signedAt', type: 'uint64' },
]);
const SUCCESSION = encoder('KeySuccession', [
  { name: 'next', type: 'address' },
  { name: 'validFrom', type: 'uint64' },
]);

/** What is signed of a batch of receipts. Times are milliseconds since 1970. */
export function batchDigest(
  logId: Uint8Array,
  batch: { readonly root: Uint8Array; readonly size: number; readonly signedAt: number },
): Uint8Array {
  return digestOf(logId, BATCH, batch);
}

/** What a key signs of the one that follows it. */
export function successionDigest(
  logId: Uint8Array,
  succession: { readonly next: string; readonly validFrom: number },
): Uint8Array {
  return digestOf(logId, SUCCESSION, succession);
}

function encoder(name: string, fields: { name: string; type: string }[]): TypedDataEncoder {
  return TypedDataEncoder.from({ [name]: fields });
}

/** EIP-712: the hash of the domain's separator and of the struct. */
function digestOf(logId: Uint8Array, of: TypedDataEncoder, value: Record<string, unknown>): Uint8Array {
  const domain = TypedDataEncoder.hashDomain({ name: 'Patchbay proofs', version: '1', salt: hex(logId) });
  const struct = of.hash(value);
  return getBytes(keccak256(concat(['0x1901', domain, struct])));
}

function hex(bytes: Uint8Array): string {
  return `0x${Buffer.from(bytes).toString('hex')}`;
}

import type { Consistency, Inclusion, TreeHead } from './types.ts';

// How heads and proofs are written: docs/reference/proofs.md.

/** A head inside of a document. */
export interface HeadDocument {
  readonly root: string;
  readonly size: string;
  readonly signedAt: string;
  readonly signature: string;
}

export function headDocument({ root, size, signedAtMs, signature }: TreeHead): HeadDocument {
  return { root: hex(root), size: String(size), signedAt: String(signedAtMs), signature };
}

/** What a receipt holds of its place in the log. */
export function inclusionDocument({ index, path, head }: Inclusion) {
  return { index: String(index), path: path.map(hex), head: headDocument(head) };
}

/** A consistency proof, but for the id of the log. */
export function consistencyDocument({ first, second, path }: Consistency) {
  return {
    format: 'patchbay-consistency/1',
    first: String(first.size),
    second: String(second.size),
    path: path.map(hex),
    firstHead: headDocument(first),
    secondHead: headDocument(second),
  };
}

/** Lower-case hexadecimal without `0x`. */
export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

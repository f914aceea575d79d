import type { Consistency, Inclusion, TreeHead } from './types.ts';

// How heads and proofs are written: docs/reference/proofs.md.

/** A head as documents hold it. */
export interface HeadDocument {
  readonly root: string;
  readonly size: string;
  readonly signedAt: string;
  readonly signature: string;
}

export function headDocument({ root, size, signedAtMs, signature }: TreeHead): HeadDocument {
  return { root: hex(root), size: String(size), signedAt: String(signedAtMs), signature };
}

export function inclusionDocument({ index, path, head }: Inclusion) {
  return { index: String(index), path: path.map(hex), head: headDocument(head) };
}

export function consistencyDocument({ first, second, path }: Consistency) {
  return {
    first: first === null ? null : headDocument(first),
    second: headDocument(second),
    path: path.map(hex),
  };
}

/** Lower-case hexadecimal without `0x`. */
export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

import type { Uuid } from '../../kernel/ids.ts';
import type { SignedHead } from './digest.ts';

/** Signs digests with the key of an address. */
export interface DigestSigner {
  /** The address of the key, as Ethereum writes it. */
  readonly address: string;
  /** The signature, `0x` and 65 bytes `r ‖ s ‖ v` in hexadecimal. */
  sign(digest: Uint8Array): Promise<string>;
}

/** A signed head of the log. */
export interface TreeHead extends SignedHead {
  readonly address: string;
  readonly signature: string;
}

/** How a leaf is named: by its place, by what it is the hash of, or by the entry's own id, which only its parties know. */
export type LeafRef =
  | { readonly kind: 'index'; readonly index: number }
  | { readonly kind: 'hash'; readonly hash: Uint8Array }
  | { readonly kind: 'entry'; readonly entryId: Uuid };

/** A leaf's place in the log, proven for a head. */
export interface Inclusion {
  readonly leaf: Uint8Array;
  readonly index: number;
  /** From the leaf up. */
  readonly path: readonly Uint8Array[];
  readonly head: TreeHead;
}

/** That one head's log is the beginning of another's. */
export interface Consistency {
  readonly first: TreeHead;
  readonly second: TreeHead;
  readonly path: readonly Uint8Array[];
}

import type { Market } from './fees.ts';
import type { BlockRef, Problem } from './types.ts';

/** A transaction in a block. */
export interface Receipt {
  readonly block: BlockRef;
  readonly succeeded: boolean;
}

/** What the chain says, as far as a plan needs it. Whatever is missing here is unknown, and nothing follows from that. */
export interface ChainView {
  readonly head: BlockRef;
  /** Number of the newest block that counts as final; null when there is none. */
  readonly finalNumber: number | null;
  /** How many nonces of the account are used up. */
  readonly used: number;
  readonly balance: bigint;
  readonly market: Market;
  /** By hash, of what was signed. */
  readonly receipts: ReadonlyMap<string, Receipt>;
  /** Hashes of the chain's blocks by number, of those that matter. */
  readonly blocks: ReadonlyMap<number, string>;
  /** By nonce, the transaction in a final block that has it and is none of ours. */
  readonly takenBy: ReadonlyMap<number, string>;
  /** By id, what a transaction that is queued would need now. */
  readonly quotes: ReadonlyMap<string, Quote>;
}

/** How much gas a transaction is given, or why it cannot be sent. */
export type Quote =
  | { readonly kind: 'gas'; readonly gas: bigint }
  | { readonly kind: 'problem'; readonly problem: Problem };

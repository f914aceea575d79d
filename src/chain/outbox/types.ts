import type { ErrorCode } from '../../kernel/codes.ts';
import type { UnsignedCall } from '../call.ts';

/**
 * What has become of a transaction. `SIGNED` may be on its way, or not: that is unknown until it is in a block. `INCLUDED` is in
 * a block that may still be replaced. `FINAL` and `REVERTED` never change.
 */
export type TransactionState = 'QUEUED' | 'SIGNED' | 'INCLUDED' | 'FINAL' | 'REVERTED';

/** What is to happen on the chain. */
export interface Order {
  /** What it is for, such as `publish:3`: there is one transaction for each purpose, whatever happens. */
  readonly purpose: string;
  readonly call: UnsignedCall;
  /** The chain's own coin that goes along; nothing without it. */
  readonly value?: bigint;
}

/** Why something does not go on. It goes on by itself when the reason is gone. */
export interface Problem {
  readonly code: ErrorCode;
  readonly message: string;
}

export interface BlockRef {
  readonly number: number;
  /** `0x` and 64 digits. */
  readonly hash: string;
}

/** What is known of the transaction of a purpose. */
export interface TransactionStatus {
  readonly purpose: string;
  readonly state: TransactionState;
  /** Under which account and nonce it was signed; null while it is queued. */
  readonly signed: { readonly account: string; readonly nonce: number } | null;
  /** Hashes of all that was signed under this nonce, the newest last; any of them may be the one that is included. */
  readonly hashes: readonly string[];
  /** Where it is; null while it is in no block. */
  readonly included: { readonly hash: string; readonly block: BlockRef } | null;
  /** Why the contract refused it, where that is known. */
  readonly reason: string | null;
  /** What is in its way, if it is not final. */
  readonly problem: (Problem & { readonly atMs: number }) | null;
}

/** Fees of a transaction, in wei for a unit of gas. */
export interface Fees {
  readonly maxFee: bigint;
  /** What of it goes to the block's proposer at most; null on a chain without EIP-1559, where `maxFee` is the price. */
  readonly priorityFee: bigint | null;
}

/** A signed form of a transaction. */
export interface Attempt {
  readonly hash: string;
  readonly number: number;
  /** The bytes to send, in hexadecimal. */
  readonly raw: string;
  readonly fees: Fees;
  readonly signedAtMs: number;
}

interface Stored {
  readonly id: string;
  readonly purpose: string;
  readonly call: UnsignedCall;
  readonly value: bigint;
  readonly problem: Problem | null;
}

export interface QueuedTransaction extends Stored {
  readonly state: 'QUEUED';
}

/** It has a nonce, and was signed at least once. */
interface WithNonce extends Stored {
  readonly nonce: number;
  readonly gas: bigint;
  /** In their order. */
  readonly attempts: readonly Attempt[];
}

export interface SignedTransaction extends WithNonce {
  readonly state: 'SIGNED';
}

export interface IncludedTransaction extends WithNonce {
  readonly state: 'INCLUDED';
  readonly block: BlockRef;
  readonly succeeded: boolean;
}

/** A transaction that is not at its end. */
export type OpenTransaction = QueuedTransaction | SignedTransaction | IncludedTransaction;

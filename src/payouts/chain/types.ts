/**
 * Words of payouts on a chain.
 *
 * - distributor: the contract that pays, in one token.
 * - order: a batch as it is handed over.
 * - payment: one payment of an order.
 * - entitlement: what a beneficiary can claim in all for one account.
 * - leaf: what an account can claim in all, by a tree.
 * - tree: all leaves after an order. Each holds everything that was ordered before as well.
 * - settlement: that a tree is published for good and paid in, so that its payouts are paid.
 *
 * Amounts of payouts are nano-units of the currency, amounts on the chain are the token's smallest units.
 */
import type { Provider } from 'ethers';
import type { PoolClient } from 'pg';
import type { UnsignedCall } from '../../chain/call.ts';
import type { Database } from '../../db/client.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Uuid } from '../../kernel/ids.ts';

/** Where is paid. Addresses have their checksum. */
export interface ChainPlace {
  readonly chainId: bigint;
  readonly distributor: string;
  readonly token: string;
}

/** A distributor that is in use. */
export interface Distributor extends ChainPlace {
  readonly id: Uuid;
  readonly decimals: number;
}

export const TRANSACTION_STATES = ['QUEUED', 'SIGNED', 'INCLUDED', 'FINAL', 'REVERTED'] as const;
export type TransactionState = (typeof TRANSACTION_STATES)[number];

/** What has become of a transaction that was ordered. */
export interface TransactionStatus {
  readonly state: TransactionState;
  /** Under which account; null while it is queued. */
  readonly signed: { readonly account: string } | null;
  /** Where it is; null while it is in no block. */
  readonly included: { readonly hash: string } | null;
  /** Why the contract refused it, where that is known. */
  readonly reason: string | null;
  /** What is in its way, if it is not at its end. */
  readonly problem: { readonly message: string } | null;
}

/** A transaction that is to happen once for its purpose. */
export interface TransactionOrder {
  readonly purpose: string;
  readonly call: UnsignedCall;
}

/** Where transactions are ordered. */
export interface TransactionOutbox {
  enqueue(client: PoolClient, order: TransactionOrder): Promise<void>;
  /** By purpose; those for which nothing was ordered are left out. */
  statesOf(purposes: readonly string[]): Promise<ReadonlyMap<string, TransactionStatus>>;
}

/** A block, by number and hash. */
export interface BlockRef {
  readonly number: number;
  readonly hash: string;
}

/** The chain, as far as it can be read. */
export interface ChainReader {
  /** A connection to a node of the right chain, or CHAIN_UNREACHABLE. */
  provider(): Promise<Provider>;
  /** The newest block that counts as final; null when there is none yet. */
  finalBlock(): Promise<BlockRef | null>;
  /** The account that sends what is ordered; null where no key is there. */
  readonly account: string | null;
}

/** What the parts work with. */
export interface ChainDeps {
  readonly database: Database;
  readonly clock: Clock;
  readonly chain: ChainReader;
  readonly outbox: TransactionOutbox;
}

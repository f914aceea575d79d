import type { Uuid } from '../../kernel/ids.ts';

/**
 * Why a request is quarantined.
 *
 * - `ENGINE_DIFFERS`: its usage record has other counts than the engine.
 * - `CAPTURE_DIFFERS`: the ledger moved another amount, or to somebody else, than the record says.
 * - `LEAF_DIFFERS`: its receipt's fields are not those of the record, or do not have the commitments.
 * - `RECORD_MISSING`: there is a leaf without a record.
 * - `LEAF_MISSING`: the log does not have its receipt, long after the request ended.
 */
export const QUARANTINE_REASONS = [
  'ENGINE_DIFFERS',
  'CAPTURE_DIFFERS',
  'LEAF_DIFFERS',
  'RECORD_MISSING',
  'LEAF_MISSING',
] as const;
export type QuarantineReason = (typeof QUARANTINE_REASONS)[number];

/** A request that did not match. */
export interface Quarantined {
  readonly requestId: Uuid;
  readonly reason: QuarantineReason;
  /** Null for `LEAF_MISSING`. */
  readonly leaf: Uint8Array | null;
}

/** A request that an earlier epoch quarantined, and that matches now. */
export interface Released {
  readonly requestId: Uuid;
  /** The epoch that quarantined it. */
  readonly epoch: bigint;
  /** Null for one that was quarantined without: its leaf is in the range of the epoch that releases it. */
  readonly leaf: Uint8Array | null;
}

/** Whose an account is. */
export type AccountKind = 'tenant' | 'version';

/** An epoch that was closed. */
export interface Epoch {
  readonly number: bigint;
  /** Its leaves are those from here up to and without the size. */
  readonly firstSize: number;
  readonly size: number;
  readonly root: Uint8Array;
  readonly digest: Uint8Array;
  /** The digest of the epoch before; zeros for the first. */
  readonly previous: Uint8Array;
  readonly closedAt: Date;
}

/** An epoch as it is published, without its document. */
export interface PublishedEpoch extends Epoch {
  readonly receipts: bigint;
  readonly quarantined: number;
  readonly released: number;
}

/** The digest before the first. */
export const NO_DIGEST: Uint8Array = new Uint8Array(32);

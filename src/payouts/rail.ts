import type { Uuid } from '../kernel/ids.ts';

/** Kinds of rails, and of the destinations that they reach. Claims on a chain will be another. */
export const RAIL_KINDS = ['FILE'] as const;
export type RailKind = (typeof RAIL_KINDS)[number];

/** One payment of an order. */
export interface Payment {
  /** Lower-case hex SHA-256 of the payment's content. A rail pays a key at most once. */
  readonly key: string;
  readonly beneficiary: Uuid;
  readonly accountName: string;
  readonly accountReference: string;
  /** Positive nano-units, a multiple of the rail's unit. */
  readonly amount: bigint;
}

/** What a rail is asked to pay. The same order is the same text, whoever gives it and however often. */
export interface PaymentOrder {
  readonly batchId: Uuid;
  readonly currency: string;
  /** At least one, in an order that does not change. */
  readonly payments: readonly Payment[];
}

/** What a rail says of an order that it has taken. */
export interface RailReceipt {
  /** What it knows the order by. */
  readonly reference: string;
  /** Lower-case hex SHA-256 of what it was given. */
  readonly sha256: string;
}

/**
 * Moves money outside. Orders are given again after a crash, perhaps by two processes at once, so a rail answers an order
 * that it has with the same receipt and pays nothing twice. It refuses another order of the same batch. What it has not
 * answered may or may not have been taken; giving the order again finds out. The rules are tests: test/conformance/payout-rail.ts.
 */
export interface PayoutRail {
  readonly kind: RailKind;
  /** The smallest amount of the currency that it can pay, in nano-units. */
  unitNano(currency: string): bigint;
  /** Takes the order, durably. Throws `PAYOUT_RAIL` when it does not. */
  submit(order: PaymentOrder): Promise<RailReceipt>;
}

import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';

/** Kinds of rails, and of the destinations that they reach: a bank that takes a file, and claims on a chain. */
export const RAIL_KINDS = ['FILE', 'CHAIN'] as const;
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

/** What a rail can pay now. */
export interface RailTerms {
  /** The least that comes to anything, in nano-units. */
  readonly leastNano: bigint;
}

/**
 * Moves money outside. Orders are given again after a crash, perhaps by two processes at once, so a rail answers an order
 * that it has with the same receipt and pays nothing twice. It refuses another order of the same batch. What it has not
 * answered may or may not have been taken; giving the order again finds out. The rules are tests: test/conformance/payout-rail.ts.
 */
export interface PayoutRail {
  readonly kind: RailKind;
  /** Accounts that it never pays to. */
  readonly refuses: ReadonlySet<string>;
  /** What amounts are multiples of, in nano-units: what is smaller than this is not drafted. */
  unitNano(currency: string): bigint;
  /** Asked before a draft. Throws `PAYOUT_RAIL` when it cannot pay in the currency now. */
  terms(currency: string): Promise<RailTerms>;
  /** Asked before a batch is approved. Throws `RECONCILIATION_FAILED` when what it paid before does not agree with what it knows. */
  requireAgreed(): Promise<void>;
  /** Asked before a batch is handed over, while it can still be cancelled. Throws `PAYOUT_RAIL` when it would not take it. */
  requireTakes(currency: string): Promise<void>;
  /**
   * Whether it can say for sure that it has not taken the order of a batch, and takes it no more once the batch is cancelled.
   * Asked while the batch is locked.
   */
  neverTook(batchId: Uuid): Promise<boolean>;
  /** Takes the order, durably. Throws `PAYOUT_RAIL` when it does not. */
  submit(order: PaymentOrder): Promise<RailReceipt>;
}

/** The rails of an installation; it need not have a chain. */
export interface PayoutRails {
  readonly FILE: PayoutRail;
  readonly CHAIN: PayoutRail | null;
}

/** The rail of a kind, or CHAIN_PAYOUTS_OFF. */
export function requireRail(rails: PayoutRails, kind: RailKind): PayoutRail {
  const rail = rails[kind];
  if (rail !== null) return rail;
  throw new PatchbayError('CHAIN_PAYOUTS_OFF', 'This installation pays nothing on a chain.', {
    field: 'rail',
  });
}

/** Throws for an order that cannot be paid as it is: a bug of the caller, and better refused than rounded. */
export function requirePayable({ payments }: PaymentOrder, unit: bigint): void {
  const keys = new Set(payments.map(({ key }) => key));
  const isWhole = payments.every(({ amount }) => amount > 0n && amount % unit === 0n);
  if (payments.length > 0 && keys.size === payments.length && isWhole) return;
  throw new PatchbayError(
    'PAYOUT_RAIL',
    'The order is empty, pays a key twice, or has an amount that cannot be paid.',
  );
}

/**
 * Words of this domain.
 *
 * - beneficiary: a tenant that earns; its earnings are an account of the ledger.
 * - destination: where a beneficiary wants its money.
 * - payout: one payment to one beneficiary. Its money is held until it is known what became of it.
 * - batch: payouts that are approved and handed over together.
 * - rail: what moves the money outside: a bank that takes a file, or claims on a chain.
 *
 * Amounts are whole nano-units of the currency.
 */
import type { Database } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { PayoutRails, RailKind } from './rail.ts';

/** How payouts are made. */
export interface PayoutOptions {
  /** What was posted less than this long ago is not paid yet. */
  readonly holdbackMs: number;
  /** What is less than this is carried over. */
  readonly minimumNano: bigint;
  /** A batch of more than this is approved by somebody else than who drafted it. */
  readonly secondPersonAboveNano: bigint;
  /** After this long a changed destination takes effect. */
  readonly destinationDelayMs: number;
  /** After this long a batch that was not handed over is cancelled, so that it holds nobody's money for good. */
  readonly draftTtlMs: number;
  /** Most payouts of one batch; the others come with the next. */
  readonly batchMax: number;
}

/** Values that suit an installation in a currency of about a dollar's worth. */
export const PAYOUT_DEFAULTS: PayoutOptions = {
  holdbackMs: 7 * 24 * 3_600_000,
  minimumNano: 10n ** 10n,
  secondPersonAboveNano: 10n ** 12n,
  destinationDelayMs: 3 * 24 * 3_600_000,
  draftTtlMs: 14 * 24 * 3_600_000,
  batchMax: 1_000,
};

/** What the services of payouts work with. */
export interface PayoutDeps {
  readonly database: Database;
  readonly clock: Clock;
  readonly rails: PayoutRails;
}

/** Where a beneficiary wants its money, from a time on until the next one takes effect. */
export interface PayoutDestination {
  readonly id: Uuid;
  readonly tenantId: Uuid;
  readonly kind: RailKind;
  readonly accountName: string;
  readonly accountReference: string;
  readonly effectiveFrom: Date;
  readonly createdAt: Date;
}

export const BATCH_STATES = ['DRAFT', 'APPROVED', 'SUBMITTING', 'SUBMITTED', 'SETTLED', 'CANCELLED'] as const;
export type BatchState = (typeof BATCH_STATES)[number];

/** Payouts that are approved and handed over together. */
export interface PayoutBatch {
  readonly id: Uuid;
  readonly state: BatchState;
  readonly rail: RailKind;
  readonly currency: string;
  readonly earnedBefore: Date;
  readonly payoutCount: number;
  readonly totalNano: bigint;
  /** Whether who drafted it may not approve it. */
  readonly needsSecondPerson: boolean;
  /** Keys of operators. */
  readonly draftedBy: Uuid;
  readonly approvedBy: Uuid | null;
  /** What the rail knows it by; null until it was handed over. */
  readonly railReference: string | null;
  /** Lower-case hex SHA-256 of what the rail was given. */
  readonly railSha256: string | null;
  readonly createdAt: Date;
  readonly approvedAt: Date | null;
  readonly submittingAt: Date | null;
  readonly submittedAt: Date | null;
  readonly closedAt: Date | null;
}

/** What became of batches that were gone on with. */
export interface Resumption {
  readonly resumed: readonly PayoutBatch[];
  /** Those that the rail did not take. */
  readonly failed: readonly FailedBatch[];
}

/** What became of batches that were forgotten. */
export interface Expiry {
  readonly expired: readonly PayoutBatch[];
  readonly failed: readonly FailedBatch[];
}

/** A batch that stays where it is and is tried again. */
export interface FailedBatch {
  readonly batchId: Uuid;
  readonly error: unknown;
}

export const PAYOUT_STATES = [
  'PENDING',
  'SENDING',
  'PAID',
  'FAILED',
  'UNKNOWN',
  'RETURNED',
  'CANCELLED',
] as const;
export type PayoutState = (typeof PAYOUT_STATES)[number];

/** What a bank can say of a payment. */
export const RESULT_STATES = ['PAID', 'FAILED', 'UNKNOWN', 'RETURNED'] as const;
export type ResultState = (typeof RESULT_STATES)[number];

/** One payment to one beneficiary. */
export interface Payout {
  readonly id: Uuid;
  readonly tenantId: Uuid;
  readonly batchId: Uuid;
  readonly state: PayoutState;
  readonly currency: string;
  readonly amountNano: bigint;
  readonly earnedBefore: Date;
  /** Lower-case hex SHA-256 of its content: what makes it unique. */
  readonly paymentKey: string;
  readonly destination: PayoutDestination;
  /** What the bank calls the payment; on a chain, number and transaction of the tree that it is in. */
  readonly bankReference: string | null;
  /** What the bank calls the payment with which the money came back. */
  readonly returnReference: string | null;
  readonly createdAt: Date;
  readonly stateChangedAt: Date;
}

/** A file of results that was taken in. */
export interface PayoutImport {
  readonly id: Uuid;
  /** Lower-case hex SHA-256 of the file. */
  readonly sha256: string;
  readonly resultCount: number;
  /** How many results said something new. */
  readonly appliedCount: number;
  readonly totalNano: bigint;
  readonly createdAt: Date;
}

/** A beneficiary's earnings in one currency, as of now. */
export interface EarningsBalance {
  readonly currency: string;
  /** Earned and not paid; below zero when corrections exceed earnings. */
  readonly posted: bigint;
  /** Of that, what payouts hold that are under way. */
  readonly held: bigint;
  /** Of that, what was posted within the holdback window. */
  readonly maturing: bigint;
  /** What the next batch could pay; zero below the minimum. */
  readonly payable: bigint;
  /** What is past the holdback window and not payable: below the minimum, below zero, or less than the rail's unit. */
  readonly carried: bigint;
}

/** What was earned or corrected with one subject in a period. */
export interface StatementLine {
  /** The adapter version; null for what is about none. */
  readonly adapterVersionId: Uuid | null;
  readonly amount: bigint;
  readonly postings: number;
}

/** A beneficiary's earnings in one currency in a month, reproducible from the postings. */
export interface EarningsStatement {
  readonly tenantId: Uuid;
  readonly currency: string;
  /** Such as `2026-02`, in UTC. */
  readonly period: string;
  readonly from: Date;
  /** Exclusive. */
  readonly to: Date;
  /** Whether the period has ended. */
  readonly isComplete: boolean;
  readonly opening: bigint;
  readonly earned: readonly StatementLine[];
  readonly corrections: readonly StatementLine[];
  /** Not below zero. */
  readonly paid: bigint;
  /** What was paid, in this month or before, and came back in it. */
  readonly returned: bigint;
  /** opening + earned + corrections − paid + returned. */
  readonly closing: bigint;
}

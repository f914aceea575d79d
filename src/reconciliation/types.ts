import type { Uuid } from '../kernel/ids.ts';

/**
 * What has to agree, in the order in which money goes.
 *
 * - `ENGINE_PROMPT`: a prompt is metered with what the engine counted, or not at all where nothing of it is to be paid.
 * - `ENGINE_COMPLETION`: the completion tokens that were metered are those of the engine without the dropped ones, and none
 *   is dropped of an answer that ended by itself.
 * - `RECORD_CHARGES`: a usage record costs the sum of its charges, and they charge for its tokens.
 * - `CHARGE_RECORD`: every charge belongs to a usage record of the same period.
 * - `RECORD_SHARES`: what owners are shown of a request is what it was metered and charged with.
 * - `RECORD_CAPTURE`: what a record costs was captured from its hold, and nothing else.
 * - `CAPTURE_RECORD`: every capture of an inference belongs to a record of the same period.
 * - `CUSTOMER`: the tenant paid what the record costs.
 * - `EARNINGS`: beneficiaries were credited the royalty of each adapter version without the fee.
 * - `PLATFORM`: the platform was credited the rest.
 * - `OPEN_HOLD`: money is held for requests that run, and for no others.
 * - `RECORD_RECEIPT`: every usage record that was settled with proofs on has a receipt, and the log has it.
 * - `INVOICE_CHARGES`: an invoice charges what the usage records of its period cost.
 * - `INVOICE_DOCUMENT`: an invoice is what the charges and the terms of its period give, byte by byte.
 * - `INVOICE_POSTINGS`: what was posted for an invoice is what it, its state and its credit notes say.
 * - `STATEMENT_EARNED`: a beneficiary's statement has what the records of the period earned.
 * - `STATEMENT_PAID`: a beneficiary's statement has what was paid out to it.
 * - `PAYOUT_MONEY`: the money of a payout is where its state says.
 * - `PAYOUT_HOLD`: every hold for a payout belongs to a payout.
 * - `PAYOUT_BATCH`: a batch is the sum of its payouts.
 * - `CHAIN_ORDER`: what was handed over to be paid on a chain is what its payouts say.
 * - `CHAIN_TREE`: the leaves of a tree are the sums of the payments up to it.
 * - `CHAIN_PUBLISHED`: no tree is published that is not one of ours.
 * - `CHAIN_PAID`: a payout that was paid on a chain is in a tree that is published for good.
 * - `CHAIN_CLAIMED`: what an account was paid in all is the sum of its claims, and not more than its tree says.
 * - `CHAIN_BALANCE`: a distributor holds what came to it, less what was claimed.
 */
export const RECONCILIATION_RULES = [
  'ENGINE_PROMPT',
  'ENGINE_COMPLETION',
  'RECORD_CHARGES',
  'CHARGE_RECORD',
  'RECORD_SHARES',
  'RECORD_CAPTURE',
  'CAPTURE_RECORD',
  'CUSTOMER',
  'EARNINGS',
  'PLATFORM',
  'OPEN_HOLD',
  'RECORD_RECEIPT',
  'INVOICE_CHARGES',
  'INVOICE_DOCUMENT',
  'INVOICE_POSTINGS',
  'STATEMENT_EARNED',
  'STATEMENT_PAID',
  'PAYOUT_MONEY',
  'PAYOUT_HOLD',
  'PAYOUT_BATCH',
  'CHAIN_ORDER',
  'CHAIN_TREE',
  'CHAIN_PUBLISHED',
  'CHAIN_PAID',
  'CHAIN_CLAIMED',
  'CHAIN_BALANCE',
] as const;
export type ReconciliationRule = (typeof RECONCILIATION_RULES)[number];

/** What a difference is about; a hold that belongs to nothing is a `TRANSFER`. */
export type ReconciliationSubject =
  | 'REQUEST'
  | 'INVOICE'
  | 'BENEFICIARY'
  | 'PAYOUT'
  | 'PAYOUT_BATCH'
  | 'PAYOUT_TREE'
  | 'DISTRIBUTOR'
  | 'TRANSFER';

/** What is compared. */
export interface ReconciliationScope {
  readonly from: Date;
  /** Exclusive. */
  readonly to: Date;
  /** Requests, invoices, earnings and payouts of this tenant alone; null for everybody's. */
  readonly tenantId: Uuid | null;
  /** Of distributors this one alone; left out: all of them. */
  readonly distributorId?: Uuid;
}

/** One thing that does not agree. Amounts are nano-units, on a chain the token's smallest units. */
export interface ReconciliationDifference {
  readonly rule: ReconciliationRule;
  readonly subject: ReconciliationSubject;
  readonly subjectId: Uuid;
  /** Null for what concerns no tenant, or nobody knows which. */
  readonly tenantId: Uuid | null;
  /** The part of the subject, such as an adapter version; null for all of it. */
  readonly detail: string | null;
  /** Null where nothing should be. */
  readonly expected: string | null;
  /** Null where nothing is. */
  readonly actual: string | null;
}

/** What a rule found. */
export interface RuleFindings {
  /** How many differences there are. */
  readonly count: number;
  /** The first of them. */
  readonly differences: readonly ReconciliationDifference[];
}

/** What a comparison found. */
export interface Comparison extends ReconciliationScope {
  /** Differences by rule, in the order of the rules. */
  readonly counts: readonly { readonly rule: ReconciliationRule; readonly differences: number }[];
  /** In the order of the rules; of each rule the first {@link DIFFERENCES_MAX}. */
  readonly differences: readonly ReconciliationDifference[];
}

/** What a reconciliation found. */
export interface ReconciliationReport extends Comparison {
  /** Usage records of the period. */
  readonly requests: number;
  /** Of them those that the engine told no counts of: its process was lost, or it did not answer in time. */
  readonly uncounted: number;
}

/** Of each rule so many differences are shown; all are counted. */
export const DIFFERENCES_MAX = 1_000;

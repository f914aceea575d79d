/**
 * Words of this domain.
 *
 * - account: whose money, of what kind, in which asset. Only a CUSTOMER account has a limit.
 * - transfer: moves money between accounts by postings that sum to zero.
 * - hold: a pending transfer; it moves nothing and makes an amount unavailable until it is resolved.
 * - capture: resolves a hold by moving some of it, all of it or nothing, and releases the rest.
 *
 * Amounts are whole nano-units of the account's asset.
 */
import type { QueryResultRow } from 'pg';
import type { Database } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Uuid } from '../kernel/ids.ts';

/** What an account is for. The platform tenant alone has the last four. */
export type AccountKind =
  /** What a customer paid in and has not spent; negative up to the credit limit. */
  | 'CUSTOMER'
  /** What a beneficiary earned and was not paid. */
  | 'EARNINGS'
  | 'PLATFORM_FEE'
  | 'PLATFORM_BASE'
  /** The world outside: the negative of everything that came in and did not go out. */
  | 'CASH'
  /** What the platform bears: discounts of a closed period, corrections. */
  | 'ADJUSTMENT';

/** Most that one amount may be: 10^18 nano-units, a billion units. */
export const AMOUNT_MAX = 10n ** 18n;

/** An amount to reserve. */
export interface Hold {
  /** Of the new transfer; a uuidv7 from the clock. */
  readonly id: Uuid;
  readonly accountId: Uuid;
  readonly amount: bigint;
  /** Unique within the account's tenant; the same key again answers what was held before. */
  readonly key: string;
  readonly referenceId: Uuid | null;
  /** From when on anybody may release it. */
  readonly expiresAt: Date | null;
}

/** What became of a hold. `available` is what its account had left before the batch; null when not asked. */
export interface HoldResult {
  /** The transfer that holds: of a replayed hold, the first one's. */
  readonly id: Uuid;
  readonly outcome: 'HELD' | 'REPLAYED' | 'REFUSED' | 'CONFLICT' | 'UNKNOWN';
  readonly available: bigint | null;
}

/** An account's part of a capture. */
export interface Credit {
  readonly accountId: Uuid;
  /** Positive. */
  readonly amount: bigint;
  /** What it is for, such as the adapter version that earned it. */
  readonly subjectId: Uuid | null;
}

/** Posts an amount of a hold; the credits add up to it. */
export interface Capture {
  readonly id: Uuid;
  readonly holdId: Uuid;
  readonly amount: bigint;
  readonly credits: readonly Credit[];
}

/** What became of a capture; `RESOLVED`: the hold was resolved otherwise before. */
export interface CaptureResult {
  readonly id: Uuid;
  readonly outcome: 'POSTED' | 'REPLAYED' | 'RESOLVED' | 'EXCEEDS' | 'UNKNOWN';
}

/** Releases a hold whole. */
export interface Release {
  readonly id: Uuid;
  readonly holdId: Uuid;
}

/** What became of a release. */
export interface ReleaseResult {
  readonly id: Uuid;
  readonly outcome: 'RELEASED' | 'REPLAYED' | 'RESOLVED' | 'UNKNOWN';
}

/** One line of a single transfer; debits are negative. */
export interface Line {
  readonly accountId: Uuid;
  readonly amount: bigint;
  readonly subjectId: Uuid | null;
}

/** Money that moves at once; the lines sum to zero. */
export interface Transfer {
  readonly id: Uuid;
  /** On whose behalf, and who may read it. */
  readonly tenantId: Uuid;
  readonly asset: string;
  /** Unique within the tenant. */
  readonly key: string;
  /** What it is about, such as `top_up`. */
  readonly referenceType: string;
  readonly referenceId: Uuid | null;
  readonly lines: readonly Line[];
}

/** What became of a single transfer. */
export interface TransferResult {
  readonly id: Uuid;
  readonly outcome: 'POSTED' | 'REPLAYED' | 'CONFLICT' | 'UNKNOWN';
}

/** An account's money. */
export interface Balance {
  readonly accountId: Uuid;
  readonly tenantId: Uuid;
  readonly kind: AccountKind;
  readonly asset: string;
  /** Sum of the postings. */
  readonly posted: bigint;
  readonly held: bigint;
  readonly creditLimit: bigint;
  /** Below which creditLimit + posted the tenant is told that it runs low; 0 is never. */
  readonly alertBelow: bigint;
  /** creditLimit + posted − held. */
  readonly available: bigint;
}

/** Runs one prepared statement: on a connection inside of a transaction, or by itself. */
export type Run = <R extends QueryResultRow>(query: {
  readonly name: string;
  readonly text: string;
  readonly values: readonly unknown[];
}) => Promise<readonly R[]>;

/** What the ledger works with. */
export interface LedgerDeps {
  readonly database: Pick<Database, 'querySystem' | 'withSystemPg' | 'withTenantPg'>;
  readonly clock: Clock;
}

/**
 * Words of this domain.
 *
 * - instance: one API process, alive as long as it renews its lease and nobody has fenced it.
 * - admission: the row written before the first token; it exists exactly as long as the request is unsettled.
 * - progress: how many completion tokens of a request may be delivered, the commitment to them, and how many of its
 *   prompt's tokens were not computed again.
 * - settlement: the one transaction that turns an admission into a usage record.
 * - void: the one transaction that removes an admission that never ran; nothing is metered.
 * - recovery: settlement by another process, from the last progress of an instance that was fenced.
 */
import type { PoolClient } from 'pg';
import type { Json } from '../db/idempotency.ts';
import type { AdapterUse, FinishReason } from '../engine/port.ts';
import type { BudgetRefusal, FundsRefusal } from '../kernel/budget.ts';
import type { ErrorCode } from '../kernel/codes.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { Fraction } from '../kernel/money.ts';
import type { PriorityClass } from '../kernel/priority.ts';
import type { QuotaRefusal } from '../kernel/quota.ts';
import type { Credit } from '../ledger/types.ts';

/** One adapter version that a request runs on, and its exact share of the request. */
export interface AdmittedAdapter {
  readonly versionId: Uuid;
  readonly adapterId: Uuid;
  readonly ownerTenantId: Uuid;
  /** Content digest, lower-case hex SHA-256. */
  readonly digest: string;
  readonly weight: number;
  /** |weight| over the sum of |weights| as an exact fraction; one blend's fractions share a denominator. */
  readonly shareNumerator: bigint;
  readonly shareDenominator: bigint;
}

/** A caller's idempotency key, and what it is bound to. Neither the key nor the request is stored readably. */
export interface IdempotencyClaim {
  /** SHA-256 of the caller's key. */
  readonly keyHash: Buffer;
  /** Random salt of the request hash, because prompts are guessable. */
  readonly salt: Buffer;
  /** SHA-256 of the salt and the canonical request. */
  readonly requestHash: Buffer;
}

/** A hold on a customer's account. */
export interface HoldRef {
  /** Of the transfer that holds. */
  readonly id: Uuid;
  readonly accountId: Uuid;
}

/** What a request may cost at most, pinned before it is admitted. Amounts are nano-units. */
export interface AdmissionCharge {
  readonly currency: string;
  readonly amount: bigint;
  /** What of it each adapter may cost, by the adapter's id. */
  readonly adapters: ReadonlyMap<Uuid, bigint>;
  /** What reserves the amount; null when the request can cost nothing. */
  readonly hold: HoldRef | null;
  /** Everything that the price follows from, for whoever settles the request. */
  readonly pricing: Json;
}

/** One part of what a request cost: an adapter version of it, or the plain backbone. Amounts are nano-units. */
export interface ChargePart {
  readonly adapter: {
    readonly versionId: Uuid;
    readonly adapterId: Uuid;
    readonly ownerTenantId: Uuid;
    readonly rank: number;
  } | null;
  readonly share: Fraction;
  readonly priceVersion: Uuid;
  readonly royaltyVersion: Uuid | null;
  readonly splitVersion: Uuid | null;
  readonly inputTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
  readonly input: bigint;
  readonly cached: bigint;
  readonly output: bigint;
  readonly rank: bigint;
  readonly royalty: bigint;
  /** The platform's part of the royalty. */
  readonly fee: bigint;
}

/** What a request cost, and who gets it. */
export interface Charge {
  readonly currency: string;
  /** The sum of the parts, and of the credits. */
  readonly amount: bigint;
  readonly parts: readonly ChargePart[];
  readonly credits: readonly Credit[];
}

/** What is written about a request before its first token. */
export interface Admission {
  readonly requestId: Uuid;
  readonly tenantId: Uuid;
  readonly keyId: Uuid;
  readonly idempotency: IdempotencyClaim | null;
  /** Lower-case hex SHA-256. */
  readonly backboneDigest: string;
  readonly adapters: readonly AdmittedAdapter[];
  readonly priority: PriorityClass;
  readonly promptTokens: number;
  readonly maxTokens: number;
  /** Salt of both commitments; erasing it erases what they can prove about a person. */
  readonly salt: Buffer;
  readonly promptCommitment: Buffer;
  /** Commitment to the empty output: what recovery records when nothing was delivered. */
  readonly emptyOutputCommitment: Buffer;
  readonly charge: AdmissionCharge;
}

/** Why an admission was refused. */
export type Refusal =
  | ({ readonly what: 'quota' } & QuotaRefusal)
  | ({ readonly what: 'budget' } & BudgetRefusal)
  | ({ readonly what: 'funds' } & FundsRefusal);

/** The outcome of an admission. */
export type AdmitOutcome =
  | { readonly kind: 'admitted'; readonly instanceId: Uuid }
  /** Another request holds the idempotency key. */
  | { readonly kind: 'duplicate' }
  /** A quota or a budget of the tenant is used up, or its funds are; nothing is written. */
  | { readonly kind: 'refused'; readonly refusal: Refusal };

/** Everything up to and including `completionTokens` may be delivered once this is committed. */
export interface Progress {
  readonly requestId: Uuid;
  readonly instanceId: Uuid;
  /** Cumulative since the start of the request. */
  readonly completionTokens: number;
  /** Of the prompt's tokens, those that were not computed: what recovery prices as cached. */
  readonly cachedPromptTokens: number;
  readonly outputCommitment: Buffer;
}

/**
 * What the engine counted of a request, apart from what was metered. Every token of it was metered or dropped, so that
 * completion tokens and dropped ones add up to the engine's.
 */
export interface EngineCount {
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Tokens that came from the engine and were never to be delivered. */
  readonly droppedTokens: number;
}

/**
 * The final numbers of a request. Durations are microseconds, and null where only a process that was lost measured
 * them.
 */
export interface Settlement {
  readonly requestId: Uuid;
  readonly instanceId: Uuid;
  readonly promptTokens: number;
  readonly cachedPromptTokens: number;
  readonly completionTokens: number;
  readonly outputCommitment: Buffer;
  readonly queueUs: number | null;
  readonly prefillUs: number | null;
  readonly decodeUs: number | null;
  readonly computeUs: number | null;
  readonly bytesLoaded: number | null;
  readonly finishReason: FinishReason;
  readonly errorCode: ErrorCode | null;
  readonly settledBy: 'engine' | 'recovery';
  /** Null where the engine did not tell. */
  readonly engineCount: EngineCount | null;
  /** The adapters and weights that the engine's steps ran with; null where none ran, or nobody is left to say. */
  readonly executed: readonly AdapterUse[] | null;
  /** Null for a request that was admitted before there were prices. */
  readonly charge: Charge | null;
  /** What the charge is captured from, and the id that the capture gets; null when nothing was held. */
  readonly capture: { readonly id: Uuid; readonly hold: HoldRef } | null;
}

/**
 * Told of settlements in the transaction that wrote them, after everything else of it: what it writes is there exactly
 * when they are.
 */
export interface SettlementWitness {
  settled(client: PoolClient, lane: number, settlements: readonly Settlement[]): Promise<void>;
}

/** Takes back an admission that never ran. */
export interface Withdrawal {
  readonly requestId: Uuid;
  readonly hold: HoldRef | null;
  /** The id that the release of the hold gets. */
  readonly releaseId: Uuid;
}

/** What a stored idempotency key is bound to. */
export interface IdempotencyRecord {
  readonly requestId: Uuid;
  readonly salt: Buffer;
  readonly requestHash: Buffer;
  /** Null while the request runs. */
  readonly outcome: SettledOutcome | null;
}

/** How a settled request ended: what a retry with the same idempotency key is told. */
export interface SettledOutcome {
  readonly requestId: Uuid;
  readonly promptTokens: number;
  readonly cachedPromptTokens: number;
  readonly completionTokens: number;
  readonly finishReason: FinishReason;
  readonly errorCode: string | null;
  readonly settledBy: 'engine' | 'recovery';
}

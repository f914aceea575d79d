/**
 * Words of this domain.
 *
 * - instance: one API process, alive as long as it renews its lease and nobody has fenced it.
 * - admission: the row written before the first token; it exists exactly as long as the request is unsettled.
 * - progress: how many completion tokens of a request may be delivered, and the commitment to them.
 * - settlement: the one transaction that turns an admission into a usage record.
 * - void: the one transaction that removes an admission that never ran; nothing is metered.
 * - recovery: settlement by another process, from the last progress of an instance that was fenced.
 */
import type { FinishReason } from '../engine/port.ts';
import type { ErrorCode } from '../kernel/codes.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { PriorityClass } from '../kernel/priority.ts';
import type { QuotaRefusal } from '../kernel/quota.ts';

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
}

/** The outcome of an admission. */
export type AdmitOutcome =
  | { readonly kind: 'admitted'; readonly instanceId: Uuid }
  /** Another request holds the idempotency key. */
  | { readonly kind: 'duplicate' }
  /** A quota of the tenant is used up; nothing is written. */
  | { readonly kind: 'refused'; readonly refusal: QuotaRefusal };

/** Everything up to and including `completionTokens` may be delivered once this is committed. */
export interface Progress {
  readonly requestId: Uuid;
  readonly instanceId: Uuid;
  /** Cumulative since the start of the request. */
  readonly completionTokens: number;
  readonly outputCommitment: Buffer;
}

/** The final numbers of a request, as the process that ran it knows them. Durations are microseconds. */
export interface Settlement {
  readonly requestId: Uuid;
  readonly instanceId: Uuid;
  readonly promptTokens: number;
  readonly cachedPromptTokens: number;
  readonly completionTokens: number;
  readonly outputCommitment: Buffer;
  readonly queueUs: number;
  readonly prefillUs: number;
  readonly decodeUs: number;
  readonly computeUs: number;
  readonly bytesLoaded: number;
  readonly finishReason: FinishReason;
  readonly errorCode: ErrorCode | null;
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

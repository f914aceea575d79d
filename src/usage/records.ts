import type { FinishReason } from '../engine/port.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { PriorityClass } from '../kernel/priority.ts';

/** One adapter version of a settled request. */
export interface UsedAdapter {
  readonly versionId: Uuid;
  readonly adapterId: Uuid;
  readonly digest: string;
  readonly weight: number;
  /** Exact share of the request: numerator / denominator. */
  readonly shareNumerator: bigint;
  readonly shareDenominator: bigint;
}

/** What one request used. Times that a lost process took with it are null. */
export interface UsageRecord {
  readonly requestId: Uuid;
  readonly tenantId: Uuid;
  readonly keyId: Uuid;
  readonly backboneDigest: string;
  readonly adapters: readonly UsedAdapter[];
  readonly priority: PriorityClass;
  readonly promptTokens: number;
  readonly cachedPromptTokens: number;
  readonly completionTokens: number;
  readonly queueMs: number | null;
  readonly prefillMs: number | null;
  readonly decodeMs: number | null;
  readonly computeMs: number | null;
  readonly bytesLoaded: bigint | null;
  readonly finishReason: FinishReason;
  readonly errorCode: string | null;
  readonly admittedAt: Date;
  readonly firstTokenAt: Date | null;
  readonly endedAt: Date;
  readonly settledBy: 'engine' | 'recovery';
  readonly promptCommitment: string;
  readonly outputCommitment: string;
}

/** What an owner sees of a request on one of their adapter versions: what was used, and nothing of who asked. */
export interface OwnedShare {
  readonly requestId: Uuid;
  readonly versionId: Uuid;
  readonly adapterId: Uuid;
  readonly digest: string;
  readonly weight: number;
  readonly shareNumerator: bigint;
  readonly shareDenominator: bigint;
  readonly backboneDigest: string;
  readonly priority: PriorityClass;
  readonly promptTokens: number;
  readonly cachedPromptTokens: number;
  readonly completionTokens: number;
  readonly endedAt: Date;
}

/** Columns of a record, for {@link toUsageRecord}. */
export const RECORD_COLUMNS = `
  u.id, u.tenant_id, u.key_id, u.backbone_digest, u.priority_class, u.prompt_tokens, u.cached_prompt_tokens,
  u.completion_tokens, u.queue_us, u.prefill_us, u.decode_us, u.compute_us, u.bytes_loaded, u.finish_reason,
  u.error_code, u.admitted_at, u.first_token_at, u.ended_at, u.settled_by, u.prompt_commitment, u.output_commitment`;

/** Columns of a share, for {@link toUsedAdapter} and {@link toOwnedShare}. */
export const SHARE_COLUMNS = `
  s.request_id, s.adapter_version_id, s.adapter_id, s.adapter_digest, s.weight, s.share_numerator,
  s.share_denominator, s.backbone_digest, s.priority_class, s.prompt_tokens, s.cached_prompt_tokens,
  s.completion_tokens, s.ended_at`;

/** A row of usage_record as the driver gives it: 64-bit integers as text. */
export interface RecordRow {
  readonly id: Uuid;
  readonly tenant_id: Uuid;
  readonly key_id: Uuid;
  readonly backbone_digest: Buffer;
  readonly priority_class: PriorityClass;
  readonly prompt_tokens: number;
  readonly cached_prompt_tokens: number;
  readonly completion_tokens: number;
  readonly queue_us: string | null;
  readonly prefill_us: string | null;
  readonly decode_us: string | null;
  readonly compute_us: string | null;
  readonly bytes_loaded: string | null;
  readonly finish_reason: FinishReason;
  readonly error_code: string | null;
  readonly admitted_at: Date;
  readonly first_token_at: Date | null;
  readonly ended_at: Date;
  readonly settled_by: 'engine' | 'recovery';
  readonly prompt_commitment: Buffer;
  readonly output_commitment: Buffer;
}

/** A row of usage_share as the driver gives it. */
export interface ShareRow {
  readonly request_id: Uuid;
  readonly adapter_version_id: Uuid;
  readonly adapter_id: Uuid;
  readonly adapter_digest: Buffer;
  readonly weight: number;
  readonly share_numerator: string;
  readonly share_denominator: string;
  readonly backbone_digest: Buffer;
  readonly priority_class: PriorityClass;
  readonly prompt_tokens: number;
  readonly cached_prompt_tokens: number;
  readonly completion_tokens: number;
  readonly ended_at: Date;
}

export function toUsageRecord(row: RecordRow, shares: readonly ShareRow[]): UsageRecord {
  return {
    requestId: row.id,
    tenantId: row.tenant_id,
    keyId: row.key_id,
    backboneDigest: row.backbone_digest.toString('hex'),
    adapters: shares.map(toUsedAdapter),
    priority: row.priority_class,
    promptTokens: row.prompt_tokens,
    cachedPromptTokens: row.cached_prompt_tokens,
    completionTokens: row.completion_tokens,
    queueMs: milliseconds(row.queue_us),
    prefillMs: milliseconds(row.prefill_us),
    decodeMs: milliseconds(row.decode_us),
    computeMs: milliseconds(row.compute_us),
    bytesLoaded: row.bytes_loaded === null ? null : BigInt(row.bytes_loaded),
    finishReason: row.finish_reason,
    errorCode: row.error_code,
    admittedAt: row.admitted_at,
    firstTokenAt: row.first_token_at,
    endedAt: row.ended_at,
    settledBy: row.settled_by,
    promptCommitment: row.prompt_commitment.toString('hex'),
    outputCommitment: row.output_commitment.toString('hex'),
  };
}

export function toUsedAdapter(row: ShareRow): UsedAdapter {
  return {
    versionId: row.adapter_version_id,
    adapterId: row.adapter_id,
    digest: row.adapter_digest.toString('hex'),
    weight: row.weight,
    shareNumerator: BigInt(row.share_numerator),
    shareDenominator: BigInt(row.share_denominator),
  };
}

export function toOwnedShare(row: ShareRow): OwnedShare {
  return {
    requestId: row.request_id,
    ...toUsedAdapter(row),
    backboneDigest: row.backbone_digest.toString('hex'),
    priority: row.priority_class,
    promptTokens: row.prompt_tokens,
    cachedPromptTokens: row.cached_prompt_tokens,
    completionTokens: row.completion_tokens,
    endedAt: row.ended_at,
  };
}

function milliseconds(microseconds: string | null): number | null {
  return microseconds === null ? null : Number(microseconds) / 1_000;
}

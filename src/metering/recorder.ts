import { AS_TENANT, type Database } from '../db/client.ts';
import type { FinishReason } from '../engine/port.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { NO_QUOTAS, type QuotaLimits } from '../kernel/quota.ts';
import { isStatementTimeout, isTransientDatabaseError } from './db-errors.ts';
import { type GroupCommitOptions, GroupCommitter, type Patience } from './group-commit.ts';
import type { Lease, ReservedDatabase } from './lease.ts';
import { pause } from './periodic.ts';
import {
  isProgressAlone,
  type MeteringItem,
  type MeteringResult,
  writeProgress,
  writeRound,
} from './round.ts';
import type {
  Admission,
  AdmitOutcome,
  HoldRef,
  IdempotencyRecord,
  Progress,
  Settlement,
  SettlementWitness,
} from './types.ts';

/** Bounds of the recorder. */
export interface RecorderOptions extends GroupCommitOptions {
  /** How long a caller waits for the database before it is told `DATABASE_UNAVAILABLE`. */
  readonly patienceMs: number;
  /** Limits of tenants for whom the operator has set none. */
  readonly quotas: QuotaLimits;
}

/** Bounds that suit a server; tests override them. */
export const RECORDER_DEFAULTS: RecorderOptions = {
  queueMax: 10_000,
  batchMax: 500,
  backoffMsMin: 10,
  backoffMsMax: 1_000,
  patienceMs: 10_000,
  quotas: NO_QUOTAS,
};

/** The recorder's ways into the database: it writes on connections of its own and reads as the tenant. */
export type RecorderDatabase = ReservedDatabase & Pick<Database, 'queryApp'>;

/** What the recorder works with. */
export interface RecorderDeps {
  readonly database: RecorderDatabase;
  readonly lease: Lease;
  readonly clock: Clock;
  readonly witness?: SettlementWitness | null;
  /** Told of what the database refuses for no reason that the caller is to know. */
  readonly onBackgroundError?: (task: string, error: unknown) => void;
}

interface IdempotencyRow {
  readonly request_id: Uuid;
  readonly salt: Buffer;
  readonly request_hash: Buffer;
  /** Null, like all that follows, while the request runs. */
  readonly prompt_tokens: number | null;
  readonly cached_prompt_tokens: number | null;
  readonly completion_tokens: number | null;
  readonly finish_reason: FinishReason | null;
  readonly error_code: string | null;
  readonly settled_by: 'engine' | 'recovery' | null;
}

const FIND_INFERENCE = `SELECT f.* FROM ${AS_TENANT} t CROSS JOIN LATERAL patchbay.find_inference(t.tenant, $2) f`;

/**
 * Writes the life of requests: admitted, progressing, settled or voided. All of it goes through one group committer,
 * so that everything that happens during one transaction costs one more transaction.
 */
export class MeteringRecorder {
  private readonly options: RecorderOptions;
  private readonly database: RecorderDatabase;
  private readonly lease: Lease;
  private readonly clock: Clock;
  private readonly onError: (task: string, error: unknown) => void;
  private readonly witness: SettlementWitness | null;
  private readonly committer: GroupCommitter<MeteringItem, MeteringResult>;

  constructor(options: RecorderOptions, deps: RecorderDeps) {
    this.options = options;
    this.database = deps.database;
    this.lease = deps.lease;
    this.clock = deps.clock;
    this.onError = deps.onBackgroundError ?? (() => {});
    this.witness = deps.witness ?? null;
    this.committer = new GroupCommitter(options, {
      write: (items) => this.write(items),
      isTransient: isTransientDatabaseError,
      isTooMuch: isStatementTimeout,
      clock: deps.clock,
      pause,
    });
  }

  /** Things that wait to be written. */
  get depth(): number {
    return this.committer.depth;
  }

  /**
   * Writes the admission under this process's lease. After any rejection the admission is taken back as soon as the
   * database answers, because a broken connection may have committed it.
   */
  async admit(value: Admission): Promise<AdmitOutcome> {
    if (this.committer.full) {
      throw new PatchbayError('DATABASE_UNAVAILABLE', 'Too much waits for the database.', {
        meta: { queueMax: this.options.queueMax },
      });
    }
    const { instanceId } = await this.lease.ensure();
    try {
      const result = await this.submit({ kind: 'admit', instanceId, value }, 'drop');
      const { outcome } = result;
      if (outcome === 'refused') return { kind: 'refused', refusal: result.refusal };
      if (outcome === 'duplicate') return { kind: 'duplicate' };
      if (outcome !== 'written') throw leaseLost(value.requestId);
      return { kind: 'admitted', instanceId };
    } catch (error) {
      this.void(value, instanceId).catch(ignoreLateFailure);
      throw error;
    }
  }

  /** Commits that tokens may be delivered. Rejects with `LEASE_LOST` when another process owns the request now. */
  async progress(value: Progress): Promise<void> {
    const { outcome } = await this.submit({ kind: 'progress', instanceId: value.instanceId, value }, 'drop');
    if (outcome !== 'written') throw leaseLost(value.requestId);
  }

  /**
   * Writes the usage record and everything derived from it. When the database is away for longer than the patience,
   * the caller is told so, and the settlement is written when it is back.
   */
  async settle(value: Settlement): Promise<void> {
    const { outcome } = await this.submit({ kind: 'settle', instanceId: value.instanceId, value }, 'keep');
    if (outcome !== 'written') throw leaseLost(value.requestId);
  }

  /** Removes an admission that never ran: nothing is metered or held, and its idempotency key is free again. */
  async void(
    { requestId, charge }: { readonly requestId: Uuid; readonly charge: { readonly hold: HoldRef | null } },
    instanceId: Uuid,
  ): Promise<void> {
    const value = { requestId, hold: charge.hold, releaseId: newId(this.clock) };
    await this.submit({ kind: 'void', instanceId, value }, 'keep');
  }

  /** What an idempotency key of a tenant stands for, read as the tenant; null for a key that is free. */
  async findIdempotency(tenantId: Uuid, keyHash: Buffer): Promise<IdempotencyRecord | null> {
    const [row] = await this.database.queryApp<IdempotencyRow>(FIND_INFERENCE, [tenantId, keyHash]);
    if (row === undefined) return null;
    const { request_id: requestId, finish_reason: finishReason, settled_by: settledBy } = row;
    const settled = finishReason !== null && settledBy !== null;
    return {
      requestId,
      salt: row.salt,
      requestHash: row.request_hash,
      outcome: settled
        ? {
            requestId,
            promptTokens: row.prompt_tokens ?? 0,
            cachedPromptTokens: row.cached_prompt_tokens ?? 0,
            completionTokens: row.completion_tokens ?? 0,
            finishReason,
            errorCode: row.error_code,
            settledBy,
          }
        : null,
    };
  }

  /** Resolves when everything that waits is written. */
  flush(): Promise<void> {
    return this.committer.flush();
  }

  /** Tries once more to write what waits, and refuses what comes after. */
  close(): Promise<void> {
    return this.committer.close();
  }

  private async write(items: readonly MeteringItem[]): Promise<readonly MeteringResult[]> {
    const shard = this.lease.current?.shard ?? 0;
    const { quotas } = this.options;
    const { witness } = this;
    const results = isProgressAlone(items)
      ? await writeProgress(this.database, items)
      : await this.database.withReservedPg((client) => writeRound(client, { shard, quotas, witness }, items));
    for (const [index, result] of results.entries()) {
      const item = items[index];
      if (result.outcome === 'fenced' && item !== undefined) this.lease.fenced(item.instanceId);
    }
    return results;
  }

  private async submit(item: MeteringItem, afterwards: Patience['afterwards']): Promise<MeteringResult> {
    try {
      return await this.committer.submit(item, { patienceMs: this.options.patienceMs, afterwards });
    } catch (error) {
      // Callers are told INTERNAL, which helps nobody who has to mend it.
      if (!(error instanceof PatchbayError)) this.onError(`write ${item.kind}`, error);
      throw error;
    }
  }
}

/** The error of a caller whose request another process has taken. */
export function leaseLost(requestId: Uuid): PatchbayError {
  return new PatchbayError('LEASE_LOST', 'This process lost the lease of the request.', {
    meta: { requestId },
  });
}

/** A kept item goes on waiting after its submitter was told; there is nobody left to tell more. */
function ignoreLateFailure(): void {}

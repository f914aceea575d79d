import type { FinishReason } from '../engine/port.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { isTransientDatabaseError } from './db-errors.ts';
import { type GroupCommitOptions, GroupCommitter, type Patience } from './group-commit.ts';
import type { Lease, SystemDatabase } from './lease.ts';
import { pause } from './periodic.ts';
import { type MeteringItem, type MeteringResult, writeRound } from './round.ts';
import type {
  Admission,
  AdmitOutcome,
  IdempotencyRecord,
  Progress,
  SettledOutcome,
  Settlement,
} from './types.ts';

/** Bounds of the recorder. */
export interface RecorderOptions extends GroupCommitOptions {
  /** How long a caller waits for the database before it is told `DATABASE_UNAVAILABLE`. */
  readonly patienceMs: number;
}

/** Bounds that suit a server; tests override them. */
export const RECORDER_DEFAULTS: RecorderOptions = {
  queueMax: 10_000,
  batchMax: 500,
  backoffMsMin: 10,
  backoffMsMax: 1_000,
  patienceMs: 10_000,
};

/** What the recorder works with. */
export interface RecorderDeps {
  readonly database: SystemDatabase;
  readonly lease: Lease;
  readonly clock: Clock;
}

interface IdempotencyRow {
  readonly request_id: Uuid;
  readonly salt: Buffer;
  readonly request_hash: Buffer;
}

interface OutcomeRow {
  readonly id: Uuid;
  readonly prompt_tokens: number;
  readonly cached_prompt_tokens: number;
  readonly completion_tokens: number;
  readonly finish_reason: FinishReason;
  readonly error_code: string | null;
  readonly settled_by: 'engine' | 'recovery';
}

/**
 * Writes the life of requests: admitted, progressing, settled or voided. All of it goes through one group committer,
 * so that everything that happens during one transaction costs one more transaction.
 */
export class MeteringRecorder {
  private readonly options: RecorderOptions;
  private readonly database: SystemDatabase;
  private readonly lease: Lease;
  private readonly committer: GroupCommitter<MeteringItem, MeteringResult>;

  constructor(options: RecorderOptions, deps: RecorderDeps) {
    this.options = options;
    this.database = deps.database;
    this.lease = deps.lease;
    this.committer = new GroupCommitter(options, {
      write: (items) => this.write(items),
      isTransient: isTransientDatabaseError,
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
      const { outcome } = await this.submit({ kind: 'admit', instanceId, value }, 'drop');
      if (outcome === 'duplicate') return { kind: 'duplicate' };
      if (outcome !== 'written') throw leaseLost(value.requestId);
      return { kind: 'admitted', instanceId };
    } catch (error) {
      this.void(value.requestId, instanceId).catch(ignoreLateFailure);
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

  /** Removes an admission that never ran: nothing is metered, and its idempotency key is free again. */
  async void(requestId: Uuid, instanceId: Uuid): Promise<void> {
    await this.submit({ kind: 'void', instanceId, value: { requestId } }, 'keep');
  }

  /** What an idempotency key of a tenant stands for. */
  async findIdempotency(tenantId: Uuid, keyHash: Buffer): Promise<IdempotencyRecord | null> {
    const found = await this.read<IdempotencyRow>(
      'SELECT request_id, salt, request_hash FROM inference_idempotency WHERE tenant_id = $1 AND key_hash = $2',
      [tenantId, keyHash],
    );
    return found === null
      ? null
      : { requestId: found.request_id, salt: found.salt, requestHash: found.request_hash };
  }

  /** How a request of a tenant ended, or null while it runs. */
  async findOutcome(tenantId: Uuid, requestId: Uuid): Promise<SettledOutcome | null> {
    const found = await this.read<OutcomeRow>(
      `SELECT id, prompt_tokens, cached_prompt_tokens, completion_tokens, finish_reason, error_code, settled_by
       FROM usage_record WHERE id = $1 AND tenant_id = $2`,
      [requestId, tenantId],
    );
    if (found === null) return null;
    return {
      requestId: found.id,
      promptTokens: found.prompt_tokens,
      cachedPromptTokens: found.cached_prompt_tokens,
      completionTokens: found.completion_tokens,
      finishReason: found.finish_reason,
      errorCode: found.error_code,
      settledBy: found.settled_by,
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
    const results = await this.database.withSystemPg((client) => writeRound(client, shard, items));
    for (const [index, result] of results.entries()) {
      const item = items[index];
      if (result.outcome === 'fenced' && item !== undefined) this.lease.fenced(item.instanceId);
    }
    return results;
  }

  private submit(item: MeteringItem, afterwards: Patience['afterwards']): Promise<MeteringResult> {
    return this.committer.submit(item, { patienceMs: this.options.patienceMs, afterwards });
  }

  private async read<Row extends object>(text: string, values: readonly unknown[]): Promise<Row | null> {
    return (await this.database.querySystem<Row>(text, values))[0] ?? null;
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

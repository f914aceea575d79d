import type { Uuid } from '../kernel/ids.ts';
import { NO_QUOTAS } from '../kernel/quota.ts';
import { isStatementTimeout, isTransientDatabaseError } from './db-errors.ts';
import type { Lease, SystemDatabase } from './lease.ts';
import { chargeQuotas, type QuotaRefundRow } from './quota.ts';
import { FIND_LOST, RECOVER } from './statements.ts';

/** Most requests that one recovery transaction settles. */
export const RECOVERY_BATCH_MAX = 200;

/** How long the row of a fenced instance without requests is kept for operators to look at. */
const FENCED_INSTANCE_KEPT_DAYS = 30;

/** A request that was settled in place of the process that lost it. */
export interface RecoveredRequest {
  readonly requestId: Uuid;
  readonly tenantId: Uuid;
  readonly promptTokens: number;
  readonly completionTokens: number;
}

/** What one recovery did. */
export interface Recovery {
  /** Instances whose lease had run out and that this call fenced. */
  readonly fenced: readonly Uuid[];
  readonly settled: readonly RecoveredRequest[];
  /** Requests that could not be settled, each tried alone; the next recovery tries them again. */
  readonly failed: readonly FailedRecovery[];
}

/** A request that recovery could not settle. */
export interface FailedRecovery {
  readonly requestId: Uuid;
  readonly error: unknown;
}

interface RecoveredRow extends QuotaRefundRow {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
}

/** Waits for transactions that hold the row's share lock; one that renewed the lease meanwhile keeps it. */
const FENCE = `
UPDATE instance SET fenced_at = now(), fence_reason = 'expired'
WHERE fenced_at IS NULL AND lease_expires_at < now() AND id IS DISTINCT FROM $1::uuid
RETURNING id`;

/** How long a request's idempotency key keeps a retry from running again. */
export const IDEMPOTENCY_KEPT_DAYS = 30;

const FORGET_KEYS = `
DELETE FROM inference_idempotency i
WHERE i.created_at < now() - make_interval(days => $1)
  AND NOT EXISTS (SELECT FROM inference_request r WHERE r.id = i.request_id)`;

const FORGET = `
DELETE FROM instance i
WHERE fenced_at < now() - make_interval(days => $1)
  AND NOT EXISTS (SELECT FROM inference_request q WHERE q.instance_id = i.id)`;

/**
 * Settles what dead processes left. First their instances are fenced, and that is committed: from then on nothing of
 * theirs can move, whatever they do when they wake up. Then their requests are settled from the last committed
 * progress, batch by batch; a sweeper that dies between batches leaves the rest to the next one. Any number of
 * sweepers may run at once.
 */
export class Sweeper {
  private readonly database: SystemDatabase;
  private readonly lease: Lease;

  constructor(deps: { readonly database: SystemDatabase; readonly lease: Lease }) {
    this.database = deps.database;
    this.lease = deps.lease;
  }

  /** Fences every expired instance but this one, and settles the requests of all fenced instances. */
  async recoverExpired(): Promise<Recovery> {
    const own = this.lease.current?.instanceId ?? null;
    const fenced = await this.database.querySystem<{ readonly id: Uuid }>(FENCE, [own]);
    return { ...(await this.recoverFenced()), fenced: fenced.map((row) => row.id) };
  }

  /** Settles the requests of instances that are fenced already, batch by batch. */
  async recoverFenced(): Promise<Recovery> {
    const settled: RecoveredRequest[] = [];
    const failed: FailedRecovery[] = [];
    let after: Uuid | null = null;
    for (;;) {
      const values: readonly unknown[] = [after, RECOVERY_BATCH_MAX];
      const found = await this.database.querySystem<{ readonly id: Uuid }>(FIND_LOST, values);
      const requestIds = found.map((row) => row.id);
      await this.settle(requestIds, settled, failed);
      after = requestIds.at(-1) ?? null;
      if (requestIds.length < RECOVERY_BATCH_MAX) return { fenced: [], settled, failed };
    }
  }

  /** Settles a batch; halves it when it fails, so that a request that cannot be settled keeps no other from it. */
  private async settle(
    requestIds: readonly Uuid[],
    settled: RecoveredRequest[],
    failed: FailedRecovery[],
  ): Promise<void> {
    const [requestId] = requestIds;
    if (requestId === undefined) return;
    try {
      const values = [requestIds, this.lease.current?.shard ?? 0];
      // In a transaction, because a failure is then known only after its rollback. Postgres reports the error of a lone
      // statement before it gives the locks up, and the halves would skip rows that the whole still held.
      const { rows } = await this.database.withSystemPg(async (client) => {
        const recovered = await client.query<RecoveredRow>(RECOVER, values);
        // Nothing is charged here, so no limit is looked at.
        await chargeQuotas(client, [], recovered.rows, NO_QUOTAS);
        return recovered;
      });
      settled.push(...rows.map(toRecovered));
    } catch (error) {
      if (isTransientDatabaseError(error) && !isStatementTimeout(error)) throw error;
      if (requestIds.length === 1) {
        failed.push({ requestId, error });
        return;
      }
      const middle = requestIds.length >> 1;
      await this.settle(requestIds.slice(0, middle), settled, failed);
      await this.settle(requestIds.slice(middle), settled, failed);
    }
  }

  /** Removes rows of instances that ended long ago and left nothing. */
  async forgetOldInstances(): Promise<void> {
    await this.database.querySystem(FORGET, [FENCED_INSTANCE_KEPT_DAYS]);
  }

  /** Forgets idempotency keys of requests that ended long ago: a retry after that is a new request. */
  async forgetOldKeys(): Promise<void> {
    await this.database.querySystem(FORGET_KEYS, [IDEMPOTENCY_KEPT_DAYS]);
  }
}

function toRecovered(row: RecoveredRow): RecoveredRequest {
  return {
    requestId: row.id,
    tenantId: row.tenant_id,
    promptTokens: row.prompt_tokens,
    completionTokens: row.completion_tokens,
  };
}

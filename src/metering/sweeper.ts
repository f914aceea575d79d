import type { Clock } from '../kernel/clock.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { NO_QUOTAS } from '../kernel/quota.ts';
import { isStatementTimeout, isTransientDatabaseError } from './db-errors.ts';
import type { Lease, SystemDatabase } from './lease.ts';
import { lockHolds, moveMoney } from './money.ts';
import { settle } from './round.ts';
import { FIND_LOST, PICK_LOST } from './statements.ts';
import type { Charge, Settlement, SettlementWitness } from './types.ts';

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

/**
 * What a request costs by the pricing that was kept with its admission, and the account of who pays; both null for an
 * admission of before there were prices.
 */
export type Recharge = (
  pricing: unknown,
  counts: {
    readonly promptTokens: number;
    readonly cachedPromptTokens: number;
    readonly completionTokens: number;
  },
) => { readonly charge: Charge | null; readonly customer: Uuid | null };

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

/** What the statement that picks lost requests answers. */
export interface LostRow {
  readonly id: Uuid;
  readonly tenant_id: Uuid;
  readonly instance_id: Uuid;
  readonly prompt_tokens: number;
  readonly hold_id: Uuid | null;
  /** As the admission was given it; null for one of before there were prices. */
  readonly pricing: unknown;
  readonly completion_tokens: number;
  readonly cached_prompt_tokens: number;
  readonly output_commitment: Buffer;
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
  private readonly clock: Clock;
  private readonly recharge: Recharge;
  private readonly witness: SettlementWitness | null;

  constructor(deps: {
    readonly database: SystemDatabase;
    readonly lease: Lease;
    readonly clock: Clock;
    readonly recharge: Recharge;
    readonly witness?: SettlementWitness | null;
  }) {
    this.database = deps.database;
    this.lease = deps.lease;
    this.clock = deps.clock;
    this.recharge = deps.recharge;
    this.witness = deps.witness ?? null;
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
      // In a transaction, because a failure is then known only after its rollback. Postgres reports the error of a lone
      // statement before it gives the locks up, and the halves would skip rows that the whole still held.
      const rows = await this.database.withSystemPg(async (client) => {
        const { rows: lost } = await client.query<LostRow>(PICK_LOST, [requestIds]);
        const settlements = lost.map((row) => this.settlement(row));
        await lockHolds(
          client,
          settlements.map(({ capture }) => capture?.hold ?? null),
        );
        const shard = this.lease.current?.shard ?? 0;
        const { refunds } = await settle(client, shard, settlements);
        // Nothing is admitted here, so no limit is looked at.
        await moveMoney(
          client,
          { admitted: [], settled: settlements, withdrawn: [], refunds },
          NO_QUOTAS,
          async () => [],
        );
        await this.witness?.settled(client, shard, settlements);
        return lost.map((row, index) => toRecovered(row, settlements[index]));
      });
      settled.push(...rows);
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

  /**
   * What a lost request is settled with: its last committed progress. Times that only the dead process measured stay
   * null: unknown is not zero. The prompt is metered once a chunk was committed, which proves that it was processed.
   */
  private settlement(row: LostRow): Settlement {
    const completionTokens = row.completion_tokens;
    const promptTokens = completionTokens > 0 ? row.prompt_tokens : 0;
    const counts = {
      promptTokens,
      cachedPromptTokens: Math.min(promptTokens, row.cached_prompt_tokens),
      completionTokens,
    };
    const { charge, customer } = this.recharge(row.pricing, counts);
    return {
      requestId: row.id,
      instanceId: row.instance_id,
      ...counts,
      outputCommitment: row.output_commitment,
      queueUs: null,
      prefillUs: null,
      decodeUs: null,
      computeUs: null,
      bytesLoaded: null,
      finishReason: 'error',
      errorCode: 'SERVER_LOST',
      settledBy: 'recovery',
      engineCount: null,
      executed: null,
      charge,
      capture:
        row.hold_id === null || customer === null
          ? null
          : { id: newId(this.clock), hold: { id: row.hold_id, accountId: customer } },
    };
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

function toRecovered({ id, tenant_id }: LostRow, settlement: Settlement | undefined): RecoveredRequest {
  const { promptTokens = 0, completionTokens = 0 } = settlement ?? {};
  return { requestId: id, tenantId: tenant_id, promptTokens, completionTokens };
}

import { createHash, randomUUID } from 'node:crypto';
import { systemClock } from '../../../src/kernel/clock.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { NO_ADAPTER } from '../../../src/metering/statements.ts';
import type { TestDatabase } from '../../kit/postgres.ts';

export const digestOf = (name: string): string => createHash('sha256').update(name).digest('hex');

/** What one request, or several, used and paid. */
export interface SampleUse {
  readonly tenantId: Uuid;
  /** Null for the plain backbone. */
  readonly on: SampleVersion | null;
  readonly hour: Date;
  readonly requests?: number;
  readonly computeS?: number;
  readonly amount?: bigint;
  readonly earned?: bigint;
}

export interface SampleVersion {
  readonly adapterId: Uuid;
  readonly versionId: Uuid;
}

/** What was in memory. */
export interface SampleResidency {
  readonly digest: string;
  readonly hour: Date;
  readonly hostByteUs?: bigint;
  readonly bankByteUs?: bigint;
  readonly loads?: number;
  readonly loadUs?: number;
}

/** Writes tenants, adapters and hourly sums behind the back of the program. */
export function samples(db: TestDatabase) {
  const backboneId = randomUUID();
  const made = db.admin(
    `INSERT INTO backbone (id, name, digest, family, shape, created_at) VALUES ($1, 'b', $2, 'llama', '{}', now())`,
    [backboneId, digestOf(backboneId)],
  );
  return {
    async tenant(slug: string): Promise<Uuid> {
      const id = newId(systemClock);
      await db.admin(`INSERT INTO tenant (id, name, slug, created_at) VALUES ($1, $2, $2, now())`, [
        id,
        slug,
      ]);
      return id;
    },

    async adapter(tenantId: Uuid, name: string, digest: string): Promise<SampleVersion> {
      await made;
      const [adapterId, versionId] = [newId(systemClock), newId(systemClock)];
      await db.admin(
        `INSERT INTO adapter (id, tenant_id, name, last_number, created_at) VALUES ($1, $2, $3, 1, now())`,
        [adapterId, tenantId, name],
      );
      await db.admin(
        `INSERT INTO adapter_version (id, tenant_id, adapter_id, number, backbone_id, state, config_sha256,
           tensors_sha256, digest, rank_max, module_count, targets, parameters, bytes, created_at, ready_at)
         VALUES ($1, $2, $3, 1, $4, 'READY', $5, $5, $5, 16, 7, '{q_proj}', 10, 10, now(), now())`,
        [versionId, tenantId, adapterId, backboneId, digest],
      );
      return { adapterId, versionId };
    },

    /** As a settlement counts it: once for the tenant, and once for the adapter. */
    async use({ tenantId, on, hour, requests = 1, computeS = 0, amount = 0n, earned = 0n }: SampleUse) {
      const us = String(computeS * 1_000_000);
      for (const [kind, version, adapter] of [
        ['tenant', NO_ADAPTER, NO_ADAPTER],
        ['caller', on?.versionId ?? NO_ADAPTER, on?.adapterId ?? NO_ADAPTER],
      ]) {
        await db.admin(
          `INSERT INTO usage_rollup AS r (tenant_id, kind, adapter_version_id, adapter_id, bucket, shard, requests,
             prompt_tokens, cached_prompt_tokens, completion_tokens, compute_us, attributed_us, amount_nano,
             earned_nano)
           VALUES ($1, $2, $3, $4, $5, 0, $6, 0, 0, 0, $7, $7, $8, $9)
           ON CONFLICT (tenant_id, kind, adapter_version_id, bucket, shard) DO UPDATE SET
             requests = r.requests + excluded.requests, attributed_us = r.attributed_us + excluded.attributed_us,
             amount_nano = r.amount_nano + excluded.amount_nano,
             earned_nano = r.earned_nano + excluded.earned_nano`,
          [tenantId, kind, version, adapter, hour, requests, us, String(amount), String(earned)],
        );
      }
    },

    /** An engine that was there for the whole hour. */
    async engine(runId: Uuid, hour: Date, capacityBytes: bigint): Promise<void> {
      await db.admin('INSERT INTO engine_hour VALUES ($1, $2, $3, $4)', [
        runId,
        hour,
        '3600000000',
        String(capacityBytes * 3_600_000_000n),
      ]);
    },

    async held(runId: Uuid, { digest, hour, ...more }: SampleResidency): Promise<void> {
      const { hostByteUs = 0n, bankByteUs = 0n, loads = 0, loadUs = 0 } = more;
      await db.admin('INSERT INTO adapter_residency VALUES ($1, $2, $3, $4, $5, $6, $7, $8)', [
        ...[runId, hour, digest, String(hostByteUs), String(bankByteUs), loads, loads * 10, loadUs],
      ]);
    },
  };
}

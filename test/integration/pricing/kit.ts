import { createHash, randomUUID } from 'node:crypto';
import { type Principal, SCOPES } from '../../../src/auth/principal.ts';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import type { Clock } from '../../../src/kernel/clock.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { PriceResolver } from '../../../src/pricing/resolver.ts';
import { type PriceSubject, PricingService } from '../../../src/pricing/service.ts';
import { SplitService } from '../../../src/pricing/splits.ts';
import type { PriceTerms } from '../../../src/pricing/terms.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { terms } from '../../unit/pricing/sample.ts';

/** A clock that stands until it is moved. */
export class ManualClock implements Clock {
  #ms = Date.UTC(2028, 0, 1);
  nowMs(): number {
    return this.#ms;
  }
  monotonicMs(): number {
    return this.#ms;
  }
  advance(ms: number): void {
    this.#ms += ms;
  }
  set(ms: number): void {
    this.#ms = ms;
  }
}

const sha = (text: string): string => createHash('sha256').update(text).digest('hex');

/** Somebody with every scope. */
export const actorOf = (tenantId: Uuid, scopes: readonly string[] = SCOPES): Principal => ({
  kind: tenantId === PLATFORM_TENANT_ID ? 'OPERATOR' : 'TENANT',
  tenantId,
  keyId: randomUUID(),
  scopes,
});

export const OPERATOR = actorOf(PLATFORM_TENANT_ID);

/** An adapter with one version that is ready, written behind the registry's back. */
export interface SampleAdapter {
  readonly adapterId: Uuid;
  readonly versionId: Uuid;
  readonly subject: PriceSubject;
}

/** The services of pricing on a real database and a clock that a test moves. */
export async function openPricing(existing?: TestDatabase) {
  const db = existing ?? (await createTestDatabase());
  const clock = new ManualClock();
  const deps = { database: db.database, clock };
  const kit = {
    db,
    clock,
    pricing: new PricingService(deps),
    splits: new SplitService(deps),
    resolver: new PriceResolver(deps),

    async tenant(): Promise<Uuid> {
      const id = newId(clock);
      await db.admin('INSERT INTO tenant (id, name, slug, created_at) VALUES ($1, $2, $3, now())', [
        id,
        'A tenant',
        `t-${id}`,
      ]);
      return id;
    },

    /** The digest of a new backbone without a price. */
    async backbone(): Promise<string> {
      const digest = sha(randomUUID());
      await db.admin(
        `INSERT INTO backbone (id, name, digest, family, shape, created_at) VALUES ($1, 'b', $2, 'llama', '{}', now())`,
        [randomUUID(), digest],
      );
      return digest;
    },

    async adapter(
      tenantId: Uuid,
      backboneDigest: string,
      visibility: 'PRIVATE' | 'PUBLIC' = 'PUBLIC',
    ): Promise<SampleAdapter> {
      const adapterId = newId(clock);
      await db.admin(
        `INSERT INTO adapter (id, tenant_id, name, visibility, last_number, created_at)
         VALUES ($1, $2, $3, $4::adapter_visibility, 1, now())`,
        [adapterId, tenantId, `a-${adapterId}`, visibility],
      );
      const versionId = await kit.version(tenantId, adapterId, backboneDigest, 1);
      return { adapterId, versionId, subject: { kind: 'ADAPTER', adapterId } };
    },

    async version(tenantId: Uuid, adapterId: Uuid, backboneDigest: string, number: number): Promise<Uuid> {
      const id = newId(clock);
      await db.admin(
        `INSERT INTO adapter_version (id, tenant_id, adapter_id, number, backbone_id, state, config_sha256,
           tensors_sha256, digest, rank_max, module_count, targets, parameters, bytes, created_at, ready_at)
         SELECT $1, $2, $3, $4, b.id, 'READY', $6, $6, $6, 16, 7, '{q_proj}', 10, 10, now(), now()
         FROM backbone b WHERE b.digest = $5`,
        [id, tenantId, adapterId, number, backboneDigest, sha(id)],
      );
      return id;
    },

    setPrice(subject: PriceSubject, more: Partial<PriceTerms> | null, effectiveFrom: Date | null = null) {
      const { versionId: _versionId, ...asked } = terms(more ?? {});
      return kit.pricing.setPrice(OPERATOR, {
        idempotencyKey: randomUUID(),
        subject,
        terms: more && asked,
        effectiveFrom,
      });
    },

    /** What the tenant would be priced with now, past every memory. */
    pin(tenantId: Uuid, backboneDigest: string, versionIds: readonly Uuid[] = []) {
      kit.resolver.forget();
      return kit.resolver.pin({
        tenantId,
        backboneDigest,
        adapters: versionIds.map((versionId) => ({
          versionId,
          shareNumerator: 1n,
          shareDenominator: BigInt(versionIds.length),
        })),
        priority: 'STANDARD',
      });
    },
  };
  return kit;
}

export type PricingKit = Awaited<ReturnType<typeof openPricing>>;

/** The subject of a backbone's prices. */
export const ofBackbone = (backboneDigest: string): PriceSubject => ({ kind: 'BACKBONE', backboneDigest });

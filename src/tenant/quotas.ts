import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { type Actor, reaches, requireOperatorScope, requireScope } from '../auth/principal.ts';
import type { Database, Tx } from '../db/client.ts';
import type { Json } from '../db/idempotency.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { QUOTA_KINDS, type QuotaKind, type QuotaLimits } from '../kernel/quota.ts';
import { auditDenied, type RequestContext, recordAudit } from './audit.ts';

/** One limit of a tenant and how much of it is taken. */
export interface QuotaState {
  readonly kind: QuotaKind;
  /** Null is no limit. */
  readonly limit: number | null;
  /** Whether the installation's default holds, because the operator gave the tenant no limit of its own. */
  readonly isDefault: boolean;
  /** Null where nothing counts, because nothing is limited. */
  readonly used: number | null;
  /** How much more may be used now; null is no limit. */
  readonly left: number | null;
}

/** A limit to set. */
export interface QuotaChange {
  readonly kind: QuotaKind;
  /** Null for the installation's default, 0 for no limit. */
  readonly limit: number | null;
}

/** Names of the columns of tenant_quota, by kind. */
const FIELDS = {
  REQUESTS_PER_MINUTE: 'requestsPerMinute',
  PROMPT_TOKENS_PER_MINUTE: 'promptTokensPerMinute',
  COMPLETION_TOKENS_PER_MINUTE: 'completionTokensPerMinute',
  CONCURRENT_STREAMS: 'concurrentStreams',
  ADAPTERS: 'adapters',
  STORAGE_BYTES: 'storageBytes',
  UPLOADS_PER_HOUR: 'uploadsPerHour',
} as const satisfies Record<QuotaKind, string>;

const LIMIT_MAX = 999_999_999_999_999;
const usedRow = z.object({
  requests: z.bigint(),
  prompt_tokens: z.bigint(),
  completion_tokens: z.bigint(),
  streams: z.bigint(),
  adapters: z.bigint(),
  storage_bytes: z.bigint(),
  uploads: z.bigint(),
});

/** Limits of tenants: read by each tenant, set by operators, enforced where something is admitted. */
export class QuotaService {
  private readonly defaults: QuotaLimits;
  private readonly dependencies: { readonly database: Database; readonly clock: Clock };

  constructor(
    options: { readonly defaults: QuotaLimits },
    dependencies: { readonly database: Database; readonly clock: Clock },
  ) {
    this.defaults = options.defaults;
    this.dependencies = dependencies;
  }

  /** Every quota of a tenant with what is taken now; of the actor's own tenant when none is named. */
  async read(
    actor: Actor,
    tenantId: Uuid | null,
    context: RequestContext = {},
  ): Promise<readonly QuotaState[]> {
    const id = tenantId ?? actor.tenantId;
    const attempt = { actor, action: 'quota.read', targetType: 'tenant', targetId: id, context };
    await auditDenied(this.dependencies, attempt, () => requireScope(actor, 'usage:read'));
    if (!reaches(actor, id)) throw notFound();
    return this.dependencies.database.withTenant(id, (tx) => this.states(tx, id));
  }

  /** Sets limits of a tenant, and leaves those that are not named. For operators. */
  async set(
    actor: Actor,
    tenantId: Uuid,
    changes: readonly QuotaChange[],
    context: RequestContext = {},
  ): Promise<readonly QuotaState[]> {
    const { database, clock } = this.dependencies;
    const action = { actor, action: 'quota.set', targetType: 'tenant', targetId: tenantId, context };
    await auditDenied(this.dependencies, action, () => requireOperatorScope(actor, 'tenants:write'));
    for (const [index, { limit }] of changes.entries()) {
      if (limit === null || (Number.isSafeInteger(limit) && limit >= 0 && limit <= LIMIT_MAX)) continue;
      throw new PatchbayError('BAD_INPUT', `A limit is 0 to ${LIMIT_MAX}, or null.`, {
        field: `limits.${index}.limit`,
      });
    }
    const data = Object.fromEntries(
      changes.map(({ kind, limit }) => [FIELDS[kind], limit === null ? null : BigInt(limit)]),
    );
    await database.withSystem(async (tx) => {
      const isTenant = tenantId !== PLATFORM_TENANT_ID;
      if (!isTenant || (await tx.tenant.count({ where: { id: tenantId } })) === 0) throw notFound();
      const updatedAt = new Date(clock.nowMs());
      // Two changes of one tenant queue at its row, so that each records what it really replaced.
      await tx.$executeRaw`
        INSERT INTO tenant_quota (tenant_id, updated_at) VALUES (${tenantId}::uuid, ${updatedAt})
        ON CONFLICT (tenant_id) DO UPDATE SET updated_at = excluded.updated_at`;
      const before = limitsOf(await tx.tenantQuota.findUniqueOrThrow({ where: { tenantId } }), changes);
      const after = limitsOf(await tx.tenantQuota.update({ where: { tenantId }, data }), changes);
      if (isDeepStrictEqual(before, after)) return;
      await recordAudit(tx, clock, { ...action, tenantId, before, after });
    });
    return database.withTenant(tenantId, (tx) => this.states(tx, tenantId));
  }

  private async states(tx: Tx, tenantId: Uuid): Promise<readonly QuotaState[]> {
    const own = await tx.tenantQuota.findUnique({ where: { tenantId } });
    const used = await readUse(tx, tenantId, new Date(this.dependencies.clock.nowMs()));
    return QUOTA_KINDS.map((kind) => {
      const set = own?.[FIELDS[kind]] ?? null;
      const bound = set === null ? this.defaults[kind] : Number(set);
      const limit = bound === 0 ? null : bound;
      return {
        kind,
        limit,
        isDefault: set === null,
        used: limit === null ? null : used[kind],
        left: limit === null ? null : Math.max(0, limit - used[kind]),
      };
    });
  }
}

async function readUse(tx: Tx, tenantId: Uuid, now: Date): Promise<QuotaLimits> {
  const [row] = z.array(usedRow).parse(
    await tx.$queryRaw`
      SELECT coalesce(patchbay.quota_used(w.requests, w.head, s.slot), 0) AS requests,
             coalesce(patchbay.quota_used(w.prompt_tokens, w.head, s.slot), 0) AS prompt_tokens,
             coalesce(patchbay.quota_used(w.completion_tokens, w.head, s.slot), 0) AS completion_tokens,
             patchbay.own_running_streams() AS streams,
             a.adapters, a.storage_bytes, a.uploads
      FROM (SELECT patchbay.quota_slot(now()) AS slot) s
      CROSS JOIN patchbay.adapter_use(${tenantId}::uuid, ${now}) a
      LEFT JOIN quota_window w ON w.tenant_id = ${tenantId}::uuid`,
  );
  return {
    REQUESTS_PER_MINUTE: Number(row?.requests ?? 0),
    PROMPT_TOKENS_PER_MINUTE: Number(row?.prompt_tokens ?? 0),
    COMPLETION_TOKENS_PER_MINUTE: Number(row?.completion_tokens ?? 0),
    CONCURRENT_STREAMS: Number(row?.streams ?? 0),
    ADAPTERS: Number(row?.adapters ?? 0),
    STORAGE_BYTES: Number(row?.storage_bytes ?? 0),
    UPLOADS_PER_HOUR: Number(row?.uploads ?? 0),
  };
}

/** The changed limits as the audit log keeps them. */
function limitsOf(
  row: Readonly<Record<(typeof FIELDS)[QuotaKind], bigint | null>>,
  changes: readonly QuotaChange[],
): { readonly [field: string]: Json } {
  return Object.fromEntries(
    changes.map(({ kind }) => {
      const value = row[FIELDS[kind]];
      return [FIELDS[kind], value === null ? null : value.toString()];
    }),
  );
}

function notFound(): PatchbayError {
  return new PatchbayError('NOT_FOUND', 'No such tenant is visible to you.', { field: 'tenant' });
}

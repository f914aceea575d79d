import type { Actor } from '../auth/principal.ts';
import type { Database, Tx } from '../db/client.ts';
import type { Json } from '../db/idempotency.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';

/** What the audit log knows of a request besides its actor. */
export interface RequestContext {
  readonly requestId?: string;
}

/** One thing that was done, or attempted. */
export interface AuditEntry {
  /** The tenant that it concerns; the platform tenant when it concerns none. */
  readonly tenantId: Uuid;
  readonly actor: Actor;
  /** Name of the operation, such as `apiKey.revoke`. */
  readonly action: string;
  readonly targetType: string;
  readonly targetId: string | null;
  /** What changed, as it was and as it is; never a secret. */
  readonly before?: { readonly [field: string]: Json };
  readonly after?: { readonly [field: string]: Json };
  readonly context: RequestContext;
}

/** Writes the record of something done: last, in the transaction that does it. */
export async function recordAudit(tx: Tx, clock: Clock, entry: AuditEntry): Promise<void> {
  await write(tx, clock, entry, 'DONE');
}

/** What an attempt that came to nothing is recorded with; it changes nothing, and concerns the actor's own tenant. */
export type DeniedEntry = Omit<AuditEntry, 'tenantId' | 'before' | 'after'> & {
  /** Why, where the action does not say so. */
  readonly reason?: string;
};

interface AuditDependencies {
  readonly database: Database;
  readonly clock: Clock;
}

/** Refusals that are in the log, so that whoever passes them on does not record them again. */
const audited = new WeakSet<object>();

/** Whether the refusal is in the log already. */
export function isAudited(error: unknown): boolean {
  return typeof error === 'object' && error !== null && audited.has(error);
}

/**
 * Runs a permission check. When it refuses with FORBIDDEN, the attempt is recorded with the actor's own tenant, in a
 * transaction of its own because the refused one has nothing to commit, and the refusal goes on.
 */
export async function auditDenied(
  dependencies: AuditDependencies,
  entry: DeniedEntry,
  check: () => void,
): Promise<void> {
  try {
    check();
  } catch (error) {
    if (error instanceof PatchbayError && error.code === 'FORBIDDEN') {
      await recordDenied(dependencies, entry);
      audited.add(error);
    }
    throw error;
  }
}

/** Records an attempt that was refused, with the actor's own tenant. */
export async function recordDenied(dependencies: AuditDependencies, entry: DeniedEntry): Promise<void> {
  const { reason, ...attempt } = entry;
  const { tenantId } = entry.actor;
  const line = { ...attempt, tenantId, ...(reason === undefined ? {} : { after: { reason } }) };
  await dependencies.database.withTenant(tenantId, (tx) => write(tx, dependencies.clock, line, 'DENIED'));
}

/** Records that something was looked at which concerns another tenant than the actor's. */
export async function recordSeen(
  dependencies: AuditDependencies,
  entry: Omit<AuditEntry, 'before' | 'after'>,
): Promise<void> {
  await dependencies.database.withTenant(entry.tenantId, (tx) =>
    write(tx, dependencies.clock, entry, 'DONE'),
  );
}

async function write(tx: Tx, clock: Clock, entry: AuditEntry, outcome: 'DONE' | 'DENIED'): Promise<void> {
  await tx.auditLog.createMany({
    data: {
      id: newId(clock),
      tenantId: entry.tenantId,
      at: new Date(clock.nowMs()),
      actorKind: entry.actor.kind,
      actorKeyId: entry.actor.keyId,
      action: entry.action,
      targetType: entry.targetType,
      targetId: entry.targetId,
      ...(entry.before === undefined ? {} : { before: { ...entry.before } }),
      ...(entry.after === undefined ? {} : { after: { ...entry.after } }),
      requestId: entry.context.requestId ?? null,
      outcome,
    },
  });
}

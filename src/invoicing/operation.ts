import type { PoolClient } from 'pg';
import { z } from 'zod';
import { type Actor, requireOperatorScope } from '../auth/principal.ts';
import type { Database, Tx } from '../db/client.ts';
import { hashRequest, runIdempotent } from '../db/idempotency.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { Json } from '../kernel/json.ts';
import { auditDenied, type RequestContext, recordAudit } from '../tenant/audit.ts';

/** What the services of bills work with. */
export interface InvoicingDeps {
  readonly database: Database;
  readonly clock: Clock;
  readonly books: Books;
}

/**
 * Whether the books of a tenant's month agree. Bills ask before they are made and before they are final; who answers knows
 * of bills too, so it is given to them (src/reconciliation/books.ts).
 */
export interface Books {
  /** Throws RECONCILIATION_FAILED, naming the field, when anything differs; in the client's snapshot, or in one of its own. */
  requireAgreed(
    scope: { readonly from: Date; readonly to: Date; readonly tenantId: Uuid },
    field: string,
    client?: PoolClient,
  ): Promise<void>;
}

/** Something that an operator does to a bill or to its terms. */
export interface Operation {
  readonly actor: Actor;
  readonly context: RequestContext;
  /** As the mutation is called. */
  readonly name: string;
  /** As the audit log calls it. */
  readonly action: string;
  readonly targetType: string;
  readonly targetId: string;
  readonly idempotencyKey: string;
  /** What the client asked for; the same key with other arguments is refused. */
  readonly args: Json;
}

/** What was done, for the audit log. */
export interface Done {
  /** Of what was made or changed. */
  readonly id: Uuid;
  /** The tenant that it concerns. */
  readonly tenantId: Uuid;
  readonly targetType: string;
  readonly before?: { readonly [field: string]: Json };
  readonly after: { readonly [field: string]: Json };
}

const answer = z.object({ id: z.string() });

/** Throws FORBIDDEN, which is recorded, unless the actor is an operator who may change bills. */
export async function requireOperatorOf(deps: InvoicingDeps, operation: Operation): Promise<void> {
  await auditDenied(deps, operation, () => requireOperatorScope(operation.actor, 'billing:write'));
}

/**
 * Does something once for its idempotency key, with its line in the audit log, and answers what `read` finds: all of it
 * in one transaction. {@link requireOperatorOf} comes before.
 */
export async function operate<T>(
  { database, clock }: InvoicingDeps,
  operation: Operation,
  work: (tx: Tx) => Promise<Done>,
  read: (tx: Tx, id: Uuid) => Promise<T>,
): Promise<T> {
  const { actor, action, context, name, idempotencyKey, args } = operation;
  const request = {
    scope: { tenantId: PLATFORM_TENANT_ID, actor: actor.kind },
    operation: name,
    key: idempotencyKey,
    requestHash: hashRequest(args),
  };
  return database.withSystem(async (tx) => {
    const { value } = await runIdempotent(request, tx, { codec: answer, clock }, async () => {
      const { id, ...done } = await work(tx);
      await recordAudit(tx, clock, { actor, action, context, ...done, targetId: id });
      return { id };
    });
    return read(tx, value.id);
  });
}

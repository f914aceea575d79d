import { type Actor, type Principal, reaches, requireScope } from '../auth/principal.ts';
import type { Database } from '../db/client.ts';
import { badCursor, type Page, type PageRequest, requirePageSize, toPage } from '../db/page.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { isUuid, type Uuid } from '../kernel/ids.ts';
import { AttemptBound } from './attempt-bound.ts';
import { auditDenied, isAudited, type RequestContext, recordDenied, recordSeen } from './audit.ts';

/** One line of the audit log as callers see it. */
export interface AuditRecord {
  readonly id: Uuid;
  readonly at: Date;
  readonly actorKind: string;
  readonly actorKeyId: Uuid | null;
  readonly action: string;
  readonly targetType: string;
  readonly targetId: string | null;
  readonly before: unknown;
  readonly after: unknown;
  readonly requestId: string | null;
  readonly outcome: 'DONE' | 'DENIED';
}

/** What was attempted, when no service below has recorded it. */
export interface Attempt {
  readonly action: string;
  readonly targetType: string;
  readonly targetId: string | null;
  readonly context: RequestContext;
}

/** Most reads of a key that show nothing and are recorded, in a minute and by one process. */
const UNSEEN_PER_MINUTE = 60;

/** Reads the audit log, and records what only the edge of the program knows: attempts that came to nothing. */
export class AuditService {
  private readonly dependencies: { readonly database: Database; readonly clock: Clock };
  private readonly unseenReads: AttemptBound;
  private readonly refusedKeys: AttemptBound;

  constructor(dependencies: { readonly database: Database; readonly clock: Clock }) {
    this.dependencies = dependencies;
    this.unseenReads = new AttemptBound(UNSEEN_PER_MINUTE, dependencies.clock);
    this.refusedKeys = new AttemptBound(1, dependencies.clock);
  }

  /** A tenant's log, newest first; of the actor's own tenant when none is named. */
  async list(
    actor: Actor,
    tenantId: Uuid | null,
    page: PageRequest,
    context: RequestContext = {},
  ): Promise<Page<AuditRecord>> {
    const id = tenantId ?? actor.tenantId;
    const attempt = { actor, action: 'audit.list', targetType: 'tenant', targetId: id, context };
    await auditDenied(this.dependencies, attempt, () => requireScope(actor, 'audit:read'));
    if (!reaches(actor, id))
      throw new PatchbayError('NOT_FOUND', 'No such tenant is visible to you.', { field: 'tenant' });
    requirePageSize(page.first);
    if (page.after !== null && !isUuid(page.after)) throw badCursor();
    const { after, first } = page;
    const rows = await this.dependencies.database.withTenant(id, (tx) =>
      tx.auditLog.findMany({
        where: { tenantId: id, ...(after === null ? {} : { id: { lt: after } }) },
        orderBy: { id: 'desc' },
        take: first + 1,
      }),
    );
    return toPage(rows, page, (row) => row);
  }

  /**
   * Records a refused attempt with the actor's own tenant, unless a service has recorded that very refusal. What is
   * hidden and what does not exist are recorded alike, so that the log tells its reader no more than the answer did.
   */
  async denied(actor: Principal, attempt: Attempt, error: unknown): Promise<void> {
    if (isAudited(error)) return;
    await recordDenied(this.dependencies, { ...attempt, actor });
  }

  /**
   * Records a read by id that showed nothing, as the denied attempt that it may be: what is hidden and what is absent
   * leave the same line. Bounded, because reading is cheap.
   */
  async unseen(actor: Principal, attempt: Attempt): Promise<void> {
    if (this.unseenReads.admits(actor.keyId)) await recordDenied(this.dependencies, { ...attempt, actor });
  }

  /** Records that a key was sent that was valid once; once a minute, because whoever has it may go on sending it. */
  async refusedKey(actor: Principal, reason: string, context: RequestContext): Promise<void> {
    if (!this.refusedKeys.admits(actor.keyId)) return;
    const target = { targetType: 'apiKey', targetId: actor.keyId };
    await recordDenied(this.dependencies, { actor, action: 'apiKey.use', ...target, reason, context });
  }

  /** Records that an operator has looked at something, in the log of the tenant that it belongs to. */
  async seen(actor: Principal, tenantId: Uuid, attempt: Attempt): Promise<void> {
    await recordSeen(this.dependencies, { ...attempt, actor, tenantId });
  }
}

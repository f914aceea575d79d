import { z } from 'zod';
import { type Actor, reaches, requireOperator, requireOperatorScope } from '../auth/principal.ts';
import type { Database, Tx } from '../db/client.ts';
import { SQLSTATE, sqlState } from '../db/errors.ts';
import { hashRequest, runIdempotent } from '../db/idempotency.ts';
import { keyset, type Page, type PageRequest, toPage } from '../db/page.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { auditDenied, type RequestContext, recordAudit } from './audit.ts';
import { requireName } from './name.ts';
import { notifyRevoked } from './revocation.ts';

/** A tenant as callers see it. */
export interface Tenant {
  readonly id: Uuid;
  readonly name: string;
  readonly slug: string;
  readonly state: TenantState;
  readonly createdAt: Date;
}

/** Whether a tenant may work: suspended until somebody lifts it, closed for good. */
export type TenantState = 'ACTIVE' | 'SUSPENDED' | 'CLOSED';

/** What a new tenant is made from. */
export interface CreateTenantInput {
  readonly idempotencyKey: string;
  readonly name: string;
  /** Lower-case letters, digits and dashes, 1 to 63; unique in the installation. */
  readonly slug: string;
}

const SLUG = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const answerOfCreate = z.object({ tenantId: z.string() });

/** Tenants: made and listed by operators, each read by itself too. */
export class TenantService {
  private readonly dependencies: { readonly database: Database; readonly clock: Clock };

  constructor(dependencies: { readonly database: Database; readonly clock: Clock }) {
    this.dependencies = dependencies;
  }

  /** Creates a tenant. For operators. */
  async create(actor: Actor, input: CreateTenantInput, context: RequestContext = {}): Promise<Tenant> {
    const { database, clock } = this.dependencies;
    const { name, slug } = input;
    const action = { actor, action: 'tenant.create', targetType: 'tenant', context };
    await auditDenied(this.dependencies, { ...action, targetId: null }, () =>
      requireOperatorScope(actor, 'tenants:write'),
    );
    requireName(name, 'name');
    if (!SLUG.test(slug)) {
      throw new PatchbayError(
        'BAD_INPUT',
        'The slug must be 1 to 63 lower-case letters, digits and inner dashes.',
        {
          field: 'slug',
        },
      );
    }
    const request = {
      scope: { tenantId: PLATFORM_TENANT_ID, actor: actor.kind },
      operation: 'createTenant',
      key: input.idempotencyKey,
      requestHash: hashRequest({ name, slug }),
    };
    try {
      return await database.withSystem(async (tx) => {
        const { value } = await runIdempotent(request, tx, { codec: answerOfCreate, clock }, async () => {
          const id = newId(clock);
          await tx.tenant.create({ data: { id, name, slug, createdAt: new Date(clock.nowMs()) } });
          await recordAudit(tx, clock, { ...action, tenantId: id, targetId: id, after: { name, slug } });
          return { tenantId: id };
        });
        return toTenant(await tx.tenant.findUniqueOrThrow({ where: { id: value.tenantId } }));
      });
    } catch (error) {
      if (sqlState(error) !== SQLSTATE.uniqueViolation) throw error;
      throw new PatchbayError('NAME_TAKEN', `The slug ${slug} is taken.`, { field: 'slug', cause: error });
    }
  }

  /**
   * Suspends a tenant, lets it work again, or closes it for good. What runs on any of its keys ends at once unless it may
   * work; its rows, its bills and what it has earned stay. For operators.
   */
  async setState(actor: Actor, id: Uuid, state: TenantState, context: RequestContext = {}): Promise<Tenant> {
    const { database, clock } = this.dependencies;
    const action = { actor, action: 'tenant.setState', targetType: 'tenant', targetId: id, context };
    await auditDenied(this.dependencies, action, () => requireOperatorScope(actor, 'tenants:write'));
    return database.withSystem(async (tx) => {
      // Two changes of one tenant queue at its row, so that each records what it really replaced.
      await tx.$queryRaw`SELECT FROM tenant WHERE id = ${id}::uuid FOR UPDATE`;
      const row = id === PLATFORM_TENANT_ID ? null : await tx.tenant.findUnique({ where: { id } });
      if (row === null) {
        throw new PatchbayError('NOT_FOUND', 'No such tenant is visible to you.', { field: 'tenant' });
      }
      const before = toTenant(row);
      if (before.state === state) return before;
      if (before.state === 'CLOSED') {
        throw new PatchbayError('TENANT_STATE', 'The tenant is closed.', { field: 'state' });
      }
      const closedAt = state === 'CLOSED' ? new Date(clock.nowMs()) : null;
      await tx.tenant.updateMany({ where: { id }, data: { state, closedAt } });
      const keys = await tx.apiKey.findMany({
        where: { tenantId: id, revokedAt: null },
        select: { id: true },
      });
      await notifyRevoked(
        tx,
        keys.map((key) => key.id),
      );
      await recordAudit(tx, clock, {
        ...action,
        tenantId: id,
        before: { state: before.state },
        after: { state },
      });
      return { ...before, state };
    });
  }

  /** The tenant of a slug, or null. For operators. */
  async getBySlug(actor: Actor, slug: string): Promise<Tenant | null> {
    requireOperator(actor);
    const row = await this.dependencies.database.withSystem((tx) =>
      tx.tenant.findUnique({ where: { slug } }),
    );
    return row === null ? null : toTenant(row);
  }

  /** One tenant; null when there is none or the actor may not see it, which must look the same. */
  async get(actor: Actor, id: Uuid): Promise<Tenant | null> {
    if (!reaches(actor, id)) return null;
    const { database } = this.dependencies;
    const find = (tx: Tx) => tx.tenant.findUnique({ where: { id } });
    const row = await (actor.kind === 'TENANT' ? database.withTenant(id, find) : database.withSystem(find));
    return row === null ? null : toTenant(row);
  }

  /** Those of the tenants that the actor may see, in no order. */
  async getMany(actor: Actor, ids: readonly Uuid[]): Promise<readonly Tenant[]> {
    const visible = ids.filter((id) => reaches(actor, id));
    if (visible.length === 0) return [];
    const { database } = this.dependencies;
    const find = (tx: Tx) => tx.tenant.findMany({ where: { id: { in: visible } } });
    const rows = await (actor.kind === 'TENANT'
      ? database.withTenant(actor.tenantId, find)
      : database.withSystem(find));
    return rows.map(toTenant);
  }

  /** All tenants but the platform's own, oldest first. For operators. */
  async list(actor: Actor, page: PageRequest, context: RequestContext = {}): Promise<Page<Tenant>> {
    const attempt = { actor, action: 'tenant.list', targetType: 'tenant', targetId: null, context };
    await auditDenied(this.dependencies, attempt, () => requireOperator(actor));
    const { where, ...order } = keyset(page);
    const rows = await this.dependencies.database.withSystem((tx) =>
      tx.tenant.findMany({ where: { AND: [where, { NOT: { id: PLATFORM_TENANT_ID } }] }, ...order }),
    );
    return toPage(rows, page, toTenant);
  }
}

function toTenant({ id, name, slug, state, createdAt }: Tenant): Tenant {
  return { id, name, slug, state, createdAt };
}

import { z } from 'zod';
import { type Actor, reaches, requireScope } from '../auth/principal.ts';
import { type MemberRole, requireRoleWithin } from '../auth/roles.ts';
import type { Database, Tx } from '../db/client.ts';
import { SQLSTATE, sqlState } from '../db/errors.ts';
import { hashRequest, runIdempotent } from '../db/idempotency.ts';
import { keyset, type Page, type PageRequest, toPage } from '../db/page.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { KEY_REVOKED_CHANNEL } from './api-keys.ts';
import { auditDenied, type RequestContext, recordAudit } from './audit.ts';
import { requireName } from './name.ts';

/** A member as callers see them. */
export interface Member {
  readonly id: Uuid;
  readonly tenantId: Uuid;
  readonly name: string;
  readonly email: string;
  readonly role: MemberRole;
  readonly createdAt: Date;
  readonly removedAt: Date | null;
}

/** Who is added. */
export interface AddMemberInput {
  readonly idempotencyKey: string;
  /** Null for the actor's own tenant. */
  readonly tenantId: Uuid | null;
  readonly name: string;
  readonly email: string;
  readonly role: MemberRole;
}

const EMAIL = /^[^\s@]+@[^\s@]+$/;
const EMAIL_CHARS_MAX = 254;
const answerOfAdd = z.object({ memberId: z.string() });

/** The people of a tenant: what they are bounds what their keys may do. Signing in is not part of it yet. */
export class MemberService {
  private readonly dependencies: { readonly database: Database; readonly clock: Clock };

  constructor(dependencies: { readonly database: Database; readonly clock: Clock }) {
    this.dependencies = dependencies;
  }

  /** Adds a member, with a role that allows no more than the actor may. */
  async add(actor: Actor, input: AddMemberInput, context: RequestContext = {}): Promise<Member> {
    const tenantId = input.tenantId ?? actor.tenantId;
    const { name, role } = input;
    const email = input.email.toLowerCase();
    const action = { actor, action: 'member.add', targetType: 'member', context };
    await auditDenied(this.dependencies, { ...action, targetId: null }, () => {
      requireScope(actor, 'members:write');
      requireRoleWithin(actor, role);
    });
    if (!reaches(actor, tenantId) || tenantId === PLATFORM_TENANT_ID) throw notFound('tenant');
    requireName(name, 'name');
    if (!EMAIL.test(email) || email.length > EMAIL_CHARS_MAX) {
      throw new PatchbayError('BAD_INPUT', 'That is not an email address.', { field: 'email' });
    }
    const { database, clock } = this.dependencies;
    const request = {
      scope: { tenantId, actor: actor.kind },
      operation: 'addMember',
      key: input.idempotencyKey,
      requestHash: hashRequest({ name, email, role }),
    };
    try {
      return await database.withTenant(tenantId, async (tx) => {
        if ((await tx.tenant.count({ where: { id: tenantId } })) === 0) throw notFound('tenant');
        const { value } = await runIdempotent(request, tx, { codec: answerOfAdd, clock }, async () => {
          const id = newId(clock);
          const createdAt = new Date(clock.nowMs());
          await tx.member.createMany({ data: { id, tenantId, name, email, role, createdAt } });
          const after = { name, email, role };
          await recordAudit(tx, clock, { ...action, tenantId, targetId: id, after });
          return { memberId: id };
        });
        return toMember(await tx.member.findUniqueOrThrow({ where: { id: value.memberId } }));
      });
    } catch (error) {
      if (sqlState(error) !== SQLSTATE.uniqueViolation) throw error;
      throw new PatchbayError('NAME_TAKEN', 'The tenant has a member with this email address.', {
        field: 'email',
        cause: error,
      });
    }
  }

  /**
   * Gives a member another role. Their keys may do what both the key and the new role allow, at once: what runs on
   * the strength of the old role ends as if the key were revoked, and may be started again.
   */
  setRole(actor: Actor, id: Uuid, role: MemberRole, context: RequestContext = {}): Promise<Member> {
    return this.change(actor, id, 'member.setRole', context, role);
  }

  /** Removes a member; their keys end at once. Removing somebody who was removed changes nothing. */
  remove(actor: Actor, id: Uuid, context: RequestContext = {}): Promise<Member> {
    return this.change(actor, id, 'member.remove', context, null);
  }

  /** Those of the members that the actor may see: themselves or, with the scope, all of their tenant; in no order. */
  async getMany(actor: Actor, ids: readonly Uuid[]): Promise<readonly Member[]> {
    const all = actor.scopes.includes('members:write');
    const self = actor.kind === 'SYSTEM' ? undefined : actor.member?.id;
    const visible = ids.filter((id) => all || self === id);
    if (visible.length === 0) return [];
    const { database } = this.dependencies;
    const find = (tx: Tx) => tx.member.findMany({ where: { id: { in: visible } } });
    const rows = await (actor.kind === 'TENANT'
      ? database.withTenant(actor.tenantId, find)
      : database.withSystem(find));
    return rows.map(toMember);
  }

  /** A tenant's members, oldest first, removed ones included; of the actor's own tenant when none is named. */
  async list(
    actor: Actor,
    tenantId: Uuid | null,
    page: PageRequest,
    context: RequestContext = {},
  ): Promise<Page<Member>> {
    const id = tenantId ?? actor.tenantId;
    const attempt = { actor, action: 'member.list', targetType: 'tenant', targetId: id, context };
    await auditDenied(this.dependencies, attempt, () => requireScope(actor, 'members:write'));
    if (!reaches(actor, id)) throw notFound('tenant');
    const { where, ...order } = keyset(page);
    const rows = await this.dependencies.database.withTenant(id, (tx) =>
      tx.member.findMany({ where: { AND: [where, { tenantId: id }] }, ...order }),
    );
    return toPage(rows, page, toMember);
  }

  private async change(
    actor: Actor,
    id: Uuid,
    name: string,
    context: RequestContext,
    role: MemberRole | null,
  ): Promise<Member> {
    const { database, clock } = this.dependencies;
    const action = { actor, action: name, targetType: 'member', targetId: id, context };
    await auditDenied(this.dependencies, action, () => {
      requireScope(actor, 'members:write');
      if (role !== null) requireRoleWithin(actor, role);
    });
    const known = await this.find(actor, id);
    if (known === null) throw notFound('member');
    // Otherwise an administrator could take the place of an owner by making the owner something else.
    await auditDenied(this.dependencies, action, () => requireRoleWithin(actor, known.role));
    return database.withTenant(known.tenantId, async (tx) => {
      // Changes of a tenant's members queue here, or two could each find the other still an owner.
      await tx.$queryRaw`SELECT pg_advisory_xact_lock(hashtextextended(${`members/${known.tenantId}`}, 0))::text`;
      const current = toMember(await tx.member.findUniqueOrThrow({ where: { id } }));
      if (current.removedAt !== null) {
        if (role === null) return current;
        throw new PatchbayError('MEMBER_STATE', 'The member was removed.');
      }
      if (role === current.role) return current;
      if (current.role === 'OWNER') await requireAnotherOwner(tx, current);
      const now = new Date(clock.nowMs());
      const data = role === null ? { removedAt: now } : { role };
      await tx.member.updateMany({ where: { id }, data });
      await endKeys(tx, id);
      await recordAudit(tx, clock, {
        ...action,
        tenantId: known.tenantId,
        before: { role: current.role, removedAt: null },
        after: { role: role ?? current.role, removedAt: role === null ? now.toISOString() : null },
      });
      return { ...current, ...data };
    });
  }

  private async find(actor: Actor, id: Uuid): Promise<Member | null> {
    const [found] = await this.getMany(actor, [id]);
    return found ?? null;
  }
}

async function requireAnotherOwner(tx: Tx, member: Member): Promise<void> {
  const { id, tenantId } = member;
  const others = await tx.member.count({
    where: { tenantId, role: 'OWNER', removedAt: null, NOT: { id } },
  });
  if (others === 0) throw new PatchbayError('MEMBER_STATE', 'That is the last owner of the tenant.');
}

/** Tells every process to ask about the member's keys anew, and to end what runs on them. */
async function endKeys(tx: Tx, memberId: Uuid): Promise<void> {
  await tx.$queryRaw`
    SELECT pg_notify(${KEY_REVOKED_CHANNEL}, id::text)::text FROM api_key
    WHERE member_id = ${memberId}::uuid AND revoked_at IS NULL`;
}

function toMember({ id, tenantId, name, email, role, createdAt, removedAt }: Member): Member {
  return { id, tenantId, name, email, role, createdAt, removedAt };
}

function notFound(what: 'tenant' | 'member'): PatchbayError {
  return new PatchbayError('NOT_FOUND', `No such ${what} is visible to you.`);
}

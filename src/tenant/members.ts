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
import { auditDenied, type DeniedEntry, type RequestContext, recordAudit } from './audit.ts';
import { keysMadeBy } from './created-keys.ts';
import type { ApiKey } from './key-issuer.ts';
import { requireName } from './name.ts';
import { notifyRevoked } from './revocation.ts';

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

/** Whom to remove, and what becomes of what they leave. */
export interface RemoveMemberInput {
  readonly id: Uuid;
  /** Whether the keys that the member's keys made end too. */
  readonly revokeCreatedKeys: boolean;
}

/** A member who was removed. */
export interface Removal {
  readonly member: Member;
  /** Keys of others and of the tenant itself that the member's keys made and that still work, or did until now. */
  readonly createdKeys: readonly ApiKey[];
}

/** One change of a member, under way. */
interface Change {
  readonly tx: Tx;
  readonly member: Member;
  readonly now: Date;
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
    const action = { actor, action: 'member.setRole', targetType: 'member', targetId: id, context };
    return this.change(action, role, async ({ tx, member }) => {
      if (member.removedAt !== null) throw new PatchbayError('MEMBER_STATE', 'The member was removed.');
      if (role === member.role) return member;
      return this.update(tx, action, member, { role });
    });
  }

  /**
   * Removes a member; their keys end at once. What they leave is listed: keys that theirs made go on working, because
   * services may run on them, unless it is said that they end too. Removing somebody who was removed changes nothing
   * more than that.
   */
  remove(actor: Actor, input: RemoveMemberInput, context: RequestContext = {}): Promise<Removal> {
    const { id, revokeCreatedKeys } = input;
    const action = { actor, action: 'member.remove', targetType: 'member', targetId: id, context };
    return this.change(
      action,
      null,
      async ({ tx, member, now }) => {
        const removed =
          member.removedAt === null ? await this.update(tx, action, member, { removedAt: now }) : member;
        const createdKeys = await keysMadeBy(tx, id, now);
        if (revokeCreatedKeys) await this.revokeAll(tx, action, createdKeys, now);
        const revokedAt = (key: ApiKey) => (revokeCreatedKeys ? now : key.revokedAt);
        const shown = actor.scopes.includes('keys:write') ? createdKeys : [];
        return { member: removed, createdKeys: shown.map((key) => ({ ...key, revokedAt: revokedAt(key) })) };
      },
      revokeCreatedKeys,
    );
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

  /** Runs a change of a member by somebody who may make it, one after the other for each tenant. */
  private async change<T>(
    action: DeniedEntry & { readonly targetId: Uuid },
    role: MemberRole | null,
    work: (change: Change) => Promise<T>,
    endsKeys = false,
  ): Promise<T> {
    const { database, clock } = this.dependencies;
    const { actor, targetId: id } = action;
    await auditDenied(this.dependencies, action, () => {
      requireScope(actor, 'members:write');
      if (endsKeys) requireScope(actor, 'keys:write');
      if (role !== null) requireRoleWithin(actor, role);
    });
    const known = await this.find(actor, id);
    if (known === null) throw notFound('member');
    // Otherwise an administrator could take the place of an owner by making the owner something else.
    await auditDenied(this.dependencies, action, () => requireRoleWithin(actor, known.role));
    return database.withTenant(known.tenantId, async (tx) => {
      // Changes of a tenant's members queue here, or two could each find the other still an owner.
      await tx.$queryRaw`SELECT pg_advisory_xact_lock(hashtextextended(${`members/${known.tenantId}`}, 0))::text`;
      const member = toMember(await tx.member.findUniqueOrThrow({ where: { id } }));
      return work({ tx, member, now: new Date(clock.nowMs()) });
    });
  }

  /** Writes the change, ends what runs on the member's keys, and records it. */
  private async update(
    tx: Tx,
    action: DeniedEntry,
    member: Member,
    data: Partial<Pick<Member, 'role' | 'removedAt'>>,
  ): Promise<Member> {
    const { id, tenantId } = member;
    if (member.role === 'OWNER') await requireAnotherOwner(tx, member);
    await tx.member.updateMany({ where: { id }, data });
    const keys = await tx.apiKey.findMany({ where: { memberId: id, revokedAt: null }, select: { id: true } });
    await notifyRevoked(
      tx,
      keys.map((key) => key.id),
    );
    const changed = { ...member, ...data };
    await recordAudit(tx, this.dependencies.clock, {
      ...action,
      tenantId,
      before: { role: member.role, removedAt: null },
      after: { role: changed.role, removedAt: changed.removedAt?.toISOString() ?? null },
    });
    return changed;
  }

  private async revokeAll(
    tx: Tx,
    { actor, context }: DeniedEntry,
    keys: readonly ApiKey[],
    revokedAt: Date,
  ): Promise<void> {
    const ids = keys.map(({ id }) => id);
    await tx.apiKey.updateMany({ where: { id: { in: ids }, revokedAt: null }, data: { revokedAt } });
    await notifyRevoked(tx, ids);
    for (const { id, tenantId } of keys) {
      await recordAudit(tx, this.dependencies.clock, {
        ...{ actor, context, tenantId, action: 'apiKey.revoke', targetType: 'apiKey', targetId: id },
        before: { revokedAt: null },
        after: { revokedAt: revokedAt.toISOString() },
      });
    }
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

function toMember({ id, tenantId, name, email, role, createdAt, removedAt }: Member): Member {
  return { id, tenantId, name, email, role, createdAt, removedAt };
}

function notFound(what: 'tenant' | 'member'): PatchbayError {
  return new PatchbayError('NOT_FOUND', `No such ${what} is visible to you.`);
}

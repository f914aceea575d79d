import { type RandomBytes, shownPrefix } from '../auth/key-format.ts';
import { type Actor, DEFAULT_TENANT_SCOPES, reaches, requireScope, scopesOf } from '../auth/principal.ts';
import { ROLE_SCOPES, requireRoleWithin, scopesWithin } from '../auth/roles.ts';
import type { Database, Tx } from '../db/client.ts';
import { SQLSTATE, sqlState } from '../db/errors.ts';
import { keyset, type Page, type PageRequest, toPage } from '../db/page.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { auditDenied, type DeniedEntry, type RequestContext, recordAudit } from './audit.ts';
import { type ApiKey, type IssuedKey, KeyIssuer, toApiKey } from './key-issuer.ts';
import { requireName } from './name.ts';
import { notifyRevoked } from './revocation.ts';

export type { ApiKey, IssuedKey } from './key-issuer.ts';

/** What a new key is made from. */
export interface CreateApiKeyInput {
  readonly idempotencyKey: string;
  /** Null for the actor's own tenant. A key of the platform tenant is an operator's key. */
  readonly tenantId: Uuid | null;
  readonly name: string;
  /** Null for the usual ones; never more than the actor's own. */
  readonly scopes: readonly string[] | null;
  readonly expiresAt: Date | null;
  /** Member whose key it is; absent or null for the tenant's own. */
  readonly memberId?: Uuid | null;
}

/** How to rotate a key. */
export interface RotateApiKeyInput {
  readonly idempotencyKey: string;
  readonly id: Uuid;
  /** How long the replaced key still works. */
  readonly overlapMs: number;
}

/** How keys are issued. */
export interface ApiKeyServiceOptions {
  /** Server-side secret of the key hashes. */
  readonly pepper: string;
  readonly overlapMaxMs?: number;
}

/** What the service needs from its surroundings. */
export interface ApiKeyServiceDependencies {
  readonly database: Database;
  readonly clock: Clock;
  readonly randomBytes: RandomBytes;
}

const OVERLAP_MAX_MS = 30 * 24 * 3_600_000;

/** Service keys: issued, rotated with overlap, revoked at once, listed; the secret is never stored in clear. */
export class ApiKeyService {
  private readonly overlapMaxMs: number;
  private readonly issuer: KeyIssuer;
  private readonly dependencies: ApiKeyServiceDependencies;

  constructor(options: ApiKeyServiceOptions, dependencies: ApiKeyServiceDependencies) {
    this.issuer = new KeyIssuer(options.pepper, dependencies);
    this.overlapMaxMs = options.overlapMaxMs ?? OVERLAP_MAX_MS;
    this.dependencies = dependencies;
  }

  /** Issues a key. */
  async create(actor: Actor, input: CreateApiKeyInput, context: RequestContext = {}): Promise<IssuedKey> {
    const tenantId = input.tenantId ?? actor.tenantId;
    const asked = [...new Set(input.scopes ?? usualScopes(tenantId, actor))].sort();
    const action = { actor, action: 'apiKey.create', targetType: 'apiKey', context };
    await auditDenied(this.dependencies, { ...action, targetId: null }, () => {
      requireScope(actor, 'keys:write');
      requireGrantable(actor, tenantId, asked);
    });
    if (!reaches(actor, tenantId)) throw notFound('tenant');
    requireName(input.name, 'name');
    const { expiresAt, name, memberId = null } = input;
    await this.requireMemberWithin(actor, tenantId, memberId, { ...action, targetId: null });
    if (expiresAt !== null && !(expiresAt.getTime() > this.dependencies.clock.nowMs())) {
      throw new PatchbayError('BAD_INPUT', 'The key would expire before it exists.', { field: 'expiresAt' });
    }
    const request = {
      operation: 'createApiKey',
      key: input.idempotencyKey,
      args: {
        name,
        scopes: asked,
        expiresAt: expiresAt?.toISOString() ?? null,
        // Absent as before where there is none, so that retries of older programs stay retries.
        ...(memberId === null ? {} : { member: memberId }),
      },
    };
    return this.within(tenantId, (tx) =>
      this.issuer.issueOnce(tx, actor, tenantId, request, async () => {
        if ((await tx.tenant.count({ where: { id: tenantId } })) === 0) throw notFound('tenant');
        const isUsual = input.scopes === null;
        const scopes = memberId === null ? asked : await memberScopes(tx, memberId, asked, isUsual);
        const origin = { rotatedFrom: null, createdBy: actor.keyId };
        const draft = { tenantId, name, scopes, expiresAt, memberId, ...origin };
        const issued = await this.issuer.insert(tx, draft);
        const after = { ...request.args, scopes: [...scopes], prefix: shownPrefix(issued.secret) };
        await recordAudit(tx, this.dependencies.clock, {
          ...action,
          tenantId,
          targetId: issued.keyId,
          after,
        });
        return issued;
      }),
    );
  }

  /**
   * Issues a key with the same name and scopes, and as long a life, as another, which still works for the overlap.
   * A key is rotated once: its successor is the one to rotate next.
   */
  async rotate(actor: Actor, input: RotateApiKeyInput, context: RequestContext = {}): Promise<IssuedKey> {
    const { id, overlapMs } = input;
    const action = { actor, action: 'apiKey.rotate', targetType: 'apiKey', targetId: id, context };
    await auditDenied(this.dependencies, action, () => requireScope(actor, 'keys:write'));
    if (!Number.isInteger(overlapMs) || overlapMs < 0 || overlapMs > this.overlapMaxMs) {
      throw new PatchbayError('BAD_INPUT', `The overlap must be 0 to ${this.overlapMaxMs / 1000} seconds.`, {
        field: 'overlapSeconds',
      });
    }
    const old = await this.mustGet(actor, id);
    // Otherwise a key could turn itself into a stronger one.
    await auditDenied(this.dependencies, action, () => requireGrantable(actor, old.tenantId, old.scopes));
    const { tenantId } = old;
    await this.requireMemberWithin(actor, tenantId, old.memberId, action);
    const request = { operation: 'rotateApiKey', key: input.idempotencyKey, args: { id, overlapMs } };
    try {
      return await this.within(tenantId, (tx) =>
        this.issuer.issueOnce(tx, actor, tenantId, request, async () => {
          const current = await tx.apiKey.findUniqueOrThrow({ where: { id } });
          const nowMs = this.dependencies.clock.nowMs();
          requireLive(current, nowMs);
          const lifeMs =
            current.expiresAt === null ? null : current.expiresAt.getTime() - current.createdAt.getTime();
          const issued = await this.issuer.insert(tx, {
            tenantId,
            name: current.name,
            scopes: current.scopes,
            expiresAt: lifeMs === null ? null : new Date(nowMs + lifeMs),
            rotatedFrom: id,
            memberId: current.memberId,
            createdBy: actor.keyId,
          });
          const endsMs = Math.min(
            nowMs + overlapMs,
            current.expiresAt?.getTime() ?? Number.POSITIVE_INFINITY,
          );
          const expiresAt = new Date(endsMs);
          // The condition is asked again of a key that somebody was revoking when it was read.
          const { count } = await tx.apiKey.updateMany({
            where: { id, revokedAt: null },
            data: { expiresAt },
          });
          if (count === 0) throw keyState('The key is revoked.');
          if (overlapMs === 0) await notifyRevoked(tx, [id]);
          await recordAudit(tx, this.dependencies.clock, {
            ...action,
            tenantId,
            before: { expiresAt: current.expiresAt?.toISOString() ?? null },
            after: { expiresAt: expiresAt.toISOString(), successor: issued.keyId },
          });
          return issued;
        }),
      );
    } catch (error) {
      // Two rotations raced; the unique index on rotated_from let one through.
      if (sqlState(error) === SQLSTATE.uniqueViolation) throw keyState('The key was already rotated.');
      throw error;
    }
  }

  /** Ends a key now. Revoking a revoked key changes nothing. */
  async revoke(actor: Actor, id: Uuid, context: RequestContext = {}): Promise<ApiKey> {
    const action = { actor, action: 'apiKey.revoke', targetType: 'apiKey', targetId: id, context };
    await auditDenied(this.dependencies, action, () => requireScope(actor, 'keys:write'));
    const { tenantId } = await this.mustGet(actor, id);
    return this.within(tenantId, async (tx) => {
      const revokedAt = new Date(this.dependencies.clock.nowMs());
      // The condition makes the second of two racing revocations a no-op.
      const { count } = await tx.apiKey.updateMany({ where: { id, revokedAt: null }, data: { revokedAt } });
      if (count === 1) {
        await notifyRevoked(tx, [id]);
        await recordAudit(tx, this.dependencies.clock, {
          ...action,
          tenantId,
          before: { revokedAt: null },
          after: { revokedAt: revokedAt.toISOString() },
        });
      }
      return toApiKey(await tx.apiKey.findUniqueOrThrow({ where: { id } }));
    });
  }

  /** One key: the actor's own or, with the scope, another; null when the actor may not see it or there is none. */
  async get(actor: Actor, id: Uuid): Promise<ApiKey | null> {
    const [found] = await this.getMany(actor, [id]);
    return found ?? null;
  }

  /** Those of the keys that the actor may see: the actor's own or, with the scope, all of its tenant; in no order. */
  async getMany(actor: Actor, ids: readonly Uuid[]): Promise<readonly ApiKey[]> {
    const all = actor.scopes.includes('keys:write');
    const visible = ids.filter((id) => all || actor.keyId === id);
    if (visible.length === 0) return [];
    const find = (tx: Tx) => tx.apiKey.findMany({ where: { id: { in: visible } } });
    const { database } = this.dependencies;
    const rows = await (actor.kind === 'TENANT'
      ? database.withTenant(actor.tenantId, find)
      : database.withSystem(find));
    return rows.map(toApiKey);
  }

  /** A tenant's keys, oldest first, revoked ones included; of the actor's own tenant when none is named. */
  async list(
    actor: Actor,
    tenantId: Uuid | null,
    page: PageRequest,
    context: RequestContext = {},
  ): Promise<Page<ApiKey>> {
    const id = tenantId ?? actor.tenantId;
    const attempt = { actor, action: 'apiKey.list', targetType: 'tenant', targetId: id, context };
    await auditDenied(this.dependencies, attempt, () => requireScope(actor, 'keys:write'));
    if (!reaches(actor, id)) throw notFound('tenant');
    const { where, ...order } = keyset(page);
    const rows = await this.within(id, (tx) =>
      tx.apiKey.findMany({ where: { AND: [where, { tenantId: id }] }, ...order }),
    );
    return toPage(rows, page, toApiKey);
  }

  /**
   * Nobody acts in the name of a member who may do more than they may: what such a key does is put down to the member.
   * Everybody may have further keys of their own.
   */
  private async requireMemberWithin(
    actor: Actor,
    tenantId: Uuid,
    memberId: Uuid | null,
    attempt: DeniedEntry,
  ): Promise<void> {
    if (memberId === null || (actor.kind !== 'SYSTEM' && actor.member?.id === memberId)) return;
    const member = await this.within(tenantId, (tx) => tx.member.findUnique({ where: { id: memberId } }));
    // Who is not there is refused where the key would be made, which also answers retries.
    if (member === null) return;
    await auditDenied(this.dependencies, attempt, () => requireRoleWithin(actor, member.role));
  }

  private async mustGet(actor: Actor, id: Uuid): Promise<ApiKey> {
    const key = await this.get(actor, id);
    if (key === null) throw notFound('key');
    return key;
  }

  /** Operators' keys are out of the app role's reach; all others are handled as their tenant. */
  private within<T>(tenantId: Uuid, work: (tx: Tx) => Promise<T>): Promise<T> {
    const { database } = this.dependencies;
    return tenantId === PLATFORM_TENANT_ID ? database.withSystem(work) : database.withTenant(tenantId, work);
  }
}

/** A member's key may do at most what the member's role allows; of the usual scopes it gets those. */
async function memberScopes(
  tx: Tx,
  memberId: Uuid,
  asked: readonly string[],
  isUsual: boolean,
): Promise<readonly string[]> {
  const member = await tx.member.findUnique({ where: { id: memberId, removedAt: null } });
  if (member === null)
    throw new PatchbayError('NOT_FOUND', 'No such member is visible to you.', { field: 'member' });
  const within = scopesWithin(member.role, asked);
  const beyond = asked.find((scope) => !within.includes(scope));
  if (isUsual || beyond === undefined) return within;
  throw new PatchbayError('BAD_INPUT', `The role ${member.role} does not have the scope ${beyond}.`, {
    field: 'scopes',
    fix: `Name scopes of the role: ${ROLE_SCOPES[member.role].join(', ')}.`,
  });
}

function usualScopes(tenantId: Uuid, actor: Actor): readonly string[] {
  const usual = tenantId === PLATFORM_TENANT_ID ? scopesOf(tenantId) : DEFAULT_TENANT_SCOPES;
  return usual.filter((scope) => actor.scopes.includes(scope));
}

/** Nobody gives away what they do not have. */
function requireGrantable(actor: Actor, tenantId: Uuid, scopes: readonly string[]): void {
  const possible = scopesOf(tenantId);
  for (const name of scopes) {
    const scope = possible.find((one) => one === name);
    if (scope === undefined) {
      throw new PatchbayError('BAD_INPUT', `Such a key has no scope named ${JSON.stringify(name)}.`, {
        field: 'scopes',
        fix: `Use some of: ${possible.join(', ')}.`,
      });
    }
    requireScope(actor, scope);
  }
}

function requireLive(key: { revokedAt: Date | null; expiresAt: Date | null }, nowMs: number): void {
  if (key.revokedAt !== null) throw keyState('The key is revoked.');
  if (key.expiresAt !== null && key.expiresAt.getTime() <= nowMs) throw keyState('The key has expired.');
}

function keyState(message: string): PatchbayError {
  return new PatchbayError('KEY_STATE', message);
}

function notFound(what: 'tenant' | 'key'): PatchbayError {
  return new PatchbayError('NOT_FOUND', `No such ${what} is visible to you.`);
}

import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { MemberRole } from './roles.ts';

/** Everything that a tenant's key can be allowed to do. */
export const SCOPES = [
  'infer',
  'adapters:read',
  'adapters:write',
  'usage:read',
  'keys:write',
  'billing:read',
  'billing:write',
  'payouts:write',
  'members:write',
  'audit:read',
] as const;

/** Everything that an operator's key can be allowed to do: the same, and what concerns tenants as such. */
export const OPERATOR_SCOPES = [...SCOPES, 'tenants:write'] as const;
export type TenantScope = (typeof SCOPES)[number];
export type Scope = (typeof OPERATOR_SCOPES)[number];

/** What a tenant's own key may do unless said otherwise: everything but moving money. */
export const DEFAULT_TENANT_SCOPES: readonly TenantScope[] = SCOPES.filter(
  (scope) => scope !== 'payouts:write',
);

/** Who is calling, as established by a valid key. */
export interface Principal {
  readonly kind: 'OPERATOR' | 'TENANT';
  /** The platform tenant for operators. */
  readonly tenantId: Uuid;
  readonly keyId: Uuid;
  /** What it may do: the key's scopes, and of a member's key those that the member's role allows. */
  readonly scopes: readonly string[];
  /** Whose key it is; absent for a service key, which is the tenant's own. */
  readonly member?: PrincipalMember;
}

/** The member that a key belongs to. A person who signs in will be one too, with a session in place of the key. */
export interface PrincipalMember {
  readonly id: Uuid;
  readonly role: MemberRole;
}

/** The program itself, where it does what otherwise an operator would: the first start creates tenants and keys. */
export interface SystemActor {
  readonly kind: 'SYSTEM';
  readonly tenantId: Uuid;
  readonly keyId: null;
  readonly scopes: readonly string[];
}

/** Whoever can be held to account for a change. */
export type Actor = Principal | SystemActor;

/** The one {@link SystemActor}. Never derive it from a request. */
export const SYSTEM_ACTOR: SystemActor = {
  kind: 'SYSTEM',
  tenantId: PLATFORM_TENANT_ID,
  keyId: null,
  scopes: OPERATOR_SCOPES,
};

/** The scopes that a key of the tenant can have. */
export function scopesOf(tenantId: Uuid): readonly Scope[] {
  return tenantId === PLATFORM_TENANT_ID ? OPERATOR_SCOPES : SCOPES;
}

/** Throws FORBIDDEN, naming the scope, unless the actor has it. */
export function requireScope(actor: Actor, scope: Scope): void {
  if (actor.scopes.includes(scope)) return;
  throw new PatchbayError('FORBIDDEN', `The key lacks the scope ${scope}.`, { meta: { scope } });
}

/** Throws FORBIDDEN unless the actor is an operator or the program itself. */
export function requireOperator(actor: Actor): void {
  if (actor.kind !== 'TENANT') return;
  throw new PatchbayError('FORBIDDEN', 'Only an operator may do this.', { fix: 'Use an operator key.' });
}

/**
 * Throws FORBIDDEN unless the actor is an operator, or the program itself, and has the scope: an operator's key for a
 * dashboard must not move money.
 */
export function requireOperatorScope(actor: Actor, scope: Scope): void {
  requireOperator(actor);
  requireScope(actor, scope);
}

/** Whether the actor may see and change things of the tenant at all; its scopes are another question. */
export function reaches(actor: Actor, tenantId: Uuid): boolean {
  return actor.kind !== 'TENANT' || actor.tenantId === tenantId;
}

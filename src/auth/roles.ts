import { PatchbayError } from '../kernel/errors.ts';
import { type Actor, SCOPES, type TenantScope } from './principal.ts';

/** What a member of a tenant is. */
export const MEMBER_ROLES = ['OWNER', 'ADMIN', 'DEVELOPER', 'BILLING', 'AUDITOR'] as const;
export type MemberRole = (typeof MEMBER_ROLES)[number];

/** The most that a member's keys may do, by role. A key may be issued with less. */
export const ROLE_SCOPES: Readonly<Record<MemberRole, readonly TenantScope[]>> = {
  OWNER: SCOPES,
  ADMIN: SCOPES.filter((scope) => scope !== 'payouts:write'),
  DEVELOPER: ['infer', 'adapters:read', 'adapters:write', 'usage:read'],
  BILLING: ['usage:read', 'billing:read', 'billing:write', 'payouts:write'],
  AUDITOR: ['adapters:read', 'usage:read', 'billing:read', 'audit:read'],
};

/** What a member's key may do now: a role that was narrowed narrows every key that was issued before. */
export function scopesWithin(role: MemberRole, scopes: readonly string[]): readonly string[] {
  const allowed: readonly string[] = ROLE_SCOPES[role];
  return scopes.filter((scope) => allowed.includes(scope));
}

/** Throws FORBIDDEN unless the actor may do everything that the role may: nobody makes others stronger than themselves. */
export function requireRoleWithin(actor: Actor, role: MemberRole): void {
  const missing = ROLE_SCOPES[role].find((scope) => !actor.scopes.includes(scope));
  if (missing === undefined) return;
  throw new PatchbayError('FORBIDDEN', `The role ${role} may ${missing}, which the key may not.`, {
    meta: { scope: missing, role },
  });
}

import { toConnection, toPageRequest } from '../connections.ts';
import { requirePrincipal } from '../context.ts';
import { withUserErrors } from '../errors.ts';
import type {
  AuditRecordResolvers,
  MemberResolvers,
  MutationResolvers,
  QueryResolvers,
  QuotaResolvers,
} from '../generated/types.ts';
import { optionalGlobalId, requireGlobalId, toGlobalId } from '../ids.ts';

export const Member = {
  id: ({ id }) => toGlobalId('Member', id),
  uuid: ({ id }) => id,
} satisfies MemberResolvers;

export const Quota = {
  limit: ({ limit }) => toBigInt(limit),
  used: ({ used }) => toBigInt(used),
  left: ({ left }) => toBigInt(left),
} satisfies QuotaResolvers;

export const AuditRecord = {
  before: ({ before }) => toJson(before),
  after: ({ after }) => toJson(after),
} satisfies AuditRecordResolvers;

export const governanceQueries = {
  members: async (_root, args, context) => {
    const request = toPageRequest(args);
    const tenantId = optionalGlobalId('Tenant', args.tenant, 'tenant');
    const page = await context.services.members.list(requirePrincipal(context), tenantId, request, context);
    return toConnection(page, request, ({ id }) => id);
  },

  quotas: (_root, { tenant }, context) =>
    context.services.quotas.read(
      requirePrincipal(context),
      optionalGlobalId('Tenant', tenant, 'tenant'),
      context,
    ),

  auditLog: async (_root, args, context) => {
    const request = toPageRequest(args);
    const tenantId = optionalGlobalId('Tenant', args.tenant, 'tenant');
    const page = await context.services.audit.list(requirePrincipal(context), tenantId, request, context);
    return toConnection(page, request, ({ id }) => id);
  },
} satisfies QueryResolvers;

export const governanceMutations = {
  addMember: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const { tenant, ...rest } = input;
      const added = { ...rest, tenantId: optionalGlobalId('Tenant', tenant, 'tenant') };
      return { member: await context.services.members.add(caller, added, context) };
    });
  },

  setMemberRole: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const id = requireGlobalId('Member', input.id, 'id');
      return { member: await context.services.members.setRole(caller, id, input.role, context) };
    });
  },

  removeMember: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const id = requireGlobalId('Member', input.id, 'id');
      const revokeCreatedKeys = input.revokeCreatedKeys ?? false;
      return context.services.members.remove(caller, { id, revokeCreatedKeys }, context);
    });
  },

  setTenantQuotas: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const tenantId = requireGlobalId('Tenant', input.tenant, 'tenant');
      const changes = input.limits.map(({ kind, limit }) => ({
        kind,
        limit: limit == null ? null : Number(limit),
      }));
      return { quotas: await context.services.quotas.set(caller, tenantId, changes, context) };
    });
  },
} satisfies MutationResolvers;

function toBigInt(value: number | null): bigint | null {
  return value === null ? null : BigInt(value);
}

function toJson(value: unknown): string | null {
  return value === null || value === undefined ? null : JSON.stringify(value);
}

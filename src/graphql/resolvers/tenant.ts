import { toConnection, toPageRequest } from '../connections.ts';
import { requirePrincipal } from '../context.ts';
import { withUserErrors } from '../errors.ts';
import type {
  ApiKeyResolvers,
  MutationResolvers,
  QueryResolvers,
  TenantResolvers,
  ViewerResolvers,
} from '../generated/types.ts';
import { optionalGlobalId, parseGlobalId, requireGlobalId, toGlobalId } from '../ids.ts';

export const Tenant = {
  id: ({ id }) => toGlobalId('Tenant', id),
  uuid: ({ id }) => id,
} satisfies TenantResolvers;

export const ApiKey = {
  id: ({ id }) => toGlobalId('ApiKey', id),
  uuid: ({ id }) => id,
  member: ({ memberId }, _args, { loaders }) => (memberId === null ? null : loaders.member.load(memberId)),
  createdBy: ({ createdBy }, _args, { loaders }) =>
    createdBy === null ? null : loaders.apiKey.load(createdBy),
} satisfies ApiKeyResolvers;

export const Viewer = {
  tenant: ({ kind, tenantId }, _args, { loaders }) =>
    kind === 'OPERATOR' ? null : loaders.tenant.load(tenantId),
  keyId: ({ keyId }) => toGlobalId('ApiKey', keyId),
  member: ({ member }, _args, { loaders }) => (member === undefined ? null : loaders.member.load(member.id)),
  isOperator: ({ kind }) => kind === 'OPERATOR',
} satisfies ViewerResolvers;

export const tenantQueries = {
  me: (_root, _args, context) => requirePrincipal(context),

  tenant: (_root, { id }, context) => {
    requirePrincipal(context);
    const ref = parseGlobalId(id);
    return ref?.type === 'Tenant' ? context.loaders.tenant.load(ref.key) : null;
  },

  tenants: async (_root, args, context) => {
    const request = toPageRequest(args);
    const page = await context.services.tenants.list(requirePrincipal(context), request, context);
    return toConnection(page, request, ({ id }) => id);
  },

  apiKeys: async (_root, args, context) => {
    const request = toPageRequest(args);
    const tenantId = optionalGlobalId('Tenant', args.tenant, 'tenant');
    const page = await context.services.apiKeys.list(requirePrincipal(context), tenantId, request, context);
    return toConnection(page, request, ({ id }) => id);
  },
} satisfies QueryResolvers;

export const tenantMutations = {
  createTenant: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => ({
      tenant: await context.services.tenants.create(caller, input, context),
    }));
  },

  setTenantState: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const id = requireGlobalId('Tenant', input.tenant, 'tenant');
      return { tenant: await context.services.tenants.setState(caller, id, input.state, context) };
    });
  },

  createApiKey: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const { key, secret } = await context.services.apiKeys.create(
        caller,
        {
          idempotencyKey: input.idempotencyKey,
          tenantId: optionalGlobalId('Tenant', input.tenant, 'tenant'),
          name: input.name,
          scopes: input.scopes ?? null,
          expiresAt: input.expiresAt ?? null,
          memberId: optionalGlobalId('Member', input.member, 'member'),
        },
        context,
      );
      return { apiKey: key, secret };
    });
  },

  rotateApiKey: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const { key, secret } = await context.services.apiKeys.rotate(
        caller,
        {
          idempotencyKey: input.idempotencyKey,
          id: requireGlobalId('ApiKey', input.id, 'id'),
          overlapMs: (input.overlapSeconds ?? 0) * 1_000,
        },
        context,
      );
      return { apiKey: key, secret };
    });
  },

  revokeApiKey: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const id = requireGlobalId('ApiKey', input.id, 'id');
      return { apiKey: await context.services.apiKeys.revoke(caller, id, context) };
    });
  },
} satisfies MutationResolvers;

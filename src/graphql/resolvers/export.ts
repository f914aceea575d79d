import { toConnection, toPageRequest } from '../connections.ts';
import { requirePrincipal } from '../context.ts';
import { withUserErrors } from '../errors.ts';
import type { ExportResolvers, MutationResolvers, QueryResolvers } from '../generated/types.ts';
import { optionalGlobalId, requireGlobalId, toGlobalId } from '../ids.ts';

const SOURCE = {
  usage: 'USAGE',
  charges: 'CHARGES',
  ledger: 'LEDGER',
  invoices: 'INVOICES',
  credit_notes: 'CREDIT_NOTES',
  payouts: 'PAYOUTS',
} as const;
const FORMAT = { csv: 'CSV', jsonl: 'JSONL', parquet: 'PARQUET' } as const;

export const Export = {
  id: ({ id }) => toGlobalId('Export', id),
  source: ({ source }) => SOURCE[source],
  format: ({ format }) => FORMAT[format],
  ofTenant: ({ reach }, _args, { loaders }) =>
    reach.kind === 'ALL' ? null : loaders.tenant.load(reach.tenantId),
  url: (model, _args, { services }) => services.exports.link(model)?.url ?? null,
  urlExpiresAt: (model, _args, { services }) => services.exports.link(model)?.expiresAt ?? null,
} satisfies ExportResolvers;

export const exportQueries = {
  export: (_root, { id }, context) => {
    const caller = requirePrincipal(context);
    return context.services.exports.get(caller, requireGlobalId('Export', id, 'id'), context);
  },

  exports: async (_root, args, context) => {
    const caller = requirePrincipal(context);
    const request = toPageRequest(args);
    const page = await context.services.exports.list(caller, request, context);
    return toConnection(page, request, ({ id }) => id);
  },
} satisfies QueryResolvers;

export const exportMutations = {
  createExport: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const { idempotencyKey, source, format, from, to, tenant } = input;
      const wanted = {
        idempotencyKey,
        source: source.toLowerCase(),
        format: format.toLowerCase(),
        from,
        to,
        tenantId: optionalGlobalId('Tenant', tenant, 'tenant'),
      };
      return { export: await context.services.exports.create(caller, wanted, context) };
    });
  },

  deleteExport: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const id = requireGlobalId('Export', input.id, 'id');
      return { export: await context.services.exports.delete(caller, id, context) };
    });
  },
} satisfies MutationResolvers;

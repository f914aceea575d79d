import type { UsageRecord } from '../../usage/records.ts';
import type { RequestView } from '../../usage/service.ts';
import { requirePrincipal } from '../context.ts';
import type { QueryResolvers } from '../generated/types.ts';
import { parseGlobalId } from '../ids.ts';

export const baseQueries = {
  health: (_root, _args, { services }) => ({
    ready: services.health.ready(),
    version: services.health.version,
    time: services.health.now(),
  }),

  // Whatever is not visible is null, like what does not exist: ids must not tell one from the other.
  node: async (_root, { id }, context) => {
    const caller = requirePrincipal(context);
    const { services, loaders } = context;
    const ref = parseGlobalId(id);
    switch (ref?.type) {
      case undefined:
        return null;
      case 'Tenant':
        return typed('Tenant', await loaders.tenant.load(ref.key));
      case 'ApiKey':
        return typed('ApiKey', await services.apiKeys.get(caller, ref.key));
      case 'Member':
        return typed('Member', await loaders.member.load(ref.key));
      case 'Backbone':
        return typed('Backbone', await loaders.backbone.load(ref.key));
      case 'Adapter':
        return typed('Adapter', await loaders.adapter.load(ref.key));
      case 'AdapterVersion':
        return typed('AdapterVersion', await loaders.adapterVersion.load(ref.key));
      case 'AdapterUpload':
        return typed('AdapterUpload', await services.adapters.getUpload(caller, ref.key));
      case 'UsageRecord':
        return typed('UsageRecord', settledUsage(await services.usage.request(caller, ref.key)));
      case 'Export':
        return typed('Export', await services.exports.get(caller, ref.key, context));
    }
  },
} satisfies QueryResolvers;

function settledUsage(view: RequestView | null): UsageRecord | null {
  return view?.state === 'settled' ? view.usage : null;
}

/** Marks a model with its GraphQL type, which GraphQL reads where an interface is returned. */
function typed<N extends string, T extends object>(name: N, model: T | null): (T & { __typename: N }) | null {
  return model && { ...model, __typename: name };
}

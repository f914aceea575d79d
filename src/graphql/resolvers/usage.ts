import { badCursor } from '../../db/page.ts';
import { isUuid } from '../../kernel/ids.ts';
import { toConnection, toPageRequest } from '../connections.ts';
import { requirePrincipal } from '../context.ts';
import type {
  InferenceRequestResolvers,
  QueryResolvers,
  UsageRecordResolvers,
  UsageRowResolvers,
  UsageTotalsResolvers,
} from '../generated/types.ts';
import { optionalGlobalId, toGlobalId } from '../ids.ts';
import { FINISH_REASON } from './inference.ts';

const BUCKET = { HOUR: 'hour', DAY: 'day' } as const;
const SETTLER = { engine: 'ENGINE', recovery: 'RECOVERY' } as const;

export const UsageRecord = {
  id: ({ requestId }) => toGlobalId('UsageRecord', requestId),
  finishReason: ({ finishReason }) => FINISH_REASON[finishReason],
  settledBy: ({ settledBy }) => SETTLER[settledBy],
} satisfies UsageRecordResolvers;

export const UsageTotals = {
  computeMs: ({ computeUs }) => Number(computeUs) / 1_000,
} satisfies UsageTotalsResolvers;

export const UsageRow = {
  adapter: ({ adapterId }, _args, { loaders }) =>
    adapterId === null ? null : loaders.adapter.load(adapterId),
  adapterVersion: ({ versionId }, _args, { loaders }) =>
    versionId === null ? null : loaders.adapterVersion.load(versionId),
  tenant: ({ tenantId }, _args, { loaders }) => (tenantId === null ? null : loaders.tenant.load(tenantId)),
} satisfies UsageRowResolvers;

export const InferenceRequest = {
  id: ({ requestId }) => requestId,
  state: ({ state }) => (state === 'running' ? 'RUNNING' : 'SETTLED'),
  usage: (view) => (view.state === 'settled' ? view.usage : null),
} satisfies InferenceRequestResolvers;

export const usageQueries = {
  usage: (_root, args, context) =>
    context.services.usage.summary(requirePrincipal(context), {
      from: args.from,
      to: args.to,
      bucket: BUCKET[args.bucket ?? 'DAY'],
      perspective: args.perspective ?? 'CALLER',
      groupBy: args.groupBy ?? null,
      adapterId: optionalGlobalId('Adapter', args.adapter, 'adapter'),
      tenantId: optionalGlobalId('Tenant', args.tenant, 'tenant'),
    }),

  usageRecords: async (_root, args, context) => {
    const caller = requirePrincipal(context);
    const request = toPageRequest(args);
    const page = await context.services.usage.records(
      caller,
      {
        from: args.from ?? null,
        to: args.to ?? null,
        adapterId: optionalGlobalId('Adapter', args.adapter, 'adapter'),
        tenantId: optionalGlobalId('Tenant', args.tenant, 'tenant'),
      },
      request,
    );
    return toConnection(page, request, ({ requestId }) => requestId);
  },

  ownedUsage: async (_root, args, context) => {
    const request = toPageRequest(args);
    const page = await context.services.usage.owned(
      requirePrincipal(context),
      optionalGlobalId('Adapter', args.adapter, 'adapter'),
      { first: request.first, after: request.after === null ? null : parseOwnedKey(request.after) },
    );
    return toConnection(page, request, ({ requestId, versionId }) => `${requestId}/${versionId}`);
  },

  request: (_root, { id }, context) => context.services.usage.request(requirePrincipal(context), id),
} satisfies QueryResolvers;

function parseOwnedKey(key: string) {
  const [requestId = '', versionId = '', ...rest] = key.split('/');
  if (rest.length === 0 && isUuid(requestId) && isUuid(versionId)) return { requestId, versionId };
  throw badCursor();
}

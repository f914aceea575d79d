import type DataLoader from 'dataloader';
import type { AdapterModel, AdapterVersionModel } from '../../adapter/types.ts';
import { badCursor } from '../../db/page.ts';
import { isUuid, type Uuid } from '../../kernel/ids.ts';
import type { Tenant } from '../../tenant/service.ts';
import type { UsageTotals as UsageTotalsModel } from '../../usage/sums.ts';
import { toConnection, toPageRequest } from '../connections.ts';
import { requirePrincipal } from '../context.ts';
import type {
  InferenceRequestResolvers,
  QueryResolvers,
  UsageRecordResolvers,
  UsageSummaryResolvers,
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

/** A row with what its ids name. */
export interface NamedRow {
  readonly start: Date;
  readonly adapter: AdapterModel | null;
  readonly adapterVersion: AdapterVersionModel | null;
  readonly tenant: Tenant | null;
  readonly totals: UsageTotalsModel;
}

export const UsageSummary = {
  // Names are read before the rows are answered: a promise for each of thousands of rows takes longer than all else.
  rows: async ({ rows }, _args, { loaders }) => {
    const [adapters, versions, tenants] = await Promise.all([
      namesOf(
        loaders.adapter,
        rows.map(({ adapterId }) => adapterId),
      ),
      namesOf(
        loaders.adapterVersion,
        rows.map(({ versionId }) => versionId),
      ),
      namesOf(
        loaders.tenant,
        rows.map(({ tenantId }) => tenantId),
      ),
    ]);
    return rows.map(({ start, adapterId, versionId, tenantId, totals }) => ({
      start,
      adapter: adapters(adapterId),
      adapterVersion: versions(versionId),
      tenant: tenants(tenantId),
      totals,
    }));
  },
} satisfies UsageSummaryResolvers;

/** Loads each id once, and answers by id. */
async function namesOf<T>(
  loader: DataLoader<string, T | null>,
  ids: readonly (Uuid | null)[],
): Promise<(id: Uuid | null) => T | null> {
  const distinct = [...new Set(ids)].filter((id) => id !== null);
  const found = await Promise.all(distinct.map((id) => loader.load(id)));
  const byId = new Map(distinct.map((id, index) => [id, found[index] ?? null]));
  return (id) => (id === null ? null : (byId.get(id) ?? null));
}

export const InferenceRequest = {
  id: ({ requestId }) => requestId,
  state: ({ state }) => (state === 'running' ? 'RUNNING' : 'SETTLED'),
  usage: (view) => (view.state === 'settled' ? view.usage : null),
  commitmentSalt: ({ requestId }, _args, context) =>
    context.services.usage.commitmentSalt(requirePrincipal(context), requestId),
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

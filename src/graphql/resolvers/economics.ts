import { lineKey } from '../../economics/order.ts';
import { toConnection, toPageRequest } from '../connections.ts';
import { requirePrincipal } from '../context.ts';
import type {
  AdapterEconomicsResolvers,
  EconomicsFiguresResolvers,
  EconomicsResolvers,
  EconomicsTotalsResolvers,
  QueryResolvers,
  TenantEconomicsResolvers,
} from '../generated/types.ts';

const US_PER_SECOND = 1_000_000;

const seconds = (us: bigint): number => Number(us) / US_PER_SECOND;

export const EconomicsFigures = {
  computeSeconds: ({ computeUs }) => seconds(computeUs),
  hostByteSeconds: ({ hostByteUs }) => hostByteUs / BigInt(US_PER_SECOND),
  bankByteSeconds: ({ bankByteUs }) => bankByteUs / BigInt(US_PER_SECOND),
  loadSeconds: ({ loadUs }) => seconds(loadUs),
} satisfies EconomicsFiguresResolvers;

export const AdapterEconomics = {
  adapter: ({ adapterId }, _args, { loaders }) =>
    adapterId === null ? null : loaders.adapter.load(adapterId),
} satisfies AdapterEconomicsResolvers;

export const TenantEconomics = {
  tenant: ({ tenantId }, _args, { loaders }) => loaders.tenant.load(tenantId),
} satisfies TenantEconomicsResolvers;

export const EconomicsTotals = {
  machineSeconds: ({ machineUs }) => seconds(machineUs),
} satisfies EconomicsTotalsResolvers;

export const Economics = {
  from: ({ period }) => period.from,
  to: ({ period }) => period.to,
  machinePricePerHour: ({ price }) => price.perHour,
  memoryPercent: ({ price }) => price.memoryPercent,
  totals: (report) => report.totals(),
  adapters: async (report, args) => {
    const request = toPageRequest(args);
    const order = args.order ?? 'LOWEST_MARGIN';
    return toConnection(await report.adapterPage(order, request), request, (line) => lineKey(line, order));
  },
  tenants: async (report, args) => {
    const request = toPageRequest(args);
    const order = args.order ?? 'LOWEST_MARGIN';
    return toConnection(await report.tenantPage(order, request), request, (line) => lineKey(line, order));
  },
} satisfies EconomicsResolvers;

export const economicsQueries = {
  economics: (_root, { from, to }, context) =>
    context.services.economics.report(requirePrincipal(context), { from, to }),
} satisfies QueryResolvers;

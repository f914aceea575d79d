import { badCursor, type Page, type PageRequest } from '../../db/page.ts';
import { differencesOf } from '../../reconciliation/reconcile.ts';
import type { ReconciliationDifference as Difference } from '../../reconciliation/types.ts';
import { toConnection, toPageRequest } from '../connections.ts';
import { requirePrincipal } from '../context.ts';
import type {
  QueryResolvers,
  ReconciliationDifferenceResolvers,
  ReconciliationResolvers,
} from '../generated/types.ts';
import { requireGlobalId, toGlobalId } from '../ids.ts';

/** A difference and its place in the report, from 1: what pages go by. */
export interface PlacedDifference extends Difference {
  readonly place: number;
}

export const ReconciliationDifference = {
  tenant: ({ tenantId }) => (tenantId === null ? null : toGlobalId('Tenant', tenantId)),
} satisfies ReconciliationDifferenceResolvers;

export const Reconciliation = {
  tenant: ({ tenantId }) => (tenantId === null ? null : toGlobalId('Tenant', tenantId)),
  agrees: (report) => differencesOf(report) === 0,
  differences: ({ differences }, args) => {
    const request = toPageRequest(args);
    return toConnection(pageOf(differences, request), request, ({ place }) => String(place));
  },
} satisfies ReconciliationResolvers;

export const reconciliationQueries = {
  reconciliation: (_root, { from, to, tenant }, context) => {
    const caller = requirePrincipal(context);
    const tenantId = tenant == null ? null : requireGlobalId('Tenant', tenant, 'tenant');
    return context.services.reconciliation.report(caller, { from, to, tenantId });
  },
} satisfies QueryResolvers;

/** A page of what is in memory. */
function pageOf(all: readonly Difference[], { first, after }: PageRequest): Page<PlacedDifference> {
  if (after !== null && !/^[1-9]\d{0,8}$/.test(after)) throw badCursor();
  const start = Number(after ?? 0);
  const items = all.slice(start, start + first).map((difference, index) => ({
    ...difference,
    place: start + index + 1,
  }));
  return { items, hasNextPage: all.length > start + first };
}

import { differencesOf } from '../../reconciliation/reconcile.ts';
import type { ReconciliationDifference as Difference } from '../../reconciliation/types.ts';
import { type Placed, placedPage, toConnection, toPageRequest } from '../connections.ts';
import { requirePrincipal } from '../context.ts';
import type {
  QueryResolvers,
  ReconciliationDifferenceResolvers,
  ReconciliationResolvers,
} from '../generated/types.ts';
import { optionalGlobalId, toGlobalId } from '../ids.ts';

/** A difference and its place in the report: what pages go by. */
export type PlacedDifference = Placed<Difference>;

export const ReconciliationDifference = {
  tenant: ({ tenantId }) => (tenantId === null ? null : toGlobalId('Tenant', tenantId)),
} satisfies ReconciliationDifferenceResolvers;

export const Reconciliation = {
  tenant: ({ tenantId }) => (tenantId === null ? null : toGlobalId('Tenant', tenantId)),
  agrees: (report) => differencesOf(report) === 0,
  differences: ({ differences }, args) => {
    const request = toPageRequest(args);
    return toConnection(placedPage(differences, request), request, ({ place }) => String(place));
  },
} satisfies ReconciliationResolvers;

export const reconciliationQueries = {
  reconciliation: (_root, { from, to, tenant }, context) => {
    const caller = requirePrincipal(context);
    const tenantId = optionalGlobalId('Tenant', tenant, 'tenant');
    return context.services.reconciliation.report(caller, { from, to, tenantId });
  },
} satisfies QueryResolvers;

import type { Database } from '../../db/client.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Uuid } from '../../kernel/ids.ts';
import { compare } from '../../reconciliation/reconcile.ts';
import { requireReconciled } from '../../reconciliation/require.ts';
import type { ReconciliationRule } from '../../reconciliation/types.ts';

/** What has to agree before anything more is paid on a chain. */
const CHAIN_RULES: readonly ReconciliationRule[] = [
  'CHAIN_ORDER',
  'CHAIN_TREE',
  'CHAIN_PUBLISHED',
  'CHAIN_PAID',
  'CHAIN_CLAIMED',
  'CHAIN_BALANCE',
];

/**
 * Throws RECONCILIATION_FAILED when anything that was ever paid by a distributor does not agree with what the chain says. Other
 * distributors do not count: one that was robbed is replaced, and what it did stays as it is.
 */
export async function requireChainAgrees(
  { database, clock }: { readonly database: Pick<Database, 'withSystemPg'>; readonly clock: Clock },
  distributorId: Uuid,
): Promise<void> {
  const scope = { from: new Date(0), to: new Date(clock.nowMs() + 1), tenantId: null, distributorId };
  requireReconciled(await compare(database, scope, CHAIN_RULES), 'batch');
}

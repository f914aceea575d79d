import type { PoolClient } from 'pg';
import type { Database } from '../db/client.ts';
import type { Books } from '../invoicing/operation.ts';
import { reconcile, reconcileIn } from './reconcile.ts';
import { requireReconciled } from './require.ts';

/** The books as bills ask for them: everything of a tenant's month is reconciled, its bills among it. */
export function booksOf(database: Pick<Database, 'withSystemPg'>): Books {
  return {
    async requireAgreed(scope, field: string, client?: PoolClient) {
      const report = await (client === undefined ? reconcile(database, scope) : reconcileIn(client, scope));
      requireReconciled(report, field);
    },
  };
}

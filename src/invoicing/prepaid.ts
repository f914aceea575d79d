import type { PoolClient } from 'pg';
import type { Tx } from '../db/client.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { Period } from '../kernel/period.ts';
import type { InvoiceDocument } from './document.ts';

/**
 * What of a bill the customer's balance has paid: the total, as far as the balance at the end of the month would have
 * covered it without the month's own charges. A balance that would be below zero has paid nothing, and the rest of the
 * total is due. Charges are posted at the very time at which their requests end, and what was posted before a time never
 * changes: so it comes out the same whenever it is computed again.
 */
export async function readPrepaid(client: PoolClient, document: InvoiceDocument): Promise<bigint> {
  const { tenantId, currency, period, chargesNano, totalNano } = document;
  const { rows } = await client.query<{ readonly balance: string }>(
    // The balance without what came later: there is less of that than of what came before.
    `SELECT (b.posted - coalesce((
       SELECT sum(p.amount) FROM ledger_posting p WHERE p.account_id = b.account_id AND p.created_at >= $3), 0)
     )::text AS balance
     FROM patchbay.ledger_balances(ARRAY(
       SELECT a.id FROM ledger_account a WHERE a.tenant_id = $1 AND a.kind = 'CUSTOMER' AND a.asset = $2)) b`,
    [tenantId, currency, period.end.toISOString()],
  );
  const without = BigInt(rows[0]?.balance ?? 0) + chargesNano;
  if (without <= 0n) return 0n;
  return without < totalNano ? without : totalNano;
}

/** The how-manieth bill of the month the next one is: those before it were made void. */
export async function nextRevision(tx: Tx, tenantId: Uuid, { start }: Period): Promise<number> {
  const last = await tx.invoice.aggregate({
    where: { tenantId, periodStart: start },
    _max: { revision: true },
  });
  return (last._max.revision ?? 0) + 1;
}

import type { Tx } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { lockAccounts, runInTx } from '../ledger/statements.ts';
import type { Change } from './changes.ts';
import { resolvePayouts, returnPayouts } from './money.ts';
import type { ResultState } from './types.ts';

/** What is said of payouts is taken in one after the other, so that nothing that is said twice is done twice. */
export async function lockOutcomes(tx: Tx): Promise<void> {
  await tx.$queryRaw`SELECT pg_advisory_xact_lock(hashtextextended('patchbay.payouts.import', 0))::text`;
}

/** Moves payouts and their money on, in one transaction with what says so. */
export async function applyChanges(
  tx: Tx,
  clock: Clock,
  changes: readonly Change[],
  said: {
    /** Who said it first and who last, as far as it frees money; nobody where nothing of it does. */
    readonly first: Uuid | null;
    readonly by: Uuid | null;
    readonly at: Date;
  },
): Promise<void> {
  const { first, by, at } = said;
  // One order of locks for all that is moved below.
  await lockAccounts(runInTx(tx), [...new Set(changes.map(({ payout }) => payout.accountId))]);
  const those = (state: ResultState) =>
    changes.filter((change) => change.state === state).map(({ payout }) => payout);
  const returned = those('RETURNED').map((payout) => ({ ...payout, returnTransferId: newId(clock) }));
  await returnPayouts(tx, clock, returned, at);
  await resolvePayouts(tx, clock, those('PAID'), those('FAILED'), at);
  const transfers = new Map(returned.map(({ id, returnTransferId }) => [id, returnTransferId]));
  const ids = changes.map(({ payout }) => payout.id);
  const states = changes.map(({ state }) => state);
  const references = changes.map(({ reference }) => reference ?? '');
  const returns = ids.map((id) => transfers.get(id) ?? '');
  await tx.$executeRaw`
    UPDATE payout p SET state = c.state, state_changed_at = ${at}::timestamptz,
      bank_reference = CASE c.state WHEN 'RETURNED' THEN p.bank_reference ELSE nullif(c.reference, '') END,
      return_reference = CASE c.state WHEN 'RETURNED' THEN c.reference END,
      return_transfer_id = nullif(c.transfer, '')::uuid,
      release_requested_by = CASE WHEN c.state IN ('FAILED', 'RETURNED') THEN ${first}::uuid END,
      released_by = CASE WHEN c.state IN ('FAILED', 'RETURNED') THEN ${by}::uuid END
    FROM unnest(${ids}::uuid[], ${states}::text[], ${references}::text[], ${returns}::text[])
      AS c(id, state, reference, transfer)
    WHERE p.id = c.id`;
}

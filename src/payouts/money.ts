import type { Tx } from '../db/client.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Clock } from '../kernel/clock.ts';
import { invariant } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { openAccountOn } from '../ledger/accounts.ts';
import { captureAll, holdAll, lockAccounts, postAll, runInTx, voidAll } from '../ledger/statements.ts';
import type { Run, Transfer } from '../ledger/types.ts';

/** What the ledger knows a payout's hold by, and the transfer that brings a payment back. */
const REFERENCE_TYPE = 'payout';
const RETURN_TYPE = 'payout_return';

/** A payout as the ledger sees it. */
export interface HeldPayout {
  readonly id: Uuid;
  readonly accountId: Uuid;
  readonly holdId: Uuid;
  readonly currency: string;
  readonly amountNano: bigint;
}

/** Holds the amounts; answers the ids of those that fit, all of which are new. */
export async function holdPayouts(
  tx: Tx,
  payouts: readonly (HeldPayout & { readonly paymentKey: string })[],
  at: Date,
): Promise<ReadonlySet<Uuid>> {
  const holds = payouts.map(({ id, accountId, holdId, amountNano, paymentKey }) => ({
    id: holdId,
    accountId,
    amount: amountNano,
    key: `payout:${paymentKey}`,
    referenceId: id,
    expiresAt: null,
  }));
  const results = await holdAll(runInTx(tx), holds, REFERENCE_TYPE, at);
  const held = new Set<Uuid>();
  for (const [index, { outcome }] of results.entries()) {
    // A correction came in between; what is left is carried over.
    if (outcome === 'REFUSED') continue;
    invariant(outcome === 'HELD', `the hold of a payout is new, and not ${outcome}`);
    const payout = payouts[index];
    if (payout !== undefined) held.add(payout.id);
  }
  return held;
}

/** Moves what is held of `paid` out, and gives back what is held of `released`. */
export async function resolvePayouts(
  tx: Tx,
  clock: Clock,
  paid: readonly HeldPayout[],
  released: readonly HeldPayout[],
  at: Date,
): Promise<void> {
  const run = runInTx(tx);
  const all = [...paid, ...released];
  if (all.length === 0) return;
  await lockAccounts(run, [...new Set(all.map(({ accountId }) => accountId))]);
  const cash = new Map<string, Uuid>();
  for (const { currency } of paid) {
    if (!cash.has(currency)) cash.set(currency, await cashAccount(run, clock, currency, at));
  }
  const captures = paid.map(({ holdId, amountNano, currency }) => ({
    id: newId(clock),
    holdId,
    amount: amountNano,
    credits: [{ accountId: cash.get(currency) ?? '', amount: amountNano, subjectId: null }],
  }));
  for (const { outcome } of await captureAll(run, captures, at)) {
    invariant(outcome === 'POSTED', `a payout is captured once, and not ${outcome}`);
  }
  const releases = released.map(({ holdId }) => ({ id: newId(clock), holdId }));
  for (const { outcome } of await voidAll(run, releases, at)) {
    invariant(outcome === 'RELEASED', `a payout is released once, and not ${outcome}`);
  }
}

/** A payout that was paid and came back, with the transfer that puts it back. */
export interface ReturnedPayout extends HeldPayout {
  readonly tenantId: Uuid;
  readonly returnTransferId: Uuid;
}

/** Takes what came back from outside in again. Its key is the payout, so that it comes back once. */
export async function returnPayouts(
  tx: Tx,
  clock: Clock,
  returned: readonly ReturnedPayout[],
  at: Date,
): Promise<void> {
  if (returned.length === 0) return;
  const run = runInTx(tx);
  const transfers: Transfer[] = [];
  for (const { id, tenantId, accountId, currency, amountNano, returnTransferId } of returned) {
    const cash = await cashAccount(run, clock, currency, at);
    transfers.push({
      ...{ id: returnTransferId, tenantId, asset: currency, key: `payout.return:${id}` },
      ...{ referenceType: RETURN_TYPE, referenceId: id },
      lines: [
        { accountId: cash, amount: -amountNano, subjectId: null },
        { accountId, amount: amountNano, subjectId: null },
      ],
    });
  }
  for (const { outcome } of await postAll(run, transfers, at)) {
    invariant(outcome === 'POSTED', `a payout comes back once, and not ${outcome}`);
  }
}

/** The world outside, in the currency. */
function cashAccount(run: Run, clock: Clock, currency: string, at: Date): Promise<Uuid> {
  const cash = { id: newId(clock), tenantId: PLATFORM_TENANT_ID, kind: 'CASH' as const, asset: currency };
  return openAccountOn(run, cash, at);
}

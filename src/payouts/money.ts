import { z } from 'zod';
import type { Tx } from '../db/client.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Clock } from '../kernel/clock.ts';
import { invariant } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { captureAll, holdAll, voidAll } from '../ledger/statements.ts';
import type { Run } from '../ledger/types.ts';

/** What the ledger knows a payout's hold by. */
const REFERENCE_TYPE = 'payout';

/** A payout as the ledger sees it. */
export interface HeldPayout {
  readonly id: Uuid;
  readonly accountId: Uuid;
  readonly holdId: Uuid;
  readonly currency: string;
  readonly amountNano: bigint;
}

/** Runs the ledger's statements inside of a Prisma transaction. */
export function runInTx(tx: Tx): Run {
  return ({ text, values }) => tx.$queryRawUnsafe(text, ...values);
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
  await lockAccounts(tx, [...new Set(all.map(({ accountId }) => accountId))]);
  const cash = new Map<string, Uuid>();
  for (const { currency } of paid) {
    if (!cash.has(currency)) cash.set(currency, await cashAccount(tx, clock, currency, at));
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

/** As the ledger's own, which answers nothing: Prisma reads no column of that type. */
async function lockAccounts(tx: Tx, accountIds: readonly Uuid[]): Promise<void> {
  await tx.$queryRaw`SELECT patchbay.ledger_lock(${[...accountIds]}::uuid[])::text`;
}

const opened = z.array(z.object({ id: z.string() }));

/** The world outside, in the currency. */
async function cashAccount(tx: Tx, clock: Clock, currency: string, at: Date): Promise<Uuid> {
  const [row] = opened.parse(
    await tx.$queryRaw`
      SELECT patchbay.ledger_open_account(
        ${newId(clock)}::uuid, ${PLATFORM_TENANT_ID}::uuid, 'CASH', ${currency}, ${at}::timestamptz) AS id`,
  );
  invariant(row !== undefined, 'opening an account answers its id');
  return row.id;
}

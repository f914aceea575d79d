import type { PoolClient } from 'pg';
import type { FundsRefusal } from '../kernel/budget.ts';
import { invariant } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { QuotaLimits } from '../kernel/quota.ts';
import { captureAll, holdAll, lockAccounts, runOn, voidAll } from '../ledger/statements.ts';
import { chargeBudgets, type Ending } from './budgets.ts';
import { chargeQuotas, type QuotaCharge, type QuotaRefundRow } from './quota.ts';
import type { Admission, HoldRef, Refusal, Settlement, Withdrawal } from './types.ts';

/** What inference transfers are about, in the ledger. */
const REFERENCE = 'inference';

/** What a transaction did with requests, before money moved. */
export interface MoneyWork {
  /** Admissions that were written just now; a repeated one was charged when it was committed. */
  readonly admitted: readonly Admission[];
  /** Settlements that were written just now. */
  readonly settled: readonly Settlement[];
  /** Admissions that were taken back, whether or not there was one. */
  readonly withdrawn: readonly Withdrawal[];
  /** What settled and withdrawn requests leave of their quotas. */
  readonly refunds: readonly QuotaRefundRow[];
}

/**
 * Locks the accounts of the ledger that a transaction is going to hold or capture from. It comes before every other lock
 * of money and quotas, because two transactions that lock the same customers in different orders wait for each other.
 */
export async function lockHolds(client: PoolClient, holds: readonly (HoldRef | null)[]): Promise<void> {
  const accounts = new Set(holds.flatMap((hold) => (hold === null ? [] : [hold.accountId])));
  if (accounts.size > 0) await lockAccounts(runOn(client), [...accounts]);
}

/**
 * Moves the money of a transaction: captures what settled requests cost, releases what never ran, charges budgets and
 * quotas, and holds what admissions may cost. Answers the admissions that do not fit; `takeBack` has removed them then,
 * and what they were charged on the way is given back.
 *
 * Holds come last although money matters most: the accounts are locked already, so they wait for nobody, and a request
 * that a budget or a quota refuses leaves no trace in the ledger, where nothing can be removed.
 */
export async function moveMoney(
  client: PoolClient,
  work: MoneyWork,
  quotas: QuotaLimits,
  takeBack: (requestIds: readonly Uuid[]) => Promise<readonly QuotaRefundRow[]>,
): Promise<ReadonlyMap<Uuid, Refusal>> {
  await capture(client, work.settled);
  await release(client, work.withdrawn);
  const overBudget = await chargeBudgets(client, work.admitted, endings(work));
  // Before quotas, which count the requests of a tenant that are there.
  await takeBack([...overBudget.keys()]);
  const inBudget = work.admitted.filter(({ requestId }) => !overBudget.has(requestId));
  const overQuota = await chargeQuotas(client, inBudget.map(quotaCharge), work.refunds, quotas);
  const inQuota = inBudget.filter(({ requestId }) => !overQuota.has(requestId));
  const unfunded = await hold(client, inQuota);
  const charged = [...overQuota.keys(), ...unfunded.keys()];
  const refunds = await takeBack(charged);
  await chargeBudgets(client, [], charged.map(neverRan));
  const unfundedRefunds = refunds.filter(({ id }) => unfunded.has(id));
  await chargeQuotas(client, [], unfundedRefunds, quotas);
  return new Map<Uuid, Refusal>([
    ...[...overBudget].map(([id, refusal]): [Uuid, Refusal] => [id, { what: 'budget', ...refusal }]),
    ...[...overQuota].map(([id, refusal]): [Uuid, Refusal] => [id, { what: 'quota', ...refusal }]),
    ...[...unfunded].map(([id, refusal]): [Uuid, Refusal] => [id, { what: 'funds', ...refusal }]),
  ]);
}

/** Budgets hold something only of requests that hold something in the ledger. */
function endings({ settled, withdrawn }: MoneyWork): readonly Ending[] {
  return [
    ...settled.filter(({ capture }) => capture !== null),
    ...withdrawn.filter(({ hold }) => hold !== null).map(({ requestId }) => neverRan(requestId)),
  ];
}

function neverRan(requestId: Uuid): Ending {
  return { requestId, charge: null };
}

function quotaCharge({ requestId, tenantId, promptTokens, maxTokens }: Admission): QuotaCharge {
  return { id: requestId, tenantId, promptTokens, completionTokens: maxTokens };
}

/** Captures what settled requests cost; the rest of each hold is released with it. */
async function capture(client: PoolClient, settled: readonly Settlement[]): Promise<void> {
  const captures = settled.flatMap(({ charge, capture: of }) =>
    of === null
      ? []
      : [
          {
            id: of.id,
            holdId: of.hold.id,
            amount: charge?.amount ?? 0n,
            credits: charge?.credits ?? [],
          },
        ],
  );
  if (captures.length === 0) return;
  for (const [index, { outcome }] of (await captureAll(runOn(client), captures, null)).entries()) {
    // The admission row went in this transaction, so its hold cannot have been resolved in another.
    invariant(outcome === 'POSTED', `the hold ${captures[index]?.holdId} is captured: ${outcome}`);
  }
}

/** Releases holds of requests that never ran; one that was never committed has none. */
async function release(client: PoolClient, withdrawn: readonly Withdrawal[]): Promise<void> {
  const releases = withdrawn.flatMap(({ hold: held, releaseId }) =>
    held === null ? [] : [{ id: releaseId, holdId: held.id }],
  );
  if (releases.length > 0) await voidAll(runOn(client), releases, null);
}

/** Holds what admissions may cost; answers those whose customer has less. */
async function hold(
  client: PoolClient,
  admitted: readonly Admission[],
): Promise<ReadonlyMap<Uuid, FundsRefusal>> {
  const wanted = admitted.flatMap(({ requestId, charge }) =>
    charge.hold === null ? [] : [{ requestId, amount: charge.amount, hold: charge.hold }],
  );
  if (wanted.length === 0) return new Map();
  const holds = wanted.map(({ requestId, amount, hold: { id, accountId } }) => ({
    id,
    accountId,
    amount,
    key: `${REFERENCE}:${requestId}`,
    referenceId: requestId,
    // Settlement or recovery resolves it with the admission's row; it must not run out under a request that runs.
    expiresAt: null,
  }));
  const results = await holdAll(runOn(client), holds, REFERENCE, null);
  return new Map(
    wanted.flatMap(({ requestId, amount }, index): [Uuid, FundsRefusal][] => {
      const result = results[index];
      if (result?.outcome === 'REFUSED') return [[requestId, { amount, available: result.available ?? 0n }]];
      invariant(result?.outcome === 'HELD', `what request ${requestId} may cost is held: ${result?.outcome}`);
      return [];
    }),
  );
}

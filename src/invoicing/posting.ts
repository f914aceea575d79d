import type { Tx } from '../db/client.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Clock } from '../kernel/clock.ts';
import { invariant } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { balancesOn, openAccountOn } from '../ledger/accounts.ts';
import { ledgerConflict, mapLedgerError } from '../ledger/errors.ts';
import { lockAccounts, postAll, runInTx } from '../ledger/statements.ts';
import { AMOUNT_MAX, type Transfer } from '../ledger/types.ts';

/** The two accounts between which a bill moves money. */
export interface BillingAccounts {
  /** The tenant's. */
  readonly customer: Uuid;
  /** The platform's: what it bears, or what comes in from outside. */
  readonly platform: Uuid;
}

/** Money that a bill moves between the two accounts. */
export interface Movement {
  readonly tenantId: Uuid;
  readonly currency: string;
  /** To the customer, or from the customer. */
  readonly direction: 'CREDIT' | 'DEBIT';
  /** Zero moves nothing. */
  readonly amountNano: bigint;
  /** Unique within the tenant, so that it happens once. */
  readonly key: string;
  readonly referenceType: 'invoice' | 'invoice_payment' | 'credit_note';
  readonly referenceId: Uuid;
}

/** The accounts of a tenant's bills, opened when there are none; the platform's is what it bears unless said otherwise. */
export async function billingAccounts(
  tx: Tx,
  clock: Clock,
  tenantId: Uuid,
  currency: string,
  platform: 'ADJUSTMENT' | 'CASH' = 'ADJUSTMENT',
): Promise<BillingAccounts> {
  const open = (owner: Uuid, kind: 'CUSTOMER' | typeof platform): Promise<Uuid> => {
    const account = { id: newId(clock), tenantId: owner, kind, asset: currency };
    return openAccountOn(runInTx(tx), account, new Date(clock.nowMs()));
  };
  return {
    customer: await open(tenantId, 'CUSTOMER'),
    platform: await open(PLATFORM_TENANT_ID, platform),
  };
}

/** What the customer has available, locked until the transaction ends: nothing else can take it before. */
export async function lockAvailable(tx: Tx, { customer }: BillingAccounts): Promise<bigint> {
  const run = runInTx(tx);
  await lockAccounts(run, [customer]);
  const [balance] = await balancesOn(run, [customer]);
  invariant(balance !== undefined, 'an account that is open has a balance');
  return balance.available;
}

/**
 * Posts movements; answers the ids of their transfers. What the ledger cannot take in one transfer goes in several, each
 * with a key of its own.
 */
export async function postMovements(
  tx: Tx,
  clock: Clock,
  accounts: BillingAccounts,
  movements: readonly Movement[],
): Promise<readonly Uuid[]> {
  const transfers = movements.flatMap((movement) => transfersOf(clock, accounts, movement));
  if (transfers.length === 0) return [];
  try {
    const results = await postAll(runInTx(tx), transfers, new Date(clock.nowMs()));
    const refused = results.find(({ outcome }) => outcome !== 'POSTED' && outcome !== 'REPLAYED');
    if (refused !== undefined) throw ledgerConflict('The bill was posted with other amounts.', refused.id);
    return results.map(({ id }) => id);
  } catch (error) {
    throw mapLedgerError(error);
  }
}

function transfersOf(clock: Clock, accounts: BillingAccounts, movement: Movement): readonly Transfer[] {
  const sign = movement.direction === 'CREDIT' ? 1n : -1n;
  return pieces(movement.amountNano).map((amount, index) => ({
    id: newId(clock),
    tenantId: movement.tenantId,
    asset: movement.currency,
    key: index === 0 ? movement.key : `${movement.key}:${index + 1}`,
    referenceType: movement.referenceType,
    referenceId: movement.referenceId,
    lines: [
      { accountId: accounts.platform, amount: -sign * amount, subjectId: null },
      { accountId: accounts.customer, amount: sign * amount, subjectId: null },
    ],
  }));
}

/** An amount in pieces that the ledger takes; none for zero. */
export function pieces(amount: bigint): readonly bigint[] {
  const whole = Array.from({ length: Number(amount / AMOUNT_MAX) }, () => AMOUNT_MAX);
  const rest = amount % AMOUNT_MAX;
  return rest === 0n ? whole : [...whole, rest];
}

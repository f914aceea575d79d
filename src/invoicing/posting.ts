import { z } from 'zod';
import type { Tx } from '../db/client.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Clock } from '../kernel/clock.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { ledgerConflict, mapLedgerError } from '../ledger/errors.ts';
import { postAll } from '../ledger/statements.ts';
import { AMOUNT_MAX, type Run, type Transfer } from '../ledger/types.ts';

/** The two accounts between which a bill moves money. */
export interface BillingAccounts {
  /** The tenant's. */
  readonly customer: Uuid;
  /** The platform's: what it bears. */
  readonly adjustment: Uuid;
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
  readonly referenceType: 'invoice' | 'credit_note';
  readonly referenceId: Uuid;
}

const idRow = z.array(z.object({ id: z.string() }));
const availableRow = z.array(z.object({ available: z.string() }));

/** Runs the ledger's batches inside of a transaction of Prisma's. */
export function runIn(tx: Tx): Run {
  return async ({ text, values }) => tx.$queryRawUnsafe(text, ...values);
}

/** The accounts of a tenant's bills, opened when there are none. */
export async function billingAccounts(
  tx: Tx,
  clock: Clock,
  tenantId: Uuid,
  currency: string,
): Promise<BillingAccounts> {
  const open = async (owner: Uuid, kind: 'CUSTOMER' | 'ADJUSTMENT'): Promise<Uuid> => {
    const [row] = idRow.parse(
      await tx.$queryRaw`
        SELECT patchbay.ledger_open_account(
          ${newId(clock)}::uuid, ${owner}::uuid, ${kind}, ${currency}, ${new Date(clock.nowMs())}::timestamptz) AS id`,
    );
    if (row === undefined) throw new Error('Opening an account returned no row');
    return row.id;
  };
  return {
    customer: await open(tenantId, 'CUSTOMER'),
    adjustment: await open(PLATFORM_TENANT_ID, 'ADJUSTMENT'),
  };
}

/** What the customer has available, locked until the transaction ends: nothing else can take it before. */
export async function lockAvailable(tx: Tx, { customer }: BillingAccounts): Promise<bigint> {
  await tx.$executeRaw`SELECT patchbay.ledger_lock(ARRAY[${customer}::uuid])`;
  const [row] = availableRow.parse(
    await tx.$queryRaw`
      SELECT available::text AS available FROM patchbay.ledger_balances(ARRAY[${customer}::uuid])`,
  );
  if (row === undefined) throw new Error('An account that is open has no balance');
  return BigInt(row.available);
}

/** Posts movements. What the ledger cannot take in one transfer goes in several, each with a key of its own. */
export async function postMovements(
  tx: Tx,
  clock: Clock,
  accounts: BillingAccounts,
  movements: readonly Movement[],
): Promise<void> {
  const transfers = movements.flatMap((movement) => transfersOf(clock, accounts, movement));
  if (transfers.length === 0) return;
  try {
    const results = await postAll(runIn(tx), transfers, new Date(clock.nowMs()));
    const refused = results.find(({ outcome }) => outcome !== 'POSTED' && outcome !== 'REPLAYED');
    if (refused !== undefined) throw ledgerConflict('The bill was posted with other amounts.', refused.id);
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
      { accountId: accounts.adjustment, amount: -sign * amount, subjectId: null },
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

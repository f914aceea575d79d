import { z } from 'zod';
import { SQLSTATE, sqlState } from '../db/errors.ts';
import { PatchbayError } from '../kernel/errors.ts';

const withConstraint = z.object({ constraint: z.string() });

/** What a transfer breaks that the database refuses. */
const REFUSALS: readonly (string | null)[] = [
  SQLSTATE.checkViolation,
  SQLSTATE.numericValueOutOfRange,
  SQLSTATE.foreignKeyViolation,
];

/** Says in the ledger's words what the database refused; anything else is returned as it is. */
export function mapLedgerError(thrown: unknown): unknown {
  const state = sqlState(thrown);
  if (state === SQLSTATE.checkViolation && constraintOf(thrown) === 'ledger_balance_within_limit') {
    return new PatchbayError('BUDGET_EXCEEDED', 'The account has less than that available.', {
      cause: thrown,
    });
  }
  if (!REFUSALS.includes(state)) return thrown;
  const constraint = constraintOf(thrown);
  return new PatchbayError('LEDGER_INVALID', 'The database refuses the transfer.', {
    cause: thrown,
    ...(constraint === null ? {} : { meta: { rule: constraint } }),
  });
}

function constraintOf(thrown: unknown): string | null {
  return withConstraint.safeParse(thrown).data?.constraint ?? null;
}

/** The error of a hold that does not fit. Amounts are text, because they may pass 2^53. */
export function budgetExceeded(
  amount: bigint,
  available: bigint | null,
  meta: Readonly<Record<string, string>>,
): PatchbayError {
  return new PatchbayError('BUDGET_EXCEEDED', 'The account has less available than this may cost.', {
    meta: { ...meta, amount: String(amount), available: available === null ? null : String(available) },
  });
}

/** The error of an operation whose key or hold was used for something else. */
export function ledgerConflict(message: string, id: string): PatchbayError {
  return new PatchbayError('LEDGER_CONFLICT', message, { meta: { transferId: id } });
}

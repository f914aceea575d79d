import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { type AccountKind, AMOUNT_MAX, type Balance } from '../ledger/types.ts';

/** Why an operator moves money of a tenant. */
export type MoveKind = 'TOP_UP' | 'REFUND' | 'CORRECTION';

/** Money to move. */
export interface MoveInput {
  readonly idempotencyKey: string;
  readonly tenantId: Uuid;
  readonly kind: MoveKind;
  /** In favour of the tenant when positive. */
  readonly amount: bigint;
  /** What the tenant and the audit log are told; null only for a top-up. */
  readonly reason: string | null;
}

/** A customer's money, in nano-units of the currency. */
export interface CustomerBalance {
  readonly currency: string;
  readonly posted: bigint;
  readonly held: bigint;
  readonly creditLimit: bigint;
  /** Below which credit limit and posted the tenant is told that it runs low; 0 is never. */
  readonly alertBelow: bigint;
  readonly available: bigint;
}

interface Move {
  readonly operation: string;
  readonly action: string;
  readonly referenceType: string;
  readonly from: AccountKind;
}

/** How each kind of move is named, and which account of the platform's is on its other side. */
export const MOVES: Readonly<Record<MoveKind, Move>> = {
  TOP_UP: { operation: 'topUp', action: 'balance.topUp', referenceType: 'top_up', from: 'CASH' },
  REFUND: {
    operation: 'adjustBalance',
    action: 'balance.adjust',
    referenceType: 'refund',
    from: 'ADJUSTMENT',
  },
  CORRECTION: {
    operation: 'adjustBalance',
    action: 'balance.adjust',
    referenceType: 'correction',
    from: 'ADJUSTMENT',
  },
};

const REASON_CHARS_MAX = 500;

/** Throws `BAD_INPUT` for an amount or a reason that no move of the kind can have. */
export function checkMove({ kind, amount, reason }: MoveInput): void {
  const least = kind === 'CORRECTION' ? -AMOUNT_MAX : 1n;
  if (amount === 0n || amount < least || amount > AMOUNT_MAX) {
    const range = kind === 'CORRECTION' ? `${least} to ${AMOUNT_MAX}, and not 0` : `1 to ${AMOUNT_MAX}`;
    throw new PatchbayError('BAD_INPUT', `The amount is ${range} nano-units.`, { field: 'amount' });
  }
  const length = reason?.trim().length ?? 0;
  if (length === 0 && kind !== 'TOP_UP') {
    throw new PatchbayError('BAD_INPUT', 'Say why the balance changes.', { field: 'reason' });
  }
  if (length > REASON_CHARS_MAX) {
    throw new PatchbayError('BAD_INPUT', `A reason has at most ${REASON_CHARS_MAX} characters.`, {
      field: 'reason',
    });
  }
}

export function toCustomerBalance(balance: Balance): CustomerBalance {
  const { asset, posted, held, creditLimit, alertBelow, available } = balance;
  return { currency: asset, posted, held, creditLimit, alertBelow, available };
}

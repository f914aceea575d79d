import { type Actor, requireOperatorScope } from '../auth/principal.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';

/** The key of the operator who acts, if it may move money. The program itself has none, and moves no money by itself. */
export function operatorKey(actor: Actor): Uuid {
  requireOperatorScope(actor, 'payouts:write');
  if (actor.keyId !== null) return actor.keyId;
  throw new PatchbayError('FORBIDDEN', 'Payouts are made by an operator with a key.');
}

/** The error for something that cannot be done in the state in which the thing is. */
export function wrongState(what: string, state: string, fix: string, field: string): PatchbayError {
  return new PatchbayError('PAYOUT_STATE', `The ${what} is ${state}.`, { field, fix, meta: { state } });
}

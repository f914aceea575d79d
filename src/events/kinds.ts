import { type Actor, requireScope, type Scope } from '../auth/principal.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { EventFilter } from './types.ts';

/** Every kind of event that something writes, and what it tells of. docs/concepts/budgets.md lists their payloads. */
export const EVENT_KINDS: Readonly<Record<string, string>> = {
  'adapter.state': 'An adapter version was made, or its state changed.',
  'balance.adjusted': 'An operator topped the balance up, refunded or corrected it.',
  'balance.low': 'What is left of the balance fell below its threshold.',
  'budget.exhausted': 'A budget refused a request for the first time in its period.',
  'budget.threshold': 'What was spent of a budget reached one of its thresholds.',
  'credit_note.created': 'A credit note was written on an invoice.',
  'earnings.adjusted': 'An operator corrected what a beneficiary has earned.',
  'epoch.quarantined': 'An epoch was closed over requests that do not match; the platform’s own.',
  'invoice.finalised': 'An invoice is final.',
  'invoice.paid': 'An invoice was paid.',
  'invoice.voided': 'An invoice was voided.',
  'payout.state': 'A payout was made, or its state changed.',
  'payout_batch.state': 'A batch of payouts was made, or its state changed; the platform’s own.',
  'payout_tree.foreign':
    'On the chain a tree was published that is none of this installation’s; the platform’s own.',
  'request.settled': 'A request has ended, with what it used and cost.',
};

/** What a key must be allowed to read to see events of the kind. */
export function scopeOfKind(kind: string): Scope {
  const [domain] = kind.split('.');
  if (domain === 'adapter') return 'adapters:read';
  return domain === 'request' || domain === 'epoch' ? 'usage:read' : 'billing:read';
}

/**
 * What the actor gets who asks for these kinds. Without kinds, everything that its scopes let it see; of kinds that are
 * named, all or nothing.
 *
 * @throws PatchbayError `BAD_INPUT` for a kind that nothing writes, `FORBIDDEN` for one that the key may not see.
 */
export function filterFor(actor: Actor, kinds: readonly string[] | null): EventFilter {
  if (kinds !== null && kinds.length > 0) {
    for (const [index, kind] of kinds.entries()) {
      if (Object.hasOwn(EVENT_KINDS, kind)) continue;
      throw new PatchbayError('BAD_INPUT', 'Nothing writes events of this kind.', {
        field: `kinds.${index}`,
        fix: `Name kinds out of ${Object.keys(EVENT_KINDS).join(', ')}.`,
      });
    }
    for (const kind of kinds) requireScope(actor, scopeOfKind(kind));
    return { kinds: [...new Set(kinds)] };
  }
  const seen = Object.keys(EVENT_KINDS).filter((kind) => actor.scopes.includes(scopeOfKind(kind)));
  if (seen.length === 0) requireScope(actor, 'billing:read');
  return { kinds: seen };
}

import type { TransactionStatus } from '../outbox/types.ts';

/** What the contract has for an epoch, next to what it should have. */
export type Match = 'NONE' | 'SAME' | 'OTHER';

/** What is known of an epoch that is not anchored for good. */
export interface AnchorSituation {
  /** How many transactions were ordered for it so far. */
  readonly orders: number;
  /** What has become of the last of them; null without any. */
  readonly transaction: TransactionStatus | null;
  /** In the newest block. */
  readonly newest: Match;
  /** In the newest block that counts as final. */
  readonly final: Match;
}

/** What follows. */
export type AnchorStep =
  | {
      readonly kind: 'ANCHORED';
      /** The transaction of ours that did it; null when the epoch was there without one. */
      readonly included: TransactionStatus['included'];
    }
  | { readonly kind: 'DIFFERS' }
  /** A transaction is ordered. The next epoch waits until it is in a block, as its own is checked against that state. */
  | { readonly kind: 'ORDER' }
  | {
      readonly kind: 'WAIT';
      /** Whether the next epoch can be looked at already. */
      readonly goOn: boolean;
    }
  /** Its transaction was final, and what it did is not there. Another one must not be ordered: the first may come back. */
  | { readonly kind: 'LOST'; readonly included: TransactionStatus['included'] };

/** Decides what to do about an epoch. */
export function decideAnchor({ orders, transaction, newest, final }: AnchorSituation): AnchorStep {
  if (final === 'OTHER') return { kind: 'DIFFERS' };
  const wait: AnchorStep = { kind: 'WAIT', goOn: newest === 'SAME' };
  const isOver = orders === 0 || transaction?.state === 'REVERTED';
  if (isOver) {
    if (final === 'SAME') return { kind: 'ANCHORED', included: null };
    // Somebody else's, which is not final yet: it may be taken back.
    return newest === 'NONE' ? { kind: 'ORDER' } : wait;
  }
  if (transaction?.state === 'FINAL' && newest !== 'SAME') {
    return { kind: 'LOST', included: transaction.included };
  }
  if (final !== 'SAME') return wait;
  if (transaction?.state === 'FINAL') return { kind: 'ANCHORED', included: transaction.included };
  // Somebody else was quicker; ours will change nothing.
  return transaction?.state === 'QUEUED' ? { kind: 'ANCHORED', included: null } : wait;
}

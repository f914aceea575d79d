import { createHash } from 'node:crypto';
import type { Uuid } from '../kernel/ids.ts';
import type { RailKind } from './rail.ts';

/** What makes a payment this payment and no other. */
export interface PaymentContent {
  readonly beneficiary: Uuid;
  readonly earnedBefore: Date;
  readonly amountNano: bigint;
  readonly currency: string;
  readonly kind: RailKind;
  readonly accountName: string;
  readonly accountReference: string;
}

/**
 * The key of a payment: lower-case hex SHA-256 over its content, one value a line. It depends on nothing of the attempt,
 * so whoever pays the same again pays the same key. The database computes it too and refuses another.
 */
export function paymentKey(content: PaymentContent): string {
  const lines = [
    'patchbay:payout:v1',
    content.beneficiary,
    String(content.earnedBefore.getTime()),
    String(content.amountNano),
    content.currency,
    content.kind,
    content.accountName,
    content.accountReference,
  ];
  return createHash('sha256').update(lines.join('\n'), 'utf8').digest('hex');
}

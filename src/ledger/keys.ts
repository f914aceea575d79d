import { createHash } from 'node:crypto';

/**
 * The business key of what a client's idempotency key moves: the ledger keeps it longer than the record of the request is
 * kept. A client's key may be as long as the ledger's may, and one key may be used for several operations.
 */
export function businessKey(operation: string, idempotencyKey: string): string {
  return `${operation}:${createHash('sha256').update(idempotencyKey).digest('hex')}`;
}

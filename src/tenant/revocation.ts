import type { Tx } from '../db/client.ts';
import type { Uuid } from '../kernel/ids.ts';

/** Notified with a key's id, in the transaction that ends the key, so that every process can end its sockets. */
export const KEY_REVOKED_CHANNEL = 'patchbay_key_revoked';

/** Tells every process, when the transaction commits, to ask about the keys anew and to end what runs on them. */
export async function notifyRevoked(tx: Tx, ids: readonly Uuid[]): Promise<void> {
  await tx.$executeRaw`SELECT pg_notify(${KEY_REVOKED_CHANNEL}, id::text) FROM unnest(${[...ids]}::uuid[]) AS id`;
}

import type { Tx } from '../db/client.ts';
import type { Uuid } from '../kernel/ids.ts';
import { type ApiKey, toApiKey } from './key-issuer.ts';

/**
 * The keys that a member's keys made or rotated, those that these made, and so on: whoever makes a key has seen its
 * secret. Those of the member are left out, and those that work no more. Oldest first.
 */
export async function keysMadeBy(tx: Tx, memberId: Uuid, at: Date): Promise<readonly ApiKey[]> {
  const found = await tx.$queryRaw<{ readonly id: Uuid }[]>`
    WITH RECURSIVE made AS (
      SELECT id FROM api_key WHERE member_id = ${memberId}::uuid
      UNION
      SELECT k.id FROM made m JOIN api_key k ON k.created_by = m.id OR k.rotated_from = m.id
    )
    SELECT id FROM made`;
  const rows = await tx.apiKey.findMany({
    where: {
      id: { in: found.map(({ id }) => id) },
      revokedAt: null,
      AND: [
        { OR: [{ memberId: null }, { memberId: { not: memberId } }] },
        { OR: [{ expiresAt: null }, { expiresAt: { gt: at } }] },
      ],
    },
    orderBy: { id: 'asc' },
  });
  return rows.map(toApiKey);
}

import type { Database } from '../db/client.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { isUuid, type Uuid } from '../kernel/ids.ts';

/** The id of the tenant that a slug or an id names. */
export async function findTenant(database: Database, text: string): Promise<Uuid> {
  const where = isUuid(text) ? { id: text } : { slug: text };
  const found = await database.withSystem((tx) => tx.tenant.findFirst({ where, select: { id: true } }));
  if (found !== null) return found.id;
  throw new PatchbayError('NOT_FOUND', `There is no tenant ${JSON.stringify(text)}.`, {
    field: 'tenant',
    fix: 'Give the slug or the uuid of a tenant; the `tenants` query lists them.',
  });
}

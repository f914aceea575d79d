import { z } from 'zod';
import type { Tx } from '../db/client.ts';
import type { Uuid } from '../kernel/ids.ts';
import { type QuotaKind, type QuotaLimits, quotaExceeded } from '../kernel/quota.ts';

const HOUR_MS = 3_600_000;

const limitsRow = z.object({
  adapters: z.bigint().nullable(),
  storage_bytes: z.bigint().nullable(),
  uploads_per_hour: z.bigint().nullable(),
});
const useRow = z.object({
  adapters: z.bigint(),
  storage_bytes: z.bigint(),
  uploads: z.bigint(),
  known: z.boolean(),
});

/** An upload that somebody wants to open. */
interface Wanted {
  readonly tenantId: Uuid;
  readonly name: string;
  readonly bytes: number;
  readonly now: Date;
}

/**
 * Throws `QUOTA_EXCEEDED` unless the upload fits below what the tenant may have. The caller holds the lock in which
 * openings of the tenant queue, on whichever replica, so that what is counted here is still so at the commit.
 */
export async function requireUploadQuotas(tx: Tx, defaults: QuotaLimits, wanted: Wanted): Promise<void> {
  const [own] = z.array(limitsRow).parse(
    await tx.$queryRaw`
      SELECT adapters, storage_bytes, uploads_per_hour FROM tenant_quota WHERE tenant_id = ${wanted.tenantId}::uuid`,
  );
  const limit = (kind: QuotaKind, set: bigint | null | undefined): number => Number(set ?? defaults[kind]);
  const uploadsMax = limit('UPLOADS_PER_HOUR', own?.uploads_per_hour);
  const adaptersMax = limit('ADAPTERS', own?.adapters);
  const bytesMax = limit('STORAGE_BYTES', own?.storage_bytes);
  if (uploadsMax === 0 && adaptersMax === 0 && bytesMax === 0) return;
  const [use] = z.array(useRow).parse(
    await tx.$queryRaw`
      SELECT u.*, EXISTS (
        SELECT FROM adapter a WHERE a.tenant_id = ${wanted.tenantId}::uuid AND a.name = ${wanted.name}) AS known
      FROM patchbay.adapter_use(${wanted.tenantId}::uuid, ${wanted.now}) u`,
  );
  if (use === undefined) throw new Error('Counting what a tenant has returned no row');
  if (uploadsMax > 0 && Number(use.uploads) >= uploadsMax) {
    const used = Number(use.uploads);
    const retryAfterMs = await untilOneFits(tx, wanted, used - uploadsMax);
    throw quotaExceeded({ kind: 'UPLOADS_PER_HOUR', limit: uploadsMax, used, requested: 1, retryAfterMs });
  }
  const rest = { requested: use.known ? 0 : 1, retryAfterMs: null };
  if (adaptersMax > 0 && !use.known && Number(use.adapters) >= adaptersMax) {
    throw quotaExceeded({ kind: 'ADAPTERS', limit: adaptersMax, used: Number(use.adapters), ...rest });
  }
  const used = Number(use.storage_bytes);
  if (bytesMax > 0 && used + wanted.bytes > bytesMax) {
    throw quotaExceeded({ ...rest, kind: 'STORAGE_BYTES', limit: bytesMax, used, requested: wanted.bytes });
  }
}

/** Until so many uploads and one more are older than an hour. */
async function untilOneFits(tx: Tx, { tenantId, now }: Wanted, skipped: number): Promise<number> {
  const since = new Date(now.getTime() - HOUR_MS);
  const leaving = await tx.upload.findFirst({
    where: { tenantId, createdAt: { gt: since } },
    orderBy: { createdAt: 'asc' },
    skip: skipped,
    select: { createdAt: true },
  });
  return Math.max(1, (leaving?.createdAt.getTime() ?? now.getTime()) + HOUR_MS - now.getTime());
}

import { z } from 'zod';
import type { Database } from '../db/client.ts';
import type { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { type AdapterFileName, CONFIG_FILE, TENSORS_FILE } from './limits.ts';
import type { AdapterSummary } from './peft/read.ts';
import type { ReceivedFile } from './validate.ts';

/** A version that this process validates. Every write names the claim, so a lost lease writes nothing. */
export interface Claim {
  readonly versionId: Uuid;
  readonly tenantId: Uuid;
  readonly adapterId: Uuid;
  /** How often the version was claimed, this time included and without the claims that were given back. */
  readonly attempts: number;
  readonly instanceId: Uuid;
  readonly files: Readonly<Record<AdapterFileName, ReceivedFile>>;
}

const claimRow = z.object({
  id: z.string(),
  tenant_id: z.string(),
  adapter_id: z.string(),
  attempts: z.number(),
  config_id: z.string(),
  tensors_id: z.string(),
  config_sha256: z.string(),
  tensors_sha256: z.string(),
});

/** Claims the oldest version that waits, or whose validator has died; null when there is none. */
export async function claimVersion(
  database: Database,
  { instanceId, leaseMs }: { readonly instanceId: Uuid; readonly leaseMs: number },
  backboneDigest: string,
): Promise<Claim | null> {
  const rows = await database.querySystem(
    `WITH claimed AS (
       UPDATE adapter_version SET lease_owner = $1, lease_until = now() + $2 * interval '1 millisecond',
         attempts = attempts + 1
       WHERE id = (
         SELECT v.id FROM adapter_version v JOIN backbone b ON b.id = v.backbone_id
         WHERE v.state = 'VALIDATING' AND b.digest = $3 AND (v.lease_until IS NULL OR v.lease_until < now())
         ORDER BY v.id LIMIT 1 FOR UPDATE OF v SKIP LOCKED)
       RETURNING id, tenant_id, adapter_id, attempts, config_sha256, tensors_sha256)
     SELECT c.*, f.config_id, f.tensors_id FROM claimed c
     CROSS JOIN LATERAL (
       SELECT min(f.id::text) FILTER (WHERE f.name = '${CONFIG_FILE}') AS config_id,
              min(f.id::text) FILTER (WHERE f.name = '${TENSORS_FILE}') AS tensors_id
       FROM upload_file f
       WHERE f.upload_id = (SELECT u.id FROM upload u WHERE u.version_id = c.id ORDER BY u.id LIMIT 1)) f`,
    [instanceId, leaseMs, backboneDigest],
  );
  if (rows.length === 0) return null;
  const row = claimRow.parse(rows[0]);
  return {
    versionId: row.id,
    tenantId: row.tenant_id,
    adapterId: row.adapter_id,
    attempts: row.attempts,
    instanceId,
    files: {
      [CONFIG_FILE]: { id: row.config_id, sha256: row.config_sha256 },
      [TENSORS_FILE]: { id: row.tensors_id, sha256: row.tensors_sha256 },
    },
  };
}

/** Holds a claim for another lease; false when another process has taken it over. */
export async function renewClaim(database: Database, claim: Claim, leaseMs: number): Promise<boolean> {
  const rows = await database.querySystem(
    `UPDATE adapter_version SET lease_until = now() + $3 * interval '1 millisecond'
     WHERE id = $1 AND lease_owner = $2 AND attempts = $4 AND state = 'VALIDATING' RETURNING id`,
    [claim.versionId, claim.instanceId, leaseMs, claim.attempts],
  );
  return rows.length > 0;
}

/** Ends a claim, to be taken up again after the delay. One that does not count as an attempt is as if it never was. */
export async function releaseClaim(
  database: Database,
  claim: Claim,
  { delayMs, counts }: { readonly delayMs: number; readonly counts: boolean },
): Promise<void> {
  await database.querySystem(
    `UPDATE adapter_version SET lease_owner = NULL, lease_until = now() + $3 * interval '1 millisecond',
       attempts = attempts - $5::integer
     WHERE id = $1 AND lease_owner = $2 AND attempts = $4 AND state = 'VALIDATING'`,
    [claim.versionId, claim.instanceId, delayMs, claim.attempts, counts ? 0 : 1],
  );
}

/** Makes the version ready, if the claim still holds. */
export async function finishReady(
  database: Database,
  claim: Claim,
  facts: { readonly digest: string; readonly summary: AdapterSummary; readonly readyAt: Date },
): Promise<void> {
  const { summary } = facts;
  await database.querySystem(
    `UPDATE adapter_version SET state = 'READY', digest = $4, rank_max = $5, module_count = $6, targets = $7,
       parameters = $8, bytes = $9, ready_at = $10
     WHERE id = $1 AND lease_owner = $2 AND attempts = $3 AND state = 'VALIDATING'`,
    [
      claim.versionId,
      claim.instanceId,
      claim.attempts,
      facts.digest,
      summary.rankMax,
      summary.moduleCount,
      summary.targets,
      summary.parameters,
      summary.tensorBytes,
      facts.readyAt,
    ],
  );
}

/** Keeps the reason of a refusal on the version, if the claim still holds. */
export async function finishRejected(database: Database, claim: Claim, error: PatchbayError): Promise<void> {
  const { code, message, fix, field } = error.toPublic();
  await database.querySystem(
    `UPDATE adapter_version SET state = 'REJECTED', rejection = $4
     WHERE id = $1 AND lease_owner = $2 AND attempts = $3 AND state = 'VALIDATING'`,
    [claim.versionId, claim.instanceId, claim.attempts, JSON.stringify({ code, message, fix, field })],
  );
}

/** Number of the adapter's ready version with this content, if there is one. */
export async function duplicateOf(database: Database, claim: Claim, digest: string): Promise<number | null> {
  const rows = await database.querySystem<{ number: number }>(
    `SELECT number FROM adapter_version
     WHERE tenant_id = $1 AND adapter_id = $2 AND digest = $3 AND state = 'READY' AND id <> $4`,
    [claim.tenantId, claim.adapterId, digest, claim.versionId],
  );
  return rows[0]?.number ?? null;
}

/** Whether some version of the tenant needs the stored content. */
export async function tenantHasDigest(
  database: Database,
  { tenantId, digest }: { readonly tenantId: Uuid; readonly digest: string },
): Promise<boolean> {
  const rows = await database.querySystem(
    `SELECT FROM adapter_version WHERE tenant_id = $1 AND digest = $2 AND state IN ('READY', 'RETIRED') LIMIT 1`,
    [tenantId, digest],
  );
  return rows.length > 0;
}

import type { Database } from '../db/client.ts';
import type { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { Checkpoint } from './checkpoint.ts';
import { requireFormat } from './format.ts';
import type { ExportSpec } from './rows.ts';
import { requireSource } from './sources.ts';
import type { ExportProgress, WrittenExport } from './write.ts';

/** An export that this process writes. Every write names the claim, so a lost lease writes nothing. */
export interface Claim {
  readonly exportId: Uuid;
  readonly spec: ExportSpec;
  /** How often it was claimed, this time included and without the claims that were given back. */
  readonly attempts: number;
  /** Number among all claims of the export. None is given twice, so that no two claims write to one file. */
  readonly number: number;
  readonly instanceId: Uuid;
  /** How far an earlier claim came; null where there is nothing to go on with. */
  readonly reached: { readonly claim: number; readonly checkpoint: Checkpoint } | null;
}

interface ClaimRow {
  readonly id: Uuid;
  readonly of_tenant_id: Uuid | null;
  readonly source: string;
  readonly format: string;
  readonly range_from: Date;
  readonly range_until: Date;
  readonly attempts: number;
  readonly claims: number;
  readonly checkpoint: CheckpointJson | null;
  readonly encoder: Buffer | null;
}

/** The checkpoint of a row but for what the encoder goes on from. */
interface CheckpointJson {
  readonly claim: number;
  readonly id: Uuid;
  readonly line: number;
  /** Decimal text, like the bytes. */
  readonly rows: string;
  readonly bytes: string;
  readonly sha256: string;
  readonly layout: string;
}

/** Claims the oldest export that waits, or whose writer has died; null when there is none. */
export async function claimExport(
  database: Pick<Database, 'querySystem'>,
  { instanceId, leaseMs }: { readonly instanceId: Uuid; readonly leaseMs: number },
): Promise<Claim | null> {
  const [row] = await database.querySystem<ClaimRow>(
    `UPDATE data_export SET state = 'RUNNING', rows_done = coalesce(checkpoint_rows, 0), attempts = attempts + 1,
       claims = claims + 1, lease_owner = $1, lease_until = now() + $2 * interval '1 millisecond'
     WHERE id = (
       SELECT id FROM data_export
       WHERE state IN ('QUEUED', 'RUNNING') AND (lease_until IS NULL OR lease_until < now())
       ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
     RETURNING id, of_tenant_id, source, format, range_from, range_until, attempts, claims,
       checkpoint_encoder AS encoder,
       CASE WHEN checkpoint_claim IS NOT NULL THEN jsonb_build_object(
         'claim', checkpoint_claim, 'id', checkpoint_row_id, 'line', checkpoint_row_line,
         'rows', checkpoint_rows::text, 'bytes', checkpoint_bytes::text,
         'sha256', checkpoint_sha256, 'layout', checkpoint_layout) END AS checkpoint`,
    [instanceId, leaseMs],
  );
  if (row === undefined) return null;
  const spec: ExportSpec = {
    source: requireSource(row.source).name,
    format: requireFormat(row.format),
    reach: row.of_tenant_id === null ? { kind: 'ALL' } : { kind: 'TENANT', tenantId: row.of_tenant_id },
    from: row.range_from,
    until: row.range_until,
  };
  const { id: exportId, attempts, claims: number } = row;
  return { exportId, spec, attempts, number, instanceId, reached: toReached(row) };
}

function toReached({ checkpoint, encoder }: ClaimRow): Claim['reached'] {
  if (checkpoint === null || encoder === null) return null;
  const { claim, id, line, rows, bytes, sha256, layout } = checkpoint;
  return {
    claim,
    checkpoint: { cursor: { id, line }, rows: BigInt(rows), bytes: BigInt(bytes), sha256, layout, encoder },
  };
}

const OF_CLAIM = `id = $1 AND lease_owner = $2 AND claims = $3 AND state = 'RUNNING'`;
const claimValues = ({ exportId, instanceId, number }: Claim): readonly unknown[] => [
  exportId,
  instanceId,
  number,
];

/** Nothing to go on with any more. */
export const NO_CHECKPOINT = `checkpoint_claim = NULL, checkpoint_row_id = NULL, checkpoint_row_line = NULL,
  checkpoint_rows = NULL, checkpoint_bytes = NULL, checkpoint_sha256 = NULL, checkpoint_layout = NULL,
  checkpoint_encoder = NULL`;

/** Holds a claim for another lease and says how far it is; false when it is lost, or nobody wants it any more. */
export async function renewClaim(
  database: Pick<Database, 'querySystem'>,
  claim: Claim,
  leaseMs: number,
  progress: ExportProgress | null,
): Promise<boolean> {
  const rows = await database.querySystem(
    `UPDATE data_export SET lease_until = now() + $4 * interval '1 millisecond',
       rows_done = coalesce($5, rows_done), rows_expected = coalesce($6, rows_expected)
     WHERE ${OF_CLAIM} RETURNING id`,
    [...claimValues(claim), leaseMs, progress?.rows ?? null, progress?.expected ?? null],
  );
  return rows.length > 0;
}

/** Keeps how far the file of a claim is on the disk, if the claim still holds. */
export async function saveCheckpoint(
  database: Pick<Database, 'querySystem'>,
  claim: Claim,
  { cursor, rows, bytes, sha256, layout, encoder }: Checkpoint,
): Promise<void> {
  await database.querySystem(
    `UPDATE data_export SET checkpoint_claim = claims, checkpoint_row_id = $4, checkpoint_row_line = $5,
       checkpoint_rows = $6, checkpoint_bytes = $7, checkpoint_sha256 = $8, checkpoint_layout = $9,
       checkpoint_encoder = $10
     WHERE ${OF_CLAIM}`,
    [...claimValues(claim), cursor.id, cursor.line, rows, bytes, sha256, layout, Buffer.from(encoder)],
  );
}

/**
 * Ends a claim, to be taken up again after the delay. One that does not count as an attempt is as if it never was. After one
 * that counts, the file is begun anew: what was written may be why it failed.
 */
export async function releaseClaim(
  database: Pick<Database, 'querySystem'>,
  claim: Claim,
  { delayMs, counts }: { readonly delayMs: number; readonly counts: boolean },
): Promise<void> {
  await database.querySystem(
    `UPDATE data_export SET state = 'QUEUED', lease_owner = NULL,
       lease_until = now() + $4 * interval '1 millisecond', attempts = attempts - $5::integer
       ${counts ? `, ${NO_CHECKPOINT}` : ''}
     WHERE ${OF_CLAIM}`,
    [...claimValues(claim), delayMs, counts ? 0 : 1],
  );
}

/** Makes the export ready; false when the claim is lost. */
export async function finishReady(
  database: Pick<Database, 'querySystem'>,
  claim: Claim,
  written: WrittenExport,
  times: { readonly finishedAt: Date; readonly expiresAt: Date },
): Promise<boolean> {
  const rows = await database.querySystem(
    `UPDATE data_export SET state = 'READY', rows_done = $4, rows_expected = $4, byte_count = $5, sha256 = $6,
       finished_at = $7, expires_at = $8, ${NO_CHECKPOINT}
     WHERE ${OF_CLAIM} RETURNING id`,
    [...claimValues(claim), written.rows, written.bytes, written.sha256, times.finishedAt, times.expiresAt],
  );
  return rows.length > 0;
}

/** Keeps why the export failed, if the claim still holds. */
export async function finishFailed(
  database: Pick<Database, 'querySystem'>,
  claim: Claim,
  error: PatchbayError,
  finishedAt: Date,
): Promise<void> {
  const { code, message, fix } = error.toPublic();
  await database.querySystem(
    `UPDATE data_export SET state = 'FAILED', failure = $4, finished_at = $5, ${NO_CHECKPOINT} WHERE ${OF_CLAIM}`,
    [...claimValues(claim), JSON.stringify({ code, message, fix }), finishedAt],
  );
}

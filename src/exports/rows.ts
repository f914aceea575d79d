import { z } from 'zod';
import type { Database } from '../db/client.ts';
import type { DataExport } from '../db/generated/client.ts';
import type { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { type FormatName, requireFormat } from './format.ts';
import type { Reach } from './source.ts';
import { requireSource, type SourceName } from './sources.ts';
import type { ExportProgress, WrittenExport } from './write.ts';

export const EXPORT_STATES = ['QUEUED', 'RUNNING', 'READY', 'FAILED', 'EXPIRED', 'DELETED'] as const;
export type ExportState = (typeof EXPORT_STATES)[number];

/** What an export holds. */
export interface ExportSpec {
  readonly source: SourceName;
  readonly format: FormatName;
  readonly reach: Reach;
  readonly from: Date;
  /** Exclusive. */
  readonly until: Date;
}

/** An export as whoever asked for it sees it. */
export interface ExportModel extends ExportSpec {
  readonly id: Uuid;
  /** Who asked for it. */
  readonly tenantId: Uuid;
  readonly state: ExportState;
  readonly rowsDone: bigint;
  readonly rowsExpected: bigint | null;
  /** Like the checksum, null until it is READY. */
  readonly byteCount: bigint | null;
  readonly sha256: string | null;
  readonly failure: ExportFailure | null;
  readonly attempts: number;
  readonly createdAt: Date;
  readonly finishedAt: Date | null;
  readonly expiresAt: Date | null;
}

/** Why an export failed. */
export interface ExportFailure {
  readonly code: string;
  readonly message: string;
  readonly fix: string;
}

const failure = z.object({ code: z.string(), message: z.string(), fix: z.string() });

/** Reads a row of data_export. */
export function toExport(row: DataExport): ExportModel {
  const { ofTenantId } = row;
  return {
    id: row.id,
    tenantId: row.tenantId,
    source: requireSource(row.source).name,
    format: requireFormat(row.format),
    reach: ofTenantId === null ? { kind: 'ALL' } : { kind: 'TENANT', tenantId: ofTenantId },
    from: row.rangeFrom,
    until: row.rangeUntil,
    state: z.enum(EXPORT_STATES).parse(row.state),
    rowsDone: row.rowsDone,
    rowsExpected: row.rowsExpected,
    byteCount: row.byteCount,
    sha256: row.sha256,
    failure: failure.nullable().parse(row.failure),
    attempts: row.attempts,
    createdAt: row.createdAt,
    finishedAt: row.finishedAt,
    expiresAt: row.expiresAt,
  };
}

/** An export that this process writes. Every write names the claim, so a lost lease writes nothing. */
export interface Claim {
  readonly exportId: Uuid;
  readonly spec: ExportSpec;
  /** How often it was claimed, this time included and without the claims that were given back. */
  readonly attempts: number;
  readonly instanceId: Uuid;
}

interface ClaimRow {
  readonly id: Uuid;
  readonly of_tenant_id: Uuid | null;
  readonly source: string;
  readonly format: string;
  readonly range_from: Date;
  readonly range_until: Date;
  readonly attempts: number;
}

/** Claims the oldest export that waits, or whose writer has died; null when there is none. */
export async function claimExport(
  database: Pick<Database, 'querySystem'>,
  { instanceId, leaseMs }: { readonly instanceId: Uuid; readonly leaseMs: number },
): Promise<Claim | null> {
  const [row] = await database.querySystem<ClaimRow>(
    `UPDATE data_export SET state = 'RUNNING', rows_done = 0, attempts = attempts + 1, lease_owner = $1,
       lease_until = now() + $2 * interval '1 millisecond'
     WHERE id = (
       SELECT id FROM data_export
       WHERE state IN ('QUEUED', 'RUNNING') AND (lease_until IS NULL OR lease_until < now())
       ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
     RETURNING id, of_tenant_id, source, format, range_from, range_until, attempts`,
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
  return { exportId: row.id, spec, attempts: row.attempts, instanceId };
}

const OF_CLAIM = `id = $1 AND lease_owner = $2 AND attempts = $3 AND state = 'RUNNING'`;
const claimValues = ({ exportId, instanceId, attempts }: Claim): readonly unknown[] => [
  exportId,
  instanceId,
  attempts,
];

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

/** Ends a claim, to be taken up again after the delay. One that does not count as an attempt is as if it never was. */
export async function releaseClaim(
  database: Pick<Database, 'querySystem'>,
  claim: Claim,
  { delayMs, counts }: { readonly delayMs: number; readonly counts: boolean },
): Promise<void> {
  await database.querySystem(
    `UPDATE data_export SET state = 'QUEUED', lease_owner = NULL,
       lease_until = now() + $4 * interval '1 millisecond', attempts = attempts - $5::integer
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
       finished_at = $7, expires_at = $8
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
    `UPDATE data_export SET state = 'FAILED', failure = $4, finished_at = $5 WHERE ${OF_CLAIM}`,
    [...claimValues(claim), JSON.stringify({ code, message, fix }), finishedAt],
  );
}

import { z } from 'zod';
import type { DataExport } from '../db/generated/client.ts';
import type { Uuid } from '../kernel/ids.ts';
import { type FormatName, requireFormat } from './format.ts';
import type { Reach } from './source.ts';
import { requireSource, type SourceName } from './sources.ts';

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
  /** How often it was claimed in all; the last claim's number is in the name of its file. */
  readonly claims: number;
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
    claims: row.claims,
    createdAt: row.createdAt,
    finishedAt: row.finishedAt,
    expiresAt: row.expiresAt,
  };
}

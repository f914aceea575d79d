import { PLATFORM_TENANT_ID } from '../../db/platform.ts';
import type { Uuid } from '../../kernel/ids.ts';
import type { Query } from '../log/store.ts';
import type { Epoch, Quarantined, Released } from './types.ts';

/** Everything of an epoch but its accounts. */
export interface EpochRecord extends Epoch {
  readonly document: string;
  readonly quarantined: readonly Quarantined[];
  readonly released: readonly Released[];
  readonly scannedUntil: Date | null;
  readonly comparedUntil: Uuid;
}

const EPOCH = `
INSERT INTO epoch (number, first_size, size, root, digest, previous, closed_at, document)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`;

const QUARANTINED = `
INSERT INTO epoch_quarantined (epoch, request_id, reason, leaf)
SELECT $1::bigint, q.* FROM unnest($2::uuid[], $3::text[], $4::bytea[]) AS q`;

const RELEASED = `
INSERT INTO epoch_released (epoch, request_id, quarantined_in)
SELECT $1::bigint, r.* FROM unnest($2::uuid[], $3::bigint[]) AS r`;

const SCAN = `
UPDATE epoch_scan SET records_until = coalesce($1::timestamptz, records_until), compared_until = $2 WHERE id = 1`;

const TELL = `SELECT patchbay.emit_event($1::uuid, 'epoch.quarantined', NULL, $2::jsonb)`;

/** Writes an epoch, what it quarantines and what it releases, and tells operators when there is something to look at. */
export async function writeEpoch(query: Query, epoch: EpochRecord): Promise<void> {
  const number = epoch.number.toString();
  await query(EPOCH, [
    ...[number, epoch.firstSize, epoch.size, Buffer.from(epoch.root), Buffer.from(epoch.digest)],
    ...[Buffer.from(epoch.previous), epoch.closedAt.toISOString(), epoch.document],
  ]);
  const { quarantined, released, scannedUntil, comparedUntil } = epoch;
  if (quarantined.length > 0) {
    await query(QUARANTINED, [
      number,
      quarantined.map(({ requestId }) => requestId),
      quarantined.map(({ reason }) => reason),
      quarantined.map(({ leaf }) => (leaf === null ? null : Buffer.from(leaf))),
    ]);
    const told = { number, quarantined: quarantined.length, released: released.length };
    await query(TELL, [PLATFORM_TENANT_ID, JSON.stringify(told)]);
  }
  if (released.length > 0) {
    await query(RELEASED, [
      number,
      released.map(({ requestId }) => requestId),
      released.map(({ epoch: of }) => of.toString()),
    ]);
  }
  await query(SCAN, [scannedUntil?.toISOString() ?? null, comparedUntil]);
}

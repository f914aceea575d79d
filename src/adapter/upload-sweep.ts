import type { Database } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import type { IncomingFiles } from './incoming.ts';

const BATCH = 200;
/** How long the row of an expired upload is kept, and an adapter that has neither a version nor an upload. */
const KEEP_ROWS_MS = 24 * 3_600_000;

/** What the sweeping of uploads works with. */
interface SweepDependencies {
  readonly database: Database;
  readonly clock: Clock;
  readonly incoming: IncomingFiles;
}

interface UploadRow {
  readonly id: string;
  readonly files: readonly string[];
}

/**
 * Removes what nobody needs any more: received files of uploads whose version is decided or that expired without being
 * finalised; a day later, the rows of the latter, and adapters that never got a version. Returns how many uploads were
 * swept or removed; call it again when many came at once.
 */
export async function sweepUploads(dependencies: SweepDependencies): Promise<number> {
  const swept = await sweepFiles(dependencies);
  const removed = await removeExpired(dependencies);
  await removeVersionless(dependencies);
  return swept + removed;
}

async function sweepFiles({ database, clock, incoming }: SweepDependencies): Promise<number> {
  const now = new Date(clock.nowMs());
  const rows = await database.querySystem<UploadRow>(
    `SELECT u.id, array_agg(f.id::text) AS files
     FROM upload u JOIN upload_file f ON f.upload_id = u.id LEFT JOIN adapter_version v ON v.id = u.version_id
     WHERE u.swept_at IS NULL
       AND (v.state <> 'VALIDATING' OR (u.version_id IS NULL AND u.expires_at <= $1))
     GROUP BY u.id ORDER BY u.id LIMIT ${BATCH}`,
    [now],
  );
  for (const { id, files } of rows) {
    for (const file of files) await incoming.remove(file);
    await database.querySystem('UPDATE upload SET swept_at = $2 WHERE id = $1', [id, now]);
  }
  return rows.length;
}

async function removeExpired({ database, clock, incoming }: SweepDependencies): Promise<number> {
  const rows = await database.querySystem<UploadRow>(
    `SELECT u.id, array_agg(f.id::text) AS files FROM upload u JOIN upload_file f ON f.upload_id = u.id
     WHERE u.version_id IS NULL AND u.swept_at IS NOT NULL AND u.expires_at <= $1
     GROUP BY u.id ORDER BY u.id LIMIT ${BATCH}`,
    [new Date(clock.nowMs() - KEEP_ROWS_MS)],
  );
  for (const { id, files } of rows) {
    // A request that began before the expiry may have written after the first sweep.
    for (const file of files) await incoming.remove(file);
    await database.withSystemPg(async (client) => {
      await client.query('DELETE FROM upload_file WHERE upload_id = $1', [id]);
      await client.query('DELETE FROM upload WHERE id = $1', [id]);
    });
  }
  return rows.length;
}

async function removeVersionless({ database, clock }: SweepDependencies): Promise<void> {
  await database.querySystem(
    `DELETE FROM adapter a
     WHERE a.last_number = 0 AND a.created_at <= $1 AND NOT EXISTS (SELECT FROM upload u WHERE u.adapter_id = a.id)`,
    [new Date(clock.nowMs() - KEEP_ROWS_MS)],
  );
}

import type { Database } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import type { IncomingFiles } from './incoming.ts';

const BATCH = 200;

/**
 * Removes received files that nobody needs any more: of uploads whose version is decided, and of uploads that expired
 * without being finalised. Returns how many uploads were swept; call it again when that many came at once.
 */
export async function sweepUploads(dependencies: {
  readonly database: Database;
  readonly clock: Clock;
  readonly incoming: IncomingFiles;
}): Promise<number> {
  const { database, clock, incoming } = dependencies;
  const rows = await database.querySystem<{ id: string; files: readonly string[] }>(
    `SELECT u.id, array_agg(f.id::text) AS files
     FROM upload u JOIN upload_file f ON f.upload_id = u.id LEFT JOIN adapter_version v ON v.id = u.version_id
     WHERE u.swept_at IS NULL
       AND (v.state <> 'VALIDATING' OR (u.version_id IS NULL AND u.expires_at <= $1))
     GROUP BY u.id ORDER BY u.id LIMIT ${BATCH}`,
    [new Date(clock.nowMs())],
  );
  for (const { id, files } of rows) {
    for (const file of files) await incoming.remove(file);
    await database.querySystem('UPDATE upload SET swept_at = $2 WHERE id = $1', [
      id,
      new Date(clock.nowMs()),
    ]);
  }
  return rows.length;
}

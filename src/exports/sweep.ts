import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Database } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Uuid } from '../kernel/ids.ts';
import { type ExportFile, parseExportFile } from './files.ts';
import type { ExportState } from './rows.ts';

/** What the sweeping of exports works with. */
interface SweepDependencies {
  readonly database: Pick<Database, 'querySystem'>;
  readonly clock: Clock;
  readonly folder: string;
}

/** How long the row of an export is kept after its file is gone. */
const KEEP_ROWS_MS = 30 * 86_400_000;

/**
 * Ends exports whose time has come, removes files that no export has any more, and after a month the rows. Answers how
 * many files were removed.
 */
export async function sweepExports({ database, clock, folder }: SweepDependencies): Promise<number> {
  const nowMs = clock.nowMs();
  await database.querySystem(
    `UPDATE data_export SET state = 'EXPIRED' WHERE state = 'READY' AND expires_at <= $1`,
    [new Date(nowMs)],
  );
  // Files before rows: a file is made after its claim is committed, so a file that is seen has a claim that is seen.
  const names = await readdir(folder).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  });
  const files = names.flatMap((name) => {
    const file = parseExportFile(name);
    return file === null ? [] : [{ name, file }];
  });
  const owners = await ownersOf(
    database,
    files.map(({ file }) => file.exportId),
  );
  const unwanted = files.filter(({ file }) => !isWanted(file, owners.get(file.exportId)));
  for (const { name } of unwanted) await rm(join(folder, name), { force: true });
  await database.querySystem(
    `DELETE FROM data_export WHERE state IN ('EXPIRED', 'DELETED', 'FAILED') AND coalesce(expires_at, created_at) <= $1`,
    [new Date(nowMs - KEEP_ROWS_MS)],
  );
  return unwanted.length;
}

interface Owner {
  readonly id: Uuid;
  readonly state: ExportState;
  readonly attempts: number;
}

async function ownersOf(
  database: Pick<Database, 'querySystem'>,
  ids: readonly Uuid[],
): Promise<ReadonlyMap<Uuid, Owner>> {
  if (ids.length === 0) return new Map();
  const text = 'SELECT id, state, attempts FROM data_export WHERE id = ANY($1::uuid[])';
  return new Map((await database.querySystem<Owner>(text, [ids])).map((owner) => [owner.id, owner]));
}

/** A running export has its part, and just before it is ready also its file. */
function isWanted({ attempts, ending }: ExportFile, owner: Owner | undefined): boolean {
  if (owner?.attempts !== attempts) return false;
  return owner.state === 'RUNNING' || (owner.state === 'READY' && ending !== 'part');
}

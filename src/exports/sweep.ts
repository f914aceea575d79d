import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Database } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Uuid } from '../kernel/ids.ts';
import { NO_CHECKPOINT } from './claims.ts';
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
  await database.querySystem(
    `UPDATE data_export SET ${NO_CHECKPOINT} WHERE state = 'DELETED' AND checkpoint_claim IS NOT NULL`,
    [],
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
  /** Number of the last claim, and of the one whose file is to be gone on with. */
  readonly claims: number;
  readonly checkpoint_claim: number | null;
}

async function ownersOf(
  database: Pick<Database, 'querySystem'>,
  ids: readonly Uuid[],
): Promise<ReadonlyMap<Uuid, Owner>> {
  if (ids.length === 0) return new Map();
  const text = 'SELECT id, state, claims, checkpoint_claim FROM data_export WHERE id = ANY($1::uuid[])';
  return new Map((await database.querySystem<Owner>(text, [ids])).map((owner) => [owner.id, owner]));
}

/**
 * A running export has its part, and just before it is ready also its file. It has the part of an earlier claim too, or
 * while it waits that alone, until it has gone on from there.
 */
function isWanted({ claim, ending }: ExportFile, owner: Owner | undefined): boolean {
  if (owner === undefined) return false;
  const { state, claims, checkpoint_claim: reached } = owner;
  if (state === 'RUNNING') return claim === claims || (claim === reached && ending === 'part');
  if (state === 'QUEUED') return claim === reached && ending === 'part';
  return state === 'READY' && claim === claims && ending !== 'part';
}

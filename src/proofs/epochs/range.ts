import { HEAD_COLUMNS, type HeadRow, type Query, readLatestHead, toHead } from '../log/store.ts';
import type { TreeHead } from '../log/types.ts';
import { type Epoch, NO_DIGEST } from './types.ts';

/** When an epoch ends. */
export interface Pace {
  /** So long after the first head behind the epoch before. */
  readonly intervalMs: number;
  /** As soon as it has so many leaves, and with not many more. */
  readonly leavesMax: number;
}

/** Where the next epoch begins. */
export type EpochBefore = Pick<Epoch, 'number' | 'size' | 'digest' | 'closedAt'>;

const NO_EPOCH: EpochBefore = { number: 0n, size: 0, digest: NO_DIGEST, closedAt: new Date(0) };

/** The last epoch that was closed. */
export async function epochBefore(query: Query): Promise<EpochBefore> {
  const [row] = await query<{
    readonly number: string;
    readonly size: string;
    readonly digest: Buffer;
    readonly closed_at: Date;
  }>('SELECT number, size, digest, closed_at FROM epoch ORDER BY number DESC LIMIT 1', []);
  if (row === undefined) return NO_EPOCH;
  const { number, size, digest, closed_at } = row;
  return { number: BigInt(number), size: Number(size), digest, closedAt: closed_at };
}

/** The head that the next epoch ends with; null while it is not its time. */
export async function headOfEpoch(
  query: Query,
  first: number,
  nowMs: number,
  { intervalMs, leavesMax }: Pace,
): Promise<TreeHead | null> {
  const latest = await readLatestHead(query);
  if (latest === null || latest.size <= first) return null;
  const oldest = await nextHead(query, first);
  const isTime = oldest !== null && nowMs - oldest.signedAtMs >= intervalMs;
  if (!isTime && latest.size - first < leavesMax) return null;
  return headWithin(query, first, leavesMax);
}

/** The last head that the leaves from `first` on reach with at most so many; the next one where none does. */
export async function headWithin(query: Query, first: number, leaves: number): Promise<TreeHead | null> {
  const [row] = await query<HeadRow>(
    `SELECT ${HEAD_COLUMNS} FROM log_head h WHERE h.size > $1 AND h.size <= $2 ORDER BY h.size DESC LIMIT 1`,
    [first, first + leaves],
  );
  return row === undefined ? nextHead(query, first) : toHead(row);
}

async function nextHead(query: Query, size: number): Promise<TreeHead | null> {
  const [row] = await query<HeadRow>(
    `SELECT ${HEAD_COLUMNS} FROM log_head h WHERE h.size > $1 ORDER BY h.size LIMIT 1`,
    [size],
  );
  return row === undefined ? null : toHead(row);
}

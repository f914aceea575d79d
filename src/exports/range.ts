import type { Database } from '../db/client.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { IdRange } from './source.ts';

/** A range of time that is asked for; `to` is exclusive. */
export interface AskedRange {
  readonly from: Date;
  readonly to: Date;
}

/** A range of time in which nothing will be added any more; `until` is exclusive. */
export interface ClosedRange {
  readonly from: Date;
  readonly until: Date;
}

/**
 * How much earlier than now a range ends at the latest, besides what running transactions make of it. It covers a
 * session that has begun a transaction and has not yet said so, and clocks of servers that are behind the database's:
 * transfers that are written one at a time (top-ups) carry the server's time.
 */
export const SETTLE_MS = 30_000;

/**
 * Ends a range where it is still open. A fact has the time at which the transaction that writes it began, so it can
 * come into being behind what was read of its range already. Before the horizon, all such transactions have ended: a range
 * that ends there holds the same rows for ever.
 *
 * Throws `BAD_INPUT` for a range that is none, or of which nothing is closed.
 */
export async function closeRange(
  database: Pick<Database, 'querySystem'>,
  { from, to }: AskedRange,
  settleMs: number = SETTLE_MS,
): Promise<ClosedRange> {
  for (const [field, time] of [
    ['from', from],
    ['to', to],
  ] as const) {
    if (Number.isFinite(time.getTime()) && time.getTime() >= 0 && time.getUTCFullYear() < 10_000) continue;
    throw new PatchbayError('BAD_INPUT', 'A range begins and ends between 1970 and 9999.', {
      field,
      fix: 'Give a time such as 2026-01-31T00:00:00Z.',
    });
  }
  if (from >= to) {
    throw new PatchbayError('BAD_INPUT', 'The range ends before it begins.', {
      field: 'to',
      fix: 'Give an end that is later than the beginning; the end itself is not in the range.',
    });
  }
  const [row] = await database.querySystem<{ horizon: Date }>(
    `SELECT patchbay.export_horizon($1 * interval '1 millisecond') AS horizon`,
    [settleMs],
  );
  const horizon = row?.horizon ?? new Date(0);
  const until = to < horizon ? to : horizon;
  if (from < until) return { from, until };
  throw new PatchbayError(
    'BAD_INPUT',
    'Nothing of this range has passed yet, so that it could still change.',
    {
      field: 'from',
      fix: `Give a beginning before ${horizon.toISOString()}, or ask again later.`,
      meta: { horizon: horizon.toISOString() },
    },
  );
}

const DAY_MS = 86_400_000;
/** Longest that a request is expected to run, and a lost one to wait for whoever settles it. */
const BEFORE_MS = 7 * DAY_MS;
/** Furthest that the clock of a process, which ids are made by, is expected to be ahead of the database's. */
const AFTER_MS = DAY_MS;

/**
 * Ids among which the rows of a range are expected. Ids are made when something begins and ranges are about when it
 * ended, so this is an expectation; the reader counts what lies outside before it relies on it.
 */
export function expectedIds({ from, until }: ClosedRange): IdRange {
  return { from: idFloor(from.getTime() - BEFORE_MS), until: idFloor(until.getTime() + AFTER_MS) };
}

/** The smallest uuidv7 of a millisecond. */
function idFloor(ms: number): Uuid {
  const hex = Math.max(0, ms).toString(16).padStart(12, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8)}-0000-0000-000000000000`;
}

import { badCursor, type Page, type PageRequest, requirePageSize } from '../db/page.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { PRICE_LEAD_MS } from './resolver.ts';

/** A version of something that is in effect from one time to another. */
export interface EffectiveVersion {
  readonly id: Uuid;
  readonly effectiveFrom: Date;
  /** When the next version begins; null while there is none. */
  readonly effectiveUntil: Date | null;
  readonly createdAt: Date;
}

/**
 * When a new version begins: at the wanted time, or as soon as may be. Throws BAD_INPUT for a time that is too early,
 * because what a time that has passed costs never changes.
 *
 * @param nowMs when it is made: one reading of the clock, which the row has as its creation too.
 * @param leadMs zero where no process can have remembered that something else applies.
 */
export function startOf(nowMs: number, wanted: Date | null, leadMs: number = PRICE_LEAD_MS): Date {
  const earliest = new Date(nowMs + leadMs);
  if (wanted === null) return earliest;
  if (wanted.getTime() >= earliest.getTime()) return wanted;
  throw new PatchbayError('BAD_INPUT', `It can begin at ${earliest.toISOString()} or later.`, {
    field: 'effectiveFrom',
    fix: 'Leave `effectiveFrom` out to let it begin as soon as possible.',
    meta: { earliest: earliest.toISOString() },
  });
}

/** A version that another one begins with at the same time. */
export function sameStart(effectiveFrom: Date, cause?: unknown): PatchbayError {
  return new PatchbayError('PRICE_CONFLICT', `Another version begins at ${effectiveFrom.toISOString()}.`, {
    field: 'effectiveFrom',
    cause,
  });
}

/** How a history is read: its page begins below a time, and the row of a cursor tells which. */
interface HistoryReader<R> {
  /** The row with the id, when it belongs to the history. */
  find(id: Uuid): Promise<R | null>;
  /** So many rows that begin before the time, the latest first. */
  read(before: Date | null, most: number): Promise<readonly R[]>;
}

/**
 * A page of versions of one subject, those that begin last first, each with the start of its follower, which is the
 * row above it.
 */
export async function historyPage<
  R extends { readonly id: Uuid; readonly effectiveFrom: Date },
  T extends EffectiveVersion,
>(
  page: PageRequest,
  reader: HistoryReader<R>,
  convert: (row: R, effectiveUntil: Date | null) => T,
): Promise<Page<T>> {
  requirePageSize(page.first);
  const after = page.after === null ? null : await reader.find(page.after);
  if (page.after !== null && after === null) throw badCursor();
  const rows = await reader.read(after?.effectiveFrom ?? null, page.first + 1);
  const items: T[] = [];
  let until = after?.effectiveFrom ?? null;
  for (const row of rows.slice(0, page.first)) {
    items.push(convert(row, until));
    until = row.effectiveFrom;
  }
  return { items, hasNextPage: rows.length > page.first };
}

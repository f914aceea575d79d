import { badCursor, type Page, requirePageSize } from '../db/page.ts';
import type { Figures } from './report.ts';

/** What a list of figures is sorted by. */
export const ECONOMICS_ORDERS = [
  'LOWEST_MARGIN',
  'HIGHEST_MARGIN',
  'HIGHEST_REVENUE',
  'HIGHEST_MEMORY_COST',
] as const;
export type EconomicsOrder = (typeof ECONOMICS_ORDERS)[number];

/** A line of a list: its figures, and what tells it from lines with the same ones. */
export interface Line {
  readonly name: string;
  readonly figures: Figures;
}

/** So many lines after the one with this key; null for the first page. */
export interface LinePage {
  readonly first: number;
  readonly after: string | null;
}

/** What is compared, smallest first. */
function rankOf({ figures }: Line, order: EconomicsOrder): bigint {
  switch (order) {
    case 'LOWEST_MARGIN':
      return figures.margin;
    case 'HIGHEST_MARGIN':
      return -figures.margin;
    case 'HIGHEST_REVENUE':
      return -figures.revenue;
    case 'HIGHEST_MEMORY_COST':
      return -figures.memoryCost;
  }
}

/** What a page may go on after: the value and the name, so that a line that changed meanwhile breaks no list. */
export function lineKey(line: Line, order: EconomicsOrder): string {
  return `${order} ${rankOf(line, order)} ${line.name}`;
}

export function sortLines<T extends Line>(lines: readonly T[], order: EconomicsOrder): readonly T[] {
  return [...lines].sort((a, b) => compare(placeOf(a, order), placeOf(b, order)));
}

/**
 * A page of sorted lines.
 *
 * @throws PatchbayError `BAD_INPUT` for a size out of range or a key of another order
 */
export function pageOf<T extends Line>(
  sorted: readonly T[],
  order: EconomicsOrder,
  { first, after }: LinePage,
): Page<T> {
  requirePageSize(first);
  const start = after === null ? null : parseKey(after, order);
  const rest = start === null ? sorted : sorted.filter((line) => compare(placeOf(line, order), start) > 0);
  return { items: rest.slice(0, first), hasNextPage: rest.length > first };
}

interface Place {
  readonly value: bigint;
  readonly name: string;
}

function placeOf(line: Line, order: EconomicsOrder): Place {
  return { value: rankOf(line, order), name: line.name };
}

function parseKey(key: string, order: EconomicsOrder): Place {
  const [, of, value, name] = /^(\w+) (-?\d{1,60}) (.+)$/.exec(key) ?? [];
  if (of !== order || value === undefined || name === undefined) throw badCursor();
  return { value: BigInt(value), name };
}

function compare(a: Place, b: Place): number {
  if (a.value !== b.value) return a.value < b.value ? -1 : 1;
  if (a.name === b.name) return 0;
  return a.name < b.name ? -1 : 1;
}

import { PatchbayError } from '../kernel/errors.ts';
import { isUuid, type Uuid } from '../kernel/ids.ts';

/** A page that is asked for: so many items after the one with this id, oldest first. */
export interface PageRequest {
  readonly first: number;
  /** Id of the item after which the page starts; null for the first page. */
  readonly after: Uuid | null;
}

/** A page of items, in order. */
export interface Page<T> {
  readonly items: readonly T[];
  readonly hasNextPage: boolean;
}

/** Most items that any page holds. */
export const PAGE_ITEMS_MAX = 100;

/** Prisma's arguments for the page of a list ordered by id (uuidv7, hence by creation): one item more than asked. */
export function keyset(page: PageRequest): {
  readonly where: { readonly id?: { readonly gt: Uuid } };
  readonly orderBy: { readonly id: 'asc' };
  readonly take: number;
} {
  requirePageSize(page.first);
  if (page.after !== null && !isUuid(page.after)) throw badCursor();
  return {
    where: page.after === null ? {} : { id: { gt: page.after } },
    orderBy: { id: 'asc' },
    take: page.first + 1,
  };
}

/** Throws `BAD_INPUT` unless a page may hold so many items. */
export function requirePageSize(first: number): void {
  if (Number.isInteger(first) && first >= 1 && first <= PAGE_ITEMS_MAX) return;
  throw new PatchbayError('BAD_INPUT', `\`first\` must be 1 to ${PAGE_ITEMS_MAX}.`, { field: 'first' });
}

/** The error for an `after` that no page of the list ends with. */
export function badCursor(): PatchbayError {
  return new PatchbayError('BAD_INPUT', '`after` is not a cursor of this list.', { field: 'after' });
}

/** The rows found for {@link keyset} as a page: the extra row only tells that there are more. */
export function toPage<R, T>(rows: readonly R[], page: PageRequest, convert: (row: R) => T): Page<T> {
  return { items: rows.slice(0, page.first).map(convert), hasNextPage: rows.length > page.first };
}

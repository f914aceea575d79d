import { badCursor, type Page, type PageRequest, requirePageSize } from '../db/page.ts';

/** A Relay connection, ready to be resolved. */
export interface Connection<T> {
  readonly edges: readonly { readonly cursor: string; readonly node: T }[];
  readonly pageInfo: {
    readonly hasNextPage: boolean;
    readonly hasPreviousPage: boolean;
    readonly startCursor: string | null;
    readonly endCursor: string | null;
  };
}

const CURSOR_PREFIX = 'after:';
const CURSOR_CHARS_MAX = 512;
const PAGE_SIZE_DEFAULT = 20;

/** The arguments of a connection as a page request, or `BAD_INPUT` that names the argument. */
export function toPageRequest(args: {
  readonly first?: number | null | undefined;
  readonly after?: string | null | undefined;
}): PageRequest {
  const first = args.first ?? PAGE_SIZE_DEFAULT;
  requirePageSize(first);
  return { first, after: args.after == null ? null : parseCursor(args.after) };
}

/** A page as a connection; `keyOf` gives what the list is ordered by. */
export function toConnection<T>(
  page: Page<T>,
  request: PageRequest,
  keyOf: (item: T) => string,
): Connection<T> {
  const edges = page.items.map((node) => ({ cursor: toCursor(keyOf(node)), node }));
  return {
    edges,
    pageInfo: {
      hasNextPage: page.hasNextPage,
      hasPreviousPage: request.after !== null,
      startCursor: edges[0]?.cursor ?? null,
      endCursor: edges.at(-1)?.cursor ?? null,
    },
  };
}

/** An item and its place in a list, from 1. */
export type Placed<T> = T & { readonly place: number };

/** A page of a list that is in memory and does not change, by places. */
export function placedPage<T>(all: readonly T[], { first, after }: PageRequest): Page<Placed<T>> {
  if (after !== null && !/^[1-9]\d{0,8}$/.test(after)) throw badCursor();
  const start = Number(after ?? 0);
  const items = all.slice(start, start + first).map((item, index) => ({ ...item, place: start + index + 1 }));
  return { items, hasNextPage: all.length > start + first };
}

/** What a list is ordered by, as an opaque cursor. */
export function toCursor(key: string): string {
  return Buffer.from(CURSOR_PREFIX + key, 'utf8').toString('base64url');
}

/** The text inside of a cursor, or `BAD_INPUT`. */
export function parseCursor(cursor: string): string {
  const text = cursor.length > CURSOR_CHARS_MAX ? '' : Buffer.from(cursor, 'base64url').toString('utf8');
  const key = text.slice(CURSOR_PREFIX.length);
  if (!text.startsWith(CURSOR_PREFIX) || toCursor(key) !== cursor) throw badCursor();
  return key;
}

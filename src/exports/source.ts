import type { Scope } from '../auth/principal.ts';
import type { Uuid } from '../kernel/ids.ts';
import { type Column, cellSql } from './column.ts';

/**
 * Where the rows of an export come from: a definition of columns and of the tables that they are read from. Everything
 * else (pages, formats, documentation) follows from it, so that another source is another file like those in sources/.
 *
 * Rows are facts: once a row's time is before the horizon (horizon.ts), neither the row nor any of its cells may change,
 * and no other row may come with such a time. That is what makes an export the same however often it is written, and
 * what lets its pages be read in transactions of their own.
 */
export interface Source {
  /** Lower-case; the name on the command line and in the database. */
  readonly name: string;
  /** What a key needs to export it. */
  readonly scope: Scope;
  /** One paragraph for the reference: what a row is. */
  readonly description: string;
  /** What the range of time is about, such as `ended_at`. */
  readonly timeColumn: string;
  /** What rows are in the order of, and by what no two are alike. */
  readonly orderedBy: string;
  readonly columns: readonly Column[];
  /** Tables whose rows make up the export, merged in the order of their keys. */
  readonly parts: readonly Part[];
}

/** One table of a {@link Source}. All are SQL expressions; of constants of the program, never of input. */
export interface Part<N extends string = string> {
  /** Table and alias. */
  readonly from: string;
  /** A uuidv7 whose time is near the row's. */
  readonly id: string;
  /** Tells rows with one id apart. */
  readonly line: string;
  readonly time: string;
  readonly tenant: string;
  /**
   * Another table that each row belongs to. A tenant's rows are then looked up through its few rows there, by an index
   * that begins with them, because there is none that begins with the tenant.
   */
  readonly through?: { readonly from: string; readonly on: string; readonly tenant: string };
  readonly cells: Readonly<Record<N, string>>;
}

/** Checks that every part has a cell for every column. */
export function defineSource<const C extends readonly Column[]>(
  source: Omit<Source, 'columns' | 'parts'> & {
    readonly columns: C;
    readonly parts: readonly Part<C[number]['name']>[];
  },
): Source {
  return source;
}

/** Whose rows an export holds: one tenant's, as row-level security shows them to it, or for the operator everybody's. */
export type Reach = { readonly kind: 'TENANT'; readonly tenantId: Uuid } | { readonly kind: 'ALL' };

/** Where a page begins: behind the row with this key. */
export interface Cursor {
  readonly id: Uuid;
  readonly line: number;
}

/** Ids among which all rows of a range are, from the first to before the second. */
export interface IdRange {
  readonly from: Uuid;
  readonly until: Uuid;
}

export const ALL_IDS: IdRange = {
  from: '00000000-0000-0000-0000-000000000000',
  until: 'ffffffff-ffff-ffff-ffff-ffffffffffff',
};

/** The end of the range in a cell of a page, for what is told as it was then. */
export const RANGE_END = '$4::timestamptz';

/** Columns that a page has before those of the source: the key. */
export const KEY_CELLS = 2;

/**
 * The next page: $1 and $2 the cursor, $3 and $4 the range of time, $5 the end of the range of ids, $6 the most rows,
 * and for one tenant $7.
 */
export function pageSql({ columns, parts }: Source, reach: Reach['kind']): string {
  const pages = parts.map((part) => partSql(part, columns, reach));
  const [only] = pages;
  if (pages.length === 1 && only !== undefined && parts[0]?.through === undefined) return only;
  const merged = pages.map((page) => `(${page})`).join('\nUNION ALL\n');
  return `SELECT * FROM (\n${merged}\n) merged ORDER BY row_id, row_line LIMIT $6`;
}

function partSql(part: Part, columns: readonly Column[], reach: Reach['kind']): string {
  const { from, id, line, time, tenant, through } = part;
  const cells = columns.map(({ name, type }) => `${cellSql(type, part.cells[name] ?? 'NULL')} AS ${name}`);
  // The comparison of rows decides; the one of ids is what an index can begin with.
  const conditions = [
    `${id} >= $1::uuid AND ${id} < $5::uuid AND (${id}, ${line}) > ($1::uuid, $2::integer)`,
    `${time} >= $3::timestamptz AND ${time} < $4::timestamptz`,
  ];
  if (reach === 'TENANT') conditions.push(through === undefined ? `${tenant} = $7::uuid` : through.on);
  const joined =
    through !== undefined && reach === 'ALL' ? `${from} JOIN ${through.from} ON ${through.on}` : from;
  const page = `SELECT ${id} AS row_id, ${line} AS row_line, ${cells.join(', ')}
FROM ${joined} WHERE ${conditions.join(' AND ')}
ORDER BY row_id, row_line LIMIT $6`;
  if (through === undefined || reach === 'ALL') return page;
  return `SELECT found.* FROM ${through.from} CROSS JOIN LATERAL (${page}) found WHERE ${through.tenant} = $7::uuid`;
}

/**
 * How many rows there are ($1 and $2 the range of time), and how many of them within a range of ids ($3 and $4); for one
 * tenant $5.
 */
export function countSql({ parts }: Source, reach: Reach['kind']): string {
  const counts = parts.map(
    ({ from, id, time, tenant }) =>
      `SELECT count(*) AS found, count(*) FILTER (WHERE ${id} >= $3::uuid AND ${id} < $4::uuid) AS within
FROM ${from} WHERE ${time} >= $1::timestamptz AND ${time} < $2::timestamptz${reach === 'TENANT' ? ` AND ${tenant} = $5::uuid` : ''}`,
  );
  return `SELECT sum(found)::text AS found, sum(within)::text AS within FROM (\n${counts.join('\nUNION ALL\n')}\n) counted`;
}

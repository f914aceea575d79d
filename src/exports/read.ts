import type { PoolClient } from 'pg';
import type { Database } from '../db/client.ts';
import { invariant } from '../kernel/errors.ts';
import type { Row } from './column.ts';
import { type ClosedRange, expectedIds } from './range.ts';
import {
  ALL_IDS,
  type Cursor,
  countSql,
  type IdRange,
  KEY_CELLS,
  pageSql,
  type Reach,
  type Source,
} from './source.ts';

/** Which rows are read. */
export interface Extract extends ClosedRange {
  readonly source: Source;
  readonly reach: Reach;
}

/** The database, so far as exports read it. */
export type ExportDatabase = Pick<Database, 'withTenantPg' | 'withSystemPg'>;

/** Rows that follow each other. */
export interface Page {
  readonly rows: readonly Row[];
  /** The key of the last of them. */
  readonly last: Cursor;
}

/** What a count found. */
export interface Counted {
  readonly rows: bigint;
  /** Among which ids all of the rows are. */
  readonly ids: IdRange;
}

/** Rows of one page: what is held in memory of what the database answers. */
export const PAGE_ROWS = 5_000;
/** A count of ten million rows, or a page behind many rows that are out of range, takes longer than a request may. */
const STATEMENT_MS = 600_000;

/**
 * Pages are read off an index, in order. A plan that finds all rows of the range and sorts them costs as much for each
 * page as for the whole, and looks cheap while the statistics do not know yet how many there are.
 */
const IN_ORDER =
  'SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off';

/** Columns come as the text that Postgres sends, whatever their type. */
const AS_TEXT = { getTypeParser: () => (text: string | Buffer) => String(text) };

/**
 * Reads the rows of a range in pages, each in a transaction of its own, as the tenant behind row-level security. One
 * snapshot for all of them would keep vacuum from every row that changes meanwhile, for as long as ten million rows
 * take; closed ranges of facts need none, because every snapshot shows the same of them.
 */
export class ExtractReader {
  readonly #database: ExportDatabase;
  readonly #extract: Extract;
  readonly #pageRows: number;

  constructor(database: ExportDatabase, extract: Extract, pageRows: number = PAGE_ROWS) {
    this.#database = database;
    this.#extract = extract;
    this.#pageRows = pageRows;
  }

  /** Counts the rows, and finds out whether they are all where their ids are expected. */
  async count(): Promise<Counted> {
    const { source, reach, from, until } = this.#extract;
    const expected = expectedIds(this.#extract);
    const values = [from, until, expected.from, expected.until, ...tenantOf(reach)];
    const [row] = await this.#run(async (client) => {
      const { rows } = await client.query<{ found: string; within: string }>(
        countSql(source, reach.kind),
        values,
      );
      return rows;
    });
    invariant(row !== undefined, 'a sum has one row');
    return { rows: BigInt(row.found), ids: row.found === row.within ? expected : ALL_IDS };
  }

  /** All rows behind a row, or all, in the order of their keys; no page is empty. */
  async *pages(ids: IdRange, after: Cursor | null): AsyncGenerator<Page> {
    const { source, reach, from, until } = this.#extract;
    const text = pageSql(source, reach.kind);
    let cursor: Cursor = after ?? { id: ids.from, line: -1 };
    for (;;) {
      const values = [cursor.id, cursor.line, from, until, ids.until, this.#pageRows, ...tenantOf(reach)];
      const rows = await this.#run(async (client) => {
        await client.query(IN_ORDER);
        const query = { text, values, rowMode: 'array' as const, types: AS_TEXT };
        return (await client.query<(string | null)[]>(query)).rows;
      });
      const last = rows.at(-1);
      if (last === undefined) return;
      cursor = { id: last[0] ?? '', line: Number(last[1]) };
      yield { rows: rows.map((row) => row.slice(KEY_CELLS)), last: cursor };
      if (rows.length < this.#pageRows) return;
    }
  }

  #run<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
    const { reach } = this.#extract;
    const reading = async (client: PoolClient): Promise<T> => {
      // Compiling a plan takes longer than a page.
      await client.query(
        `SET LOCAL transaction_read_only = on; SET LOCAL statement_timeout = ${STATEMENT_MS}; SET LOCAL jit = off`,
      );
      return work(client);
    };
    return reach.kind === 'TENANT'
      ? this.#database.withTenantPg(reach.tenantId, reading)
      : this.#database.withSystemPg(reading);
  }
}

function tenantOf(reach: Reach): readonly string[] {
  return reach.kind === 'TENANT' ? [reach.tenantId] : [];
}

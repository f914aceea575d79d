/**
 * What a column of an export holds. Rows are read as text, as Postgres writes it, so that nothing is lost between the
 * database and the file: a JavaScript number has 53 bits and a `Date` has milliseconds.
 *
 * - `integer`: 32 bits; `bigint`: 64 bits; `decimal`: whole, and of any size
 * - `timestamp`: read as microseconds since 1970
 * - `hex`: bytes, as lower-case hexadecimal digits
 * - `json`: one JSON value
 */
export type ColumnType = 'uuid' | 'text' | 'hex' | 'integer' | 'bigint' | 'decimal' | 'timestamp' | 'json';

/** A column of an export, as it is documented and as it is written. */
export interface Column<N extends string = string> {
  /** Lower-case words with underscores; the name in every format. */
  readonly name: N;
  readonly type: ColumnType;
  readonly nullable: boolean;
  /** What numbers count, such as `tokens`; null where there is nothing to count. */
  readonly unit: string | null;
  /** One sentence or two, for the reference. */
  readonly description: string;
}

/** A value of a column as text; null is the database's null. */
export type Cell = string | null;
/** One row, in the order of the columns. */
export type Row = readonly Cell[];

/** A column that is never null. */
export function column<const N extends string>(
  name: N,
  type: ColumnType,
  description: string,
  unit: string | null = null,
): Column<N> {
  return { name, type, nullable: false, unit, description };
}

/** A column that may be null. */
export function nullable<const N extends string>(
  name: N,
  type: ColumnType,
  description: string,
  unit: string | null = null,
): Column<N> {
  return { name, type, nullable: true, unit, description };
}

/** The expression that reads a column as text. */
export function cellSql(type: ColumnType, expression: string): string {
  switch (type) {
    case 'timestamp':
      return `((extract(epoch FROM ${expression}) * 1000000)::bigint)::text`;
    case 'hex':
      return `encode(${expression}, 'hex')`;
    default:
      return `(${expression})::text`;
  }
}

const SECOND_US = 1_000_000n;

/** Microseconds since 1970 as RFC 3339 in UTC, with six digits. */
export function timestampText(microseconds: string): string {
  const us = BigInt(microseconds);
  const fraction = ((us % SECOND_US) + SECOND_US) % SECOND_US;
  const second = new Date(Number((us - fraction) / 1000n)).toISOString().slice(0, -5);
  return `${second}.${String(fraction).padStart(6, '0')}Z`;
}

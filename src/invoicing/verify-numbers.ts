import type { PoolClient } from 'pg';
import type { InvoiceProblem } from './verify-types.ts';

/**
 * Numbers of a kind and year run from 1 to the last one given, each once: as many as that, all different, none above it.
 */
export async function findWrongNumbers(client: PoolClient): Promise<readonly InvoiceProblem[]> {
  const { rows } = await client.query<{
    readonly kind: string;
    readonly year: number;
    readonly given: string;
    readonly highest: number;
    readonly last: number | null;
    readonly missing: readonly number[] | null;
  }>(
    `WITH given AS (
       SELECT 'INVOICE' AS kind, number_year AS year, number_serial AS serial FROM invoice WHERE number IS NOT NULL
       UNION ALL
       SELECT 'CREDIT_NOTE', number_year, number_serial FROM credit_note
     ), summed AS (
       SELECT kind, year, count(DISTINCT serial) AS given, max(serial) AS highest FROM given GROUP BY kind, year
     )
     SELECT kind, year, coalesce(s.given, 0)::text AS given, coalesce(s.highest, 0) AS highest, n.last,
            (SELECT array_agg(i) FROM (
               SELECT i FROM generate_series(1, greatest(coalesce(n.last, 0), coalesce(s.highest, 0))) i
               EXCEPT SELECT g.serial FROM given g WHERE g.kind = s.kind AND g.year = s.year
               ORDER BY 1 LIMIT 10) m) AS missing
     FROM summed s FULL JOIN number_series n USING (kind, year)
     WHERE s.highest IS DISTINCT FROM n.last OR s.given IS DISTINCT FROM n.last::bigint
     ORDER BY kind, year`,
  );
  return rows.map(({ kind, year, highest, last, missing }) => ({
    invoiceId: null,
    bill: `${kind} ${year}`,
    message:
      missing === null
        ? `The highest number is ${highest}, and the last one that was given is ${last ?? 'none'}.`
        : `Numbers are missing: ${missing.join(', ')}.`,
  }));
}

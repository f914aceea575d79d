import type { PoolClient } from 'pg';
import type { Settlement, SettlementWitness } from '../../metering/types.ts';

/**
 * Numbers settlements by tenant and by adapter version, without gaps, because it does so in their transaction, and leaves
 * them to be signed. Counters are locked in the order of their keys, which keeps transactions of one lane from deadlocks.
 */
const NUMBER = `
WITH input AS (
  SELECT * FROM jsonb_to_recordset($1::jsonb) AS i(id uuid, executed jsonb)
), request AS (
  SELECT i.id, nullif(i.executed, 'null') AS executed, u.tenant_id
  FROM input i JOIN usage_record u ON u.id = i.id WHERE u.id = ANY ($2::uuid[])
), used AS (
  SELECT 'tenant' AS kind, tenant_id AS subject_id, id AS request_id FROM request
  UNION ALL
  SELECT 'version', s.adapter_version_id, s.request_id FROM usage_share s WHERE s.request_id = ANY ($2::uuid[])
), counted AS (
  INSERT INTO receipt_counter AS c (kind, subject_id, lane, last)
  SELECT kind, subject_id, $3, count(*) FROM used GROUP BY kind, subject_id ORDER BY kind, subject_id
  ON CONFLICT (kind, subject_id, lane) DO UPDATE SET last = c.last + excluded.last
  RETURNING kind, subject_id, last
), numbered AS (
  SELECT u.kind, u.subject_id, u.request_id,
         c.last - count(*) OVER (PARTITION BY u.kind, u.subject_id)
           + row_number() OVER (PARTITION BY u.kind, u.subject_id ORDER BY u.request_id) AS number
  FROM used u JOIN counted c USING (kind, subject_id)
), versions AS (
  SELECT request_id, array_agg(subject_id ORDER BY subject_id) AS ids, array_agg(number ORDER BY subject_id) AS numbers
  FROM numbered WHERE kind = 'version' GROUP BY request_id
)
INSERT INTO receipt_pending (request_id, lane, tenant_number, version_ids, version_numbers, executed)
SELECT r.id, $3, t.number, coalesce(v.ids, '{}'), coalesce(v.numbers, '{}'), r.executed
FROM request r
JOIN numbered t ON t.request_id = r.id AND t.kind = 'tenant'
LEFT JOIN versions v ON v.request_id = r.id`;

/** Gives every settlement its numbers, in the transaction that writes it. */
export class ReceiptCounters implements SettlementWitness {
  async settled(client: PoolClient, lane: number, settlements: readonly Settlement[]): Promise<void> {
    if (settlements.length === 0) return;
    const rows = settlements.map(({ requestId, executed }) => ({ id: requestId, executed }));
    await client.query({
      name: 'receipts_number',
      text: NUMBER,
      values: [JSON.stringify(rows), rows.map(({ id }) => id), lane],
    });
  }
}

import type { Uuid } from '../kernel/ids.ts';
import type { SystemDatabase } from '../metering/lease.ts';

/**
 * What has to agree.
 *
 * - `RECORD_CHARGES`: a usage record costs the sum of its charges, and they charge for its tokens.
 * - `RECORD_CAPTURE`: what a record costs was captured from its hold, and nothing else.
 * - `CAPTURE_RECORD`: every capture of an inference belongs to a record.
 * - `EARNINGS`: beneficiaries were credited the royalties of the record's adapters without the fees.
 * - `PLATFORM`: the platform was credited the rest.
 * - `OPEN_HOLD`: money is held for requests that run, and for no others.
 */
export type ReconciliationRule =
  | 'RECORD_CHARGES'
  | 'RECORD_CAPTURE'
  | 'CAPTURE_RECORD'
  | 'EARNINGS'
  | 'PLATFORM'
  | 'OPEN_HOLD';

/** One thing that does not agree; null where one side has nothing. */
export interface ReconciliationDifference {
  readonly rule: ReconciliationRule;
  readonly requestId: Uuid;
  readonly expected: string | null;
  readonly actual: string | null;
}

/** One statement, hence one snapshot: a settlement is in all of them or in none. */
const RECONCILE = `
WITH record AS (
  SELECT id, hold_id, amount_nano, prompt_tokens, cached_prompt_tokens, completion_tokens
  FROM usage_record WHERE ended_at >= $1 AND ended_at < $2 AND amount_nano IS NOT NULL
), charge AS (
  SELECT r.id, sum(c.total_nano) AS amount, sum(c.royalty_nano - c.fee_nano) AS earned,
         coalesce(bool_and(c.input_tokens + c.cached_tokens = r.prompt_tokens
           AND c.cached_tokens = r.cached_prompt_tokens AND c.output_tokens = r.completion_tokens), false) AS counted
  FROM record r LEFT JOIN usage_charge c ON c.request_id = r.id GROUP BY r.id
), capture AS (
  SELECT t.id, t.pending_id, t.reference_id, t.amount FROM ledger_transfer t
  WHERE t.kind = 'POST' AND t.reference_type = 'inference' AND t.created_at >= $1 AND t.created_at < $2
), credited AS (
  SELECT r.id, sum(p.amount) FILTER (WHERE a.kind = 'EARNINGS') AS earned,
         sum(p.amount) FILTER (WHERE a.kind IN ('PLATFORM_BASE', 'PLATFORM_FEE')) AS platform
  FROM record r
  JOIN capture t ON t.pending_id = r.hold_id
  JOIN ledger_posting p ON p.transfer_id = t.id
  JOIN ledger_account a ON a.id = p.account_id
  GROUP BY r.id
)
SELECT 'RECORD_CHARGES' AS rule, r.id AS request_id, r.amount_nano::text AS expected,
       CASE WHEN c.counted THEN c.amount::text ELSE 'other tokens' END AS actual
FROM record r JOIN charge c ON c.id = r.id
WHERE c.amount IS DISTINCT FROM r.amount_nano OR NOT c.counted
UNION ALL
SELECT 'RECORD_CAPTURE', r.id, r.amount_nano::text, t.amount::text
FROM record r LEFT JOIN capture t ON t.pending_id = r.hold_id
WHERE coalesce(t.amount, 0) <> r.amount_nano OR (r.hold_id IS NOT NULL AND t.id IS NULL)
UNION ALL
SELECT 'CAPTURE_RECORD', coalesce(t.reference_id, t.id), NULL, t.amount::text
FROM capture t WHERE NOT EXISTS (SELECT FROM usage_record r WHERE r.id = t.reference_id AND r.hold_id = t.pending_id)
UNION ALL
SELECT 'EARNINGS', c.id, coalesce(c.earned, 0)::text, coalesce(d.earned, 0)::text
FROM charge c LEFT JOIN credited d ON d.id = c.id WHERE coalesce(d.earned, 0) <> coalesce(c.earned, 0)
UNION ALL
SELECT 'PLATFORM', c.id, (c.amount - c.earned)::text, coalesce(d.platform, 0)::text
FROM charge c LEFT JOIN credited d ON d.id = c.id
WHERE coalesce(d.platform, 0) <> coalesce(c.amount - c.earned, 0)
UNION ALL
SELECT 'OPEN_HOLD', coalesce(q.id, t.reference_id, t.id), q.hold_id::text, t.id::text
FROM (SELECT id, hold_id FROM inference_request WHERE hold_id IS NOT NULL) q
FULL JOIN (
  SELECT t.id, t.reference_id FROM ledger_open_hold o JOIN ledger_transfer t ON t.id = o.transfer_id
  WHERE t.reference_type = 'inference') t ON t.id = q.hold_id
WHERE q.id IS NULL OR t.id IS NULL
ORDER BY rule, request_id`;

/**
 * Compares usage records, charges and the ledger of a period (`to` exclusive) request by request, and what is held now
 * with what runs now; returns every difference. Reads everything of the period: for closing it and for audits.
 */
export async function reconcile(
  database: Pick<SystemDatabase, 'querySystem'>,
  period: { readonly from: Date; readonly to: Date },
): Promise<readonly ReconciliationDifference[]> {
  const rows = await database.querySystem<{
    readonly rule: ReconciliationRule;
    readonly request_id: Uuid;
    readonly expected: string | null;
    readonly actual: string | null;
  }>(RECONCILE, [period.from, period.to]);
  return rows.map(({ rule, request_id: requestId, expected, actual }) => ({
    rule,
    requestId,
    expected,
    actual,
  }));
}

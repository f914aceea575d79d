import type { Uuid } from '../../kernel/ids.ts';
import { ENGINE_COMPLETION, ENGINE_PROMPT } from '../../reconciliation/rules/engine.ts';
import type { Query } from '../log/store.ts';
import { DIFFERING_LEAVES } from './compare-leaf.ts';
import { EARNED } from './earned.ts';
import type { QuarantineReason } from './types.ts';

const MISSING_RECORDS = `
SELECT i.id FROM unnest($1::uuid[]) AS i(id)
WHERE i.id NOT IN (SELECT r.id FROM usage_record r WHERE r.id = ANY ($1::uuid[]))`;

const DIFFERING_COUNTS = `
SELECT r.id FROM usage_record r
WHERE r.id = ANY ($1::uuid[])
  AND (r.prompt_tokens <> (${ENGINE_PROMPT}) OR r.completion_tokens <> (${ENGINE_COMPLETION}))`;

// What the ledger moved and what should have moved, with opposite signs: what is left of an account is what differs.
const DIFFERING_CAPTURES = `
WITH record AS (
  SELECT id, tenant_id, currency, amount_nano, hold_id FROM usage_record WHERE id = ANY ($1::uuid[])
), ${EARNED}, capture AS (
  SELECT r.id AS request_id, t.id, t.asset, t.amount, t.tenant_id, t.reference_type, t.reference_id
  FROM record r
  CROSS JOIN LATERAL (SELECT * FROM ledger_transfer t WHERE t.pending_id = r.hold_id AND t.kind = 'POST' OFFSET 0) t
), line AS (
  SELECT c.request_id, c.asset, a.kind, CASE WHEN a.kind IN ('CUSTOMER', 'EARNINGS') THEN a.tenant_id END AS tenant_id,
         CASE WHEN a.kind = 'EARNINGS' THEN p.subject_id END AS subject_id, p.amount::numeric AS amount
  FROM capture c
  CROSS JOIN LATERAL (SELECT * FROM ledger_posting p WHERE p.transfer_id = c.id OFFSET 0) p
  CROSS JOIN LATERAL (SELECT * FROM ledger_account a WHERE a.id = p.account_id OFFSET 0) a
  UNION ALL
  SELECT id, currency, 'CUSTOMER', tenant_id, NULL, amount_nano FROM record WHERE amount_nano IS NOT NULL
  UNION ALL
  SELECT request_id, currency, 'PLATFORM_BASE', NULL, NULL, royalty_nano - total_nano FROM charge
  UNION ALL
  SELECT request_id, currency, 'PLATFORM_FEE', NULL, NULL, -fee_nano FROM charge
  UNION ALL
  SELECT request_id, currency, 'EARNINGS', tenant_id, version_id, -amount FROM earned
)
SELECT l.request_id AS id FROM line l
GROUP BY l.request_id, l.asset, l.kind, l.tenant_id, l.subject_id HAVING sum(l.amount) <> 0
UNION
SELECT r.id FROM record r LEFT JOIN capture c ON c.request_id = r.id
WHERE coalesce(c.amount, 0) <> coalesce(r.amount_nano, 0) OR (r.hold_id IS NOT NULL AND c.id IS NULL)
   OR (c.tenant_id, c.asset, c.reference_type, c.reference_id) <> (r.tenant_id, r.currency, 'inference', r.id)`;

const NAMED_VERSIONS = `
SELECT DISTINCT price_version AS price, royalty_version AS royalty, split_version AS split
FROM usage_charge WHERE request_id = ANY ($1::uuid[])`;

type IdRow = { readonly id: Uuid };
type VersionsRow = { readonly price: Uuid; readonly royalty: Uuid | null; readonly split: Uuid | null };

/** Digests of documents by the ids of the versions that they are of; `DocumentStore` has them. */
export interface DocumentDigests {
  digests(wanted: readonly VersionsRow[]): Promise<ReadonlyMap<Uuid, string>>;
}

/** Requests that do not match, each with the first reason of the list of reasons. */
export type Mismatches = ReadonlyMap<Uuid, QuarantineReason>;

/** What a comparison works with. */
export interface CompareDeps {
  readonly query: Query;
  readonly documents: DocumentDigests;
  readonly logId: Uint8Array;
}

/** What was compared, and the digests of the documents that the charges of the requests name. */
export interface Comparison {
  readonly mismatches: Mismatches;
  readonly digests: ReadonlyMap<Uuid, string>;
}

/** Compares what the engine counted, usage records, captures and leaves of requests that have leaves. */
export async function compare(
  { query, documents, logId }: CompareDeps,
  ids: readonly Uuid[],
): Promise<Comparison> {
  if (ids.length === 0) return { mismatches: new Map(), digests: new Map() };
  const named = await query<VersionsRow>(NAMED_VERSIONS, [ids]);
  const digests = await documents.digests(named);
  const found = new Map<Uuid, QuarantineReason>();
  const look = async (
    reason: QuarantineReason,
    text: string,
    more: readonly unknown[] = [],
  ): Promise<void> => {
    for (const { id } of await query<IdRow>(text, [ids, ...more])) if (!found.has(id)) found.set(id, reason);
  };
  await look('RECORD_MISSING', MISSING_RECORDS);
  await look('ENGINE_DIFFERS', DIFFERING_COUNTS);
  await look('CAPTURE_DIFFERS', DIFFERING_CAPTURES);
  await look('LEAF_DIFFERS', DIFFERING_LEAVES, [[...digests.keys()], [...digests.values()], logId]);
  return { mismatches: found, digests };
}

import { isUuid, type Uuid } from '../../kernel/ids.ts';
import type { Query } from '../log/store.ts';
import type { Quarantined, Released } from './types.ts';

type OpenRow = {
  readonly request_id: Uuid;
  readonly epoch: string;
  readonly leaf: Buffer | null;
};

const OPEN = `
SELECT q.request_id, q.epoch::text, q.leaf
FROM epoch_quarantined q
WHERE q.request_id > $1::uuid AND q.request_id <= $2::uuid AND q.leaf IS NOT NULL
  AND NOT EXISTS (SELECT FROM epoch_released r WHERE r.quarantined_in = q.epoch AND r.request_id = q.request_id)
ORDER BY q.request_id LIMIT $3`;

// Of each page of leaves there are few or none, which are looked up one by one.
const ARRIVED = `
SELECT q.request_id, q.epoch::text, q.leaf
FROM epoch_quarantined q
LEFT JOIN LATERAL (
  SELECT true AS is_gone FROM epoch_released r
  WHERE r.quarantined_in = q.epoch AND r.request_id = q.request_id OFFSET 0) r ON true
WHERE q.request_id = ANY ($1::uuid[]) AND q.reason = 'LEAF_MISSING' AND r.is_gone IS NULL`;

/** Requests that are quarantined with their leaves now, in the order of their ids, behind one of them and up to another. */
export async function openQuarantines(
  query: Query,
  { after, until }: { readonly after: Uuid; readonly until: Uuid },
  most: number,
): Promise<readonly Released[]> {
  return (await query<OpenRow>(OPEN, [after, until, most])).map(toReleased);
}

/** Those of these requests, which have leaves, that are quarantined because they had none. */
export async function arrivedOf(query: Query, ids: readonly Uuid[]): Promise<readonly Released[]> {
  return (await query<OpenRow>(ARRIVED, [ids])).map(toReleased);
}

function toReleased({ request_id, epoch, leaf }: OpenRow): Released {
  return { requestId: request_id, epoch: BigInt(epoch), leaf };
}

// A process numbers everything that it settles or nothing, so that one receipt of its run shows that proofs were on.
const MISSING = `
WITH record AS (
  SELECT r.id, r.instance_id, r.settled_by, r.ended_at,
         EXISTS (SELECT FROM receipt_pending p WHERE p.request_id = r.id) AS pending,
         EXISTS (SELECT FROM receipt c WHERE c.request_id = r.id) AS signed,
         EXISTS (SELECT FROM log_leaf l WHERE l.entry_id = r.id) AS logged
  FROM usage_record r WHERE r.ended_at >= $1::timestamptz AND r.ended_at < $2::timestamptz
)
SELECT r.id, r.ended_at
FROM record r
WHERE NOT r.logged
  AND (r.pending OR r.signed
    OR (r.settled_by = 'engine' AND r.instance_id IN (SELECT n.instance_id FROM record n WHERE n.signed)))
  AND NOT EXISTS (
    SELECT FROM epoch_quarantined q
    WHERE q.request_id = r.id
      AND NOT EXISTS (SELECT FROM epoch_released e WHERE e.quarantined_in = q.epoch AND e.request_id = q.request_id))
ORDER BY r.ended_at, r.id LIMIT $3`;

/** Where looking for missing leaves begins: when proofs were first on, or where the epoch before ended looking. */
const SCANNED = `
SELECT greatest(s.records_until, to_timestamp((SELECT k.valid_from / 1000.0 FROM proof_key k ORDER BY k.position LIMIT 1)))
         AS records_until
FROM epoch_scan s`;

/** How looking is bounded. */
export interface MissingOptions {
  /** Most requests of one epoch. */
  readonly most: number;
  /** How much time one statement looks at. */
  readonly stepMs: number;
  /** Most statements of one epoch; what is left is looked at by the next. */
  readonly stepsMax: number;
}

/** Values that suit a server: 41 days for one epoch. */
export const MISSING_DEFAULTS: MissingOptions = { most: 8_000, stepMs: 3_600_000, stepsMax: 1_000 };

/** Usage records that ended before the time, were numbered, and that the log does not have. */
export async function findMissing(
  query: Query,
  before: Date,
  options: MissingOptions,
): Promise<{ readonly missing: readonly Quarantined[]; readonly until: Date | null }> {
  const [scan] = await query<{ readonly records_until: Date | null }>(SCANNED, []);
  let from = scan?.records_until ?? null;
  const missing: Quarantined[] = [];
  for (let step = 0; from !== null && from < before && step < options.stepsMax; step += 1) {
    const to = new Date(Math.min(before.getTime(), from.getTime() + options.stepMs));
    const left = options.most - missing.length;
    const rows = await query<{ readonly id: Uuid; readonly ended_at: Date }>(MISSING, [from, to, left + 1]);
    for (const { id } of rows.slice(0, left))
      missing.push({ requestId: id, reason: 'LEAF_MISSING', leaf: null });
    // What is more than fits is looked at again by the next epoch, which leaves out what this one has.
    if (rows.length > left) return { missing, until: from };
    from = to;
  }
  return { missing, until: from };
}

/** The id before every other, and the one after them. */
export const FIRST_ID: Uuid = '00000000-0000-0000-0000-000000000000';
export const LAST_ID: Uuid = 'ffffffff-ffff-ffff-ffff-ffffffffffff';

/** Whether a text is the place of a page of quarantined requests: an epoch and a request's id. */
export function parsePlace(text: string): { readonly epoch: string; readonly requestId: Uuid } | null {
  const [epoch = '', requestId = '', ...more] = text.split(':');
  return /^\d{1,19}$/.test(epoch) && isUuid(requestId) && more.length === 0 ? { epoch, requestId } : null;
}

/**
 * The SQL of metering, in one place. Every statement is a single round trip and idempotent, because a connection that
 * breaks during COMMIT leaves the outcome unknown and the same transaction is then run again.
 */

/** The adapter version id that stands for "none" in rollups: a rollup's key cannot hold nulls. */
export const NO_ADAPTER = '00000000-0000-0000-0000-000000000000';

/**
 * Locks the instances that may still write. The share lock makes fencing wait for this transaction, and this
 * transaction see a fence that came first; the fence alone ends a lease, so an instance that renewed late but in
 * time goes on.
 */
export const LOCK_LIVE_INSTANCES = `
SELECT id FROM instance WHERE id = ANY($1::uuid[]) AND fenced_at IS NULL ORDER BY id FOR SHARE`;

/** Writes admissions; one whose idempotency key is taken is left out of the result. */
export const ADMIT = `
WITH input AS (
  SELECT * FROM jsonb_to_recordset($1::jsonb) AS i(
    id uuid, tenant_id uuid, key_id uuid, instance_id uuid, idempotency_key_hash text, idempotency_salt text,
    request_hash text, backbone_digest text, adapters jsonb, priority_class text, prompt_tokens integer,
    max_tokens integer, salt text, prompt_commitment text, output_commitment text, hold_id uuid, pricing jsonb)
), claimed AS (
  INSERT INTO inference_idempotency (tenant_id, key_hash, request_id, salt, request_hash, created_at)
  SELECT tenant_id, decode(idempotency_key_hash, 'hex'), id, decode(idempotency_salt, 'hex'),
         decode(request_hash, 'hex'), now()
  FROM input WHERE idempotency_key_hash IS NOT NULL
  -- Two processes that claim the same keys in one round each must do so in the same order, or they deadlock.
  ORDER BY tenant_id, decode(idempotency_key_hash, 'hex')
  ON CONFLICT (tenant_id, key_hash) DO NOTHING
  RETURNING request_id
), admitted AS (
  INSERT INTO inference_request (
    id, tenant_id, key_id, instance_id, idempotency_key_hash, backbone_digest, adapters, priority_class,
    prompt_tokens, max_tokens, salt, prompt_commitment, admitted_at, hold_id, pricing)
  SELECT id, tenant_id, key_id, instance_id, decode(idempotency_key_hash, 'hex'), decode(backbone_digest, 'hex'),
         adapters, priority_class, prompt_tokens, max_tokens, decode(salt, 'hex'), decode(prompt_commitment, 'hex'),
         now(), hold_id, pricing
  FROM input
  WHERE idempotency_key_hash IS NULL OR id IN (SELECT request_id FROM claimed)
  ON CONFLICT (id) DO NOTHING
  RETURNING id
), started AS (
  INSERT INTO request_progress (request_id, tenant_id, completion_tokens, output_commitment, updated_at)
  SELECT id, tenant_id, 0, decode(output_commitment, 'hex'), now() FROM input JOIN admitted USING (id)
)
SELECT id FROM admitted`;

/** Which of these requests are admitted already: tells a repeated admission from one whose key is taken. */
export const FIND_ADMITTED = `
SELECT id FROM inference_request WHERE id = ANY($1::uuid[])`;

/** Moves the progress `p` of a request to what the input `i` says. */
const MOVE_PROGRESS = `UPDATE request_progress p
SET completion_tokens = i.completion_tokens, output_commitment = i.output_commitment,
    cached_prompt_tokens = i.cached_prompt_tokens, updated_at = now(),
    first_token_at = coalesce(p.first_token_at, now())`;

/** Moves progress forward; a request that another process settled is left out of the result. */
export const PROGRESS = `
${MOVE_PROGRESS}
FROM unnest($1::uuid[], $2::integer[], $3::bytea[], $4::integer[])
       AS i(request_id, completion_tokens, output_commitment, cached_prompt_tokens)
WHERE p.request_id = i.request_id AND p.completion_tokens <= i.completion_tokens
RETURNING p.request_id AS id`;

/**
 * {@link LOCK_LIVE_INSTANCES} and {@link PROGRESS} as one statement, and so a transaction of one round trip, for rounds
 * with nothing else in them. Answers both: the instances that may still write, and the requests that moved. A row moves
 * only once its instance is locked, so it stands to a fence as it does in a round of several statements.
 */
export const PROGRESS_ALONE = `
WITH live AS MATERIALIZED (
  SELECT id FROM instance WHERE id = ANY($5::uuid[]) AND fenced_at IS NULL ORDER BY id FOR SHARE
), moved AS (
  ${MOVE_PROGRESS}
  FROM unnest($1::uuid[], $2::integer[], $3::bytea[], $4::integer[], $5::uuid[])
         AS i(request_id, completion_tokens, output_commitment, cached_prompt_tokens, instance_id)
  JOIN live ON live.id = i.instance_id
  WHERE p.request_id = i.request_id AND p.completion_tokens <= i.completion_tokens
  RETURNING p.request_id
)
SELECT id, 'live' AS what FROM live UNION ALL SELECT request_id, 'moved' FROM moved`;

/** Removes admissions that never ran, and frees their idempotency keys. */
export const VOID = `
WITH gone AS (
  DELETE FROM inference_request WHERE id = ANY($1::uuid[])
  RETURNING id, tenant_id, idempotency_key_hash, admitted_at, prompt_tokens, max_tokens
), stopped AS (
  DELETE FROM request_progress p USING gone g WHERE p.request_id = g.id
), released AS (
  DELETE FROM inference_idempotency k USING gone g
  WHERE k.tenant_id = g.tenant_id AND k.key_hash = g.idempotency_key_hash AND k.request_id = g.id
)
SELECT id, tenant_id, admitted_at, 1 AS unused_requests, prompt_tokens AS unused_prompt_tokens,
       max_tokens AS unused_completion_tokens
FROM gone`;

/**
 * Settles requests with the given numbers: writes their facts, and the event that says so. Deleting the admission row
 * decides who settles: whoever finds it gone writes nothing.
 *
 * Rollups are upserted in key order, so that two transactions that share a shard cannot deadlock on them.
 */
export const SETTLE = `
WITH input AS (
  SELECT * FROM jsonb_to_recordset($1::jsonb) AS i(
    id uuid, instance_id uuid, prompt_tokens integer, cached_prompt_tokens integer, completion_tokens integer,
    output_commitment text, queue_us bigint, prefill_us bigint, decode_us bigint, compute_us bigint,
    bytes_loaded bigint, finish_reason text, error_code text, settled_by text, charge jsonb,
    engine_prompt_tokens integer, engine_completion_tokens integer, dropped_completion_tokens integer)
), gone AS (
  DELETE FROM inference_request q USING input i WHERE q.id = i.id AND q.instance_id = i.instance_id RETURNING q.*
), stopped AS (
  DELETE FROM request_progress p USING gone g WHERE p.request_id = g.id RETURNING p.request_id, p.first_token_at
), final AS (
  SELECT g.id, g.tenant_id, g.key_id, g.instance_id, g.idempotency_key_hash, g.backbone_digest, g.adapters,
         g.priority_class, g.salt, g.prompt_commitment, g.admitted_at, g.hold_id, nullif(i.charge, 'null') AS charge,
         i.prompt_tokens, i.cached_prompt_tokens, i.completion_tokens,
         decode(i.output_commitment, 'hex') AS output_commitment, i.queue_us, i.prefill_us, i.decode_us,
         i.compute_us, i.bytes_loaded, i.finish_reason, i.error_code, i.settled_by, i.engine_prompt_tokens,
         i.engine_completion_tokens, i.dropped_completion_tokens,
         coalesce(s.first_token_at, CASE WHEN i.completion_tokens > 0 THEN now() END) AS first_token_at,
         g.prompt_tokens AS reserved_prompt_tokens, g.max_tokens AS reserved_completion_tokens
  FROM gone g JOIN input i ON i.id = g.id LEFT JOIN stopped s ON s.request_id = g.id
), recorded AS (
  INSERT INTO usage_record (
    id, tenant_id, key_id, backbone_digest, prompt_tokens, cached_prompt_tokens, completion_tokens, priority_class,
    queue_us, prefill_us, decode_us, compute_us, bytes_loaded, finish_reason, error_code, admitted_at,
    first_token_at, ended_at, settled_by, instance_id, hold_id, prompt_commitment, output_commitment, amount_nano,
    currency, engine_prompt_tokens, engine_completion_tokens, dropped_completion_tokens)
  SELECT id, tenant_id, key_id, backbone_digest, prompt_tokens, cached_prompt_tokens, completion_tokens,
         priority_class, queue_us, prefill_us, decode_us, compute_us, bytes_loaded, finish_reason, error_code,
         admitted_at, first_token_at, now(), settled_by, instance_id, hold_id, prompt_commitment, output_commitment,
         (charge ->> 'amount')::bigint, charge ->> 'currency', engine_prompt_tokens, engine_completion_tokens,
         dropped_completion_tokens
  FROM final
), salted AS (
  INSERT INTO usage_salt (request_id, tenant_id, salt) SELECT id, tenant_id, salt FROM final
), parts AS (
  SELECT f.id, f.tenant_id, f.key_id, f.backbone_digest, f.priority_class, f.charge ->> 'currency' AS currency, c.*
  FROM final f
  CROSS JOIN LATERAL jsonb_to_recordset(f.charge -> 'parts') AS c(
    part smallint, version_id uuid, adapter_id uuid, owner_tenant_id uuid, rank integer, share_numerator numeric,
    share_denominator numeric, price_version uuid, royalty_version uuid, split_version uuid, input_tokens integer,
    cached_tokens integer, output_tokens integer, input_nano bigint, cached_nano bigint, output_nano bigint,
    rank_nano bigint, royalty_nano bigint, fee_nano bigint, total_nano bigint)
), charged AS (
  INSERT INTO usage_charge (
    request_id, part, tenant_id, key_id, backbone_digest, adapter_version_id, adapter_id, owner_tenant_id, rank,
    priority_class, share_numerator, share_denominator, price_version, royalty_version, split_version, currency,
    input_tokens, cached_tokens, output_tokens, input_nano, cached_nano, output_nano, rank_nano, royalty_nano,
    fee_nano, total_nano, ended_at)
  SELECT id, part, tenant_id, key_id, backbone_digest, version_id, adapter_id, owner_tenant_id, rank,
         priority_class, share_numerator, share_denominator, price_version, royalty_version, split_version, currency,
         input_tokens, cached_tokens, output_tokens, input_nano, cached_nano, output_nano, rank_nano, royalty_nano,
         fee_nano, total_nano, now()
  FROM parts
), shares AS (
  -- upto is where the share ends when those of the request are laid end to end: cut there, the parts of a whole number
  -- are whole, add up to it, and none is off by one.
  SELECT f.*, a.*, sum(a.share_numerator) OVER (PARTITION BY f.id ORDER BY a.version_id) AS upto
  FROM final f
  CROSS JOIN LATERAL jsonb_to_recordset(f.adapters) AS a(
    version_id uuid, adapter_id uuid, owner_tenant_id uuid, digest text, weight double precision,
    share_numerator numeric, share_denominator numeric)
), shared AS (
  INSERT INTO usage_share (
    request_id, adapter_version_id, adapter_id, adapter_digest, owner_tenant_id, tenant_id, weight,
    share_numerator, share_denominator, backbone_digest, priority_class, prompt_tokens, cached_prompt_tokens,
    completion_tokens, ended_at, royalty_version, split_version, currency, royalty_nano, fee_nano)
  SELECT s.id, s.version_id, s.adapter_id, decode(s.digest, 'hex'), s.owner_tenant_id, s.tenant_id, s.weight,
         s.share_numerator, s.share_denominator, s.backbone_digest, s.priority_class, s.prompt_tokens,
         s.cached_prompt_tokens, s.completion_tokens, now(), p.royalty_version, p.split_version, p.currency,
         p.royalty_nano, p.fee_nano
  FROM shares s LEFT JOIN parts p ON p.id = s.id AND p.version_id = s.version_id
), attributed AS (
  SELECT s.*, p.total_nano, p.royalty_nano, p.royalty_nano - p.fee_nano AS earned_nano,
         div(s.compute_us * s.upto, s.share_denominator)
           - div(s.compute_us * (s.upto - s.share_numerator), s.share_denominator) AS attributed_us
  FROM shares s LEFT JOIN parts p ON p.id = s.id AND p.version_id = s.version_id
), earned AS (
  SELECT id, sum(royalty_nano - fee_nano) AS earned_nano FROM parts GROUP BY id
), counted AS (
  SELECT 'tenant' AS kind, f.tenant_id, '${NO_ADAPTER}'::uuid AS adapter_version_id,
         '${NO_ADAPTER}'::uuid AS adapter_id, f.prompt_tokens, f.cached_prompt_tokens, f.completion_tokens,
         f.compute_us, f.compute_us::numeric AS attributed_us, (f.charge ->> 'amount')::numeric AS amount_nano,
         e.earned_nano
  FROM final f LEFT JOIN earned e ON e.id = f.id
  UNION ALL
  SELECT 'caller', tenant_id, version_id, adapter_id, prompt_tokens, cached_prompt_tokens, completion_tokens,
         compute_us, attributed_us, total_nano, earned_nano
  FROM attributed
  UNION ALL
  SELECT 'caller', tenant_id, '${NO_ADAPTER}'::uuid, '${NO_ADAPTER}'::uuid, prompt_tokens, cached_prompt_tokens,
         completion_tokens, compute_us, compute_us, (charge ->> 'amount')::numeric, 0
  FROM final WHERE jsonb_array_length(adapters) = 0
  UNION ALL
  SELECT 'owner', owner_tenant_id, version_id, adapter_id, prompt_tokens, cached_prompt_tokens, completion_tokens,
         compute_us, attributed_us, royalty_nano, earned_nano
  FROM attributed
), rolled AS (
  INSERT INTO usage_rollup AS r (
    tenant_id, kind, adapter_version_id, adapter_id, bucket, shard, requests, prompt_tokens, cached_prompt_tokens,
    completion_tokens, compute_us, attributed_us, amount_nano, earned_nano)
  SELECT tenant_id, kind, adapter_version_id, adapter_id, date_trunc('hour', now(), 'UTC'), $2::smallint, count(*),
         sum(prompt_tokens), sum(cached_prompt_tokens), sum(completion_tokens), coalesce(sum(compute_us), 0),
         coalesce(sum(attributed_us), 0), coalesce(sum(amount_nano), 0), coalesce(sum(earned_nano), 0)
  FROM counted
  GROUP BY tenant_id, kind, adapter_version_id, adapter_id
  ORDER BY tenant_id, kind, adapter_version_id
  ON CONFLICT (tenant_id, kind, adapter_version_id, bucket, shard) DO UPDATE SET
    requests = r.requests + excluded.requests,
    prompt_tokens = r.prompt_tokens + excluded.prompt_tokens,
    cached_prompt_tokens = r.cached_prompt_tokens + excluded.cached_prompt_tokens,
    completion_tokens = r.completion_tokens + excluded.completion_tokens,
    compute_us = r.compute_us + excluded.compute_us,
    attributed_us = r.attributed_us + excluded.attributed_us,
    amount_nano = r.amount_nano + excluded.amount_nano,
    earned_nano = r.earned_nano + excluded.earned_nano
), told AS (
  INSERT INTO outbox_event (tenant_id, kind, subject_id, payload)
  SELECT tenant_id, 'request.settled', id, jsonb_build_object(
    'keyId', key_id, 'finishReason', finish_reason, 'errorCode', error_code, 'promptTokens', prompt_tokens,
    'cachedPromptTokens', cached_prompt_tokens, 'completionTokens', completion_tokens,
    'amountNano', charge ->> 'amount', 'currency', charge ->> 'currency')
  FROM final
), released AS (
  -- A failure that metered nothing leaves the key free, so that the caller's retry can run.
  DELETE FROM inference_idempotency k USING final f
  WHERE k.tenant_id = f.tenant_id AND k.key_hash = f.idempotency_key_hash AND k.request_id = f.id
    AND f.finish_reason = 'error' AND f.prompt_tokens = 0 AND f.completion_tokens = 0
)
SELECT id, tenant_id, prompt_tokens, completion_tokens, admitted_at, 0 AS unused_requests,
       reserved_prompt_tokens - prompt_tokens AS unused_prompt_tokens,
       reserved_completion_tokens - completion_tokens AS unused_completion_tokens
FROM final ORDER BY id`;

/** Requests of fenced instances, in the order of their ids; $1: those behind this one. */
export const FIND_LOST = `
SELECT q.id FROM inference_request q JOIN instance i ON i.id = q.instance_id
WHERE i.fenced_at IS NOT NULL AND ($1::uuid IS NULL OR q.id > $1)
ORDER BY q.id LIMIT $2`;

/** Locks requests of fenced instances that nobody else is settling, with what was committed of them. */
export const PICK_LOST = `
SELECT q.id, q.tenant_id, q.instance_id, q.prompt_tokens, q.hold_id, q.pricing, p.completion_tokens,
       p.cached_prompt_tokens, p.output_commitment
FROM inference_request q
JOIN instance i ON i.id = q.instance_id
JOIN request_progress p ON p.request_id = q.id
WHERE i.fenced_at IS NOT NULL AND q.id = ANY($1::uuid[])
ORDER BY q.id FOR UPDATE OF q SKIP LOCKED`;

/** Who settled these requests: tells our own commit whose answer was lost from a settlement by recovery. */
export const FIND_SETTLED = `
SELECT id, settled_by FROM usage_record WHERE id = ANY($1::uuid[])`;

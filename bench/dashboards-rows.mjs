// Rows for bench/dashboards.mjs: requests of 90 days with everything that their settlement writes, made by statements over
// sets, in the order of time. What the product keeps beside them (rollups, balances, folded sums, batches) is written as it
// would be; only the hashes of the ledger's chain are made up.

/** Tenants, of which the first has 30 % of all requests, and the others less and less. */
export const TENANTS = 200;
export const ADAPTERS = 2_000;
export const DAYS = 90;
/** The tenant that half of the others have more requests than. */
export const MEDIAN = TENANTS / 2;
const CHUNK = 100_000;

/** A new id of a time. */
const id = (at) =>
  `overlay(gen_random_uuid()::text placing left(patchbay.uuidv7_floor(${at})::text, 14) || '7' from 1 for 15)::uuid`;
const NIL = `'00000000-0000-0000-0000-000000000000'::uuid`;
const PLATFORM = `'00000000-0000-7000-8000-000000000000'::uuid`;

const SETUP = `
CREATE UNLOGGED TABLE bench_tenant (n int PRIMARY KEY, id uuid, weight float8, customer uuid, earnings uuid);
CREATE UNLOGGED TABLE bench_adapter (n int PRIMARY KEY, adapter_id uuid, version_id uuid, owner uuid, earnings uuid);
INSERT INTO bench_tenant
SELECT n, ${id('now()')}, CASE n WHEN 1 THEN 0.3 ELSE 0.7 / n / h.sum END, ${id('now()')}, ${id('now()')}
FROM generate_series(1, ${TENANTS}) n, (SELECT sum(1.0 / n) FROM generate_series(2, ${TENANTS}) n) h;
INSERT INTO tenant (id, name, slug, created_at)
SELECT id, 'bench ' || n, 'bench-' || n, now() - interval '1 year' FROM bench_tenant;
INSERT INTO backbone (id, name, digest, family, shape, created_at)
VALUES (gen_random_uuid(), 'bench', encode(sha256('b'), 'hex'), 'llama', '{}', now());
-- Every third adapter belongs to the largest tenant.
INSERT INTO bench_adapter
SELECT a.n, ${id('now()')}, ${id('now()')}, t.id, t.earnings
FROM generate_series(1, ${ADAPTERS}) a(n)
JOIN bench_tenant t ON t.n = CASE WHEN a.n % 3 = 1 THEN 1 ELSE 2 + a.n % ${TENANTS - 1} END;
INSERT INTO adapter (id, tenant_id, name, visibility, last_number, created_at)
SELECT adapter_id, owner, 'bench-' || n, 'PUBLIC', 1, now() FROM bench_adapter;
INSERT INTO adapter_version (id, tenant_id, adapter_id, number, backbone_id, state, config_sha256, tensors_sha256, digest,
  rank_max, module_count, targets, parameters, bytes, created_at, ready_at)
SELECT a.version_id, a.owner, a.adapter_id, 1, b.id, 'READY', h.hex, h.hex, h.hex, 16, 1, '{q_proj}', 1, 1, now(), now()
FROM bench_adapter a, backbone b, LATERAL (SELECT encode(sha256(a.n::text::bytea), 'hex') AS hex) h;
INSERT INTO price_version (id, tenant_id, backbone_digest, currency, input_nano_per_million,
  cached_input_nano_per_million, output_nano_per_million, rank_nano_per_million, interactive_ppm, standard_ppm, batch_ppm,
  platform_fee_ppm, effective_from, created_at)
VALUES (gen_random_uuid(), ${PLATFORM}, encode(sha256('b'), 'hex'), 'USD', 150, 15, 600, 0, 1000000, 1000000, 1000000,
  150000, now(), now());
INSERT INTO ledger_account (id, tenant_id, kind, asset, created_at)
SELECT customer, id, 'CUSTOMER', 'USD', now() FROM bench_tenant
UNION ALL SELECT earnings, id, 'EARNINGS', 'USD', now() FROM bench_tenant
UNION ALL SELECT gen_random_uuid(), ${PLATFORM}, k, 'USD', now()
FROM unnest(ARRAY['PLATFORM_BASE', 'PLATFORM_FEE', 'CASH', 'ADJUSTMENT']) k;
INSERT INTO budget (id, tenant_id, scope, subject_id, period, currency, limit_nano, created_at, updated_at)
SELECT gen_random_uuid(), id, 'TENANT', ${NIL}, p, 'USD', 1000000000000, now(), now()
FROM bench_tenant, unnest(ARRAY['DAY', 'MONTH']) p;
INSERT INTO budget_period (budget_id, start, tenant_id, spent_nano)
SELECT b.id, d, b.tenant_id, 1000 FROM budget b CROSS JOIN LATERAL generate_series(
  date_trunc(lower(b.period), now() - interval '${DAYS} days', 'UTC'), now(), ('1 ' || lower(b.period))::interval) d;`;

/** Requests $1 to $2 of $3, which end in the order of their numbers; a part of $4 of them is charged. */
const REQUESTS = `
CREATE TEMP TABLE req AS
SELECT r.*, t.id AS tenant_id, t.customer, ${id('r.ended_at')} AS post_id, ${id('r.at')} AS hold_id
FROM (
  SELECT m.*, ${id('m.at')} AS id, width_bucket(random(), $5::float8[]) + 1 AS tenant_n, random() < $4 AS charged,
         (20 + random() * 2000)::int AS prompt, (1 + random() * 500)::int AS completion,
         (ARRAY['STANDARD', 'STANDARD', 'INTERACTIVE', 'BATCH'])[1 + floor(random() * 4)::int] AS class,
         floor(power(${ADAPTERS + 1}, random()))::int AS first, floor(random() * ${ADAPTERS - 1})::int AS apart, random() AS kind
  FROM (
    SELECT i, $6::timestamptz + (i::float8 / $3) * interval '${DAYS} days' AS ended_at,
           $6::timestamptz + (i::float8 / $3) * interval '${DAYS} days' - interval '3 seconds' AS at
    FROM generate_series($1::bigint, $2::bigint) i
  ) m
) r JOIN bench_tenant t ON t.n = r.tenant_n`;

const PARTS = [
  // A tenth without an adapter, a twentieth with two in equal parts.
  `CREATE TEMP TABLE used AS
   SELECT r.id, r.i, a.version_id, a.adapter_id, a.owner, a.earnings, u.part, u.parts
   FROM req r
   CROSS JOIN LATERAL (
     SELECT 0 AS part, r.first AS n, CASE WHEN r.kind > 0.95 THEN 2 ELSE 1 END AS parts WHERE r.kind > 0.1
     UNION ALL SELECT 1, 1 + (r.first + r.apart) % ${ADAPTERS}, 2 WHERE r.kind > 0.95
   ) u
   JOIN bench_adapter a ON a.n = u.n`,
  `CREATE TEMP TABLE charge AS
   SELECT r.id, coalesce(u.part, 0) AS part, coalesce(u.parts, 1) AS parts, u.version_id, u.adapter_id, u.owner, u.earnings,
          r.prompt * 150::bigint / coalesce(u.parts, 1) AS input_nano,
          r.completion * 600::bigint / coalesce(u.parts, 1) AS output_nano,
          CASE WHEN u.part IS NULL THEN 0 ELSE 200 + r.prompt + r.completion END::bigint AS royalty_nano
   FROM req r LEFT JOIN used u ON u.id = r.id WHERE r.charged`,
  `CREATE TEMP TABLE priced AS
   SELECT r.id, r.i, r.at, r.ended_at, r.tenant_id, r.customer, r.hold_id, r.post_id,
          sum(c.input_nano + c.output_nano + c.royalty_nano)::bigint AS amount,
          sum(c.input_nano + c.output_nano)::bigint AS base,
          sum(c.royalty_nano * 15 / 100)::bigint AS fee, count(c.version_id)::int AS earners
   FROM req r JOIN charge c ON c.id = r.id GROUP BY 1, 2, 3, 4, 5, 6, 7, 8`,
  'CREATE INDEX ON used (id)',
  'CREATE INDEX ON charge (id)',
  'CREATE INDEX ON priced (id)',
  'ANALYZE req, used, charge, priced',
  `INSERT INTO usage_record (id, tenant_id, key_id, instance_id, backbone_digest, prompt_tokens, cached_prompt_tokens,
     completion_tokens, priority_class, queue_us, prefill_us, decode_us, compute_us, bytes_loaded, finish_reason, admitted_at,
     first_token_at, ended_at, settled_by, hold_id, prompt_commitment, output_commitment, amount_nano, currency)
   SELECT r.id, r.tenant_id, r.tenant_id, r.tenant_id, sha256('b'), r.prompt, 0, r.completion, r.class, 1, 1, 1,
          r.completion * 1000, 0, 'stop', r.at, r.at, r.ended_at, 'engine', r.hold_id, sha256(r.id::text::bytea),
          sha256(r.id::text::bytea), p.amount, CASE WHEN p.id IS NOT NULL THEN 'USD' END
   FROM req r LEFT JOIN priced p ON p.id = r.id ORDER BY r.i`,
  `INSERT INTO usage_share (request_id, adapter_version_id, adapter_id, adapter_digest, owner_tenant_id, tenant_id, weight,
     share_numerator, share_denominator, backbone_digest, priority_class, prompt_tokens, cached_prompt_tokens,
     completion_tokens, ended_at, currency, royalty_nano, fee_nano)
   SELECT u.id, u.version_id, u.adapter_id, sha256('a'), u.owner, r.tenant_id, 1, 1, u.parts, sha256('b'), r.class, r.prompt,
          0, r.completion, r.ended_at, CASE WHEN c.id IS NOT NULL THEN 'USD' END, c.royalty_nano, c.royalty_nano * 15 / 100
   FROM used u JOIN req r ON r.id = u.id LEFT JOIN charge c ON c.id = u.id AND c.part = u.part ORDER BY r.i`,
  `INSERT INTO usage_charge (request_id, part, tenant_id, key_id, backbone_digest, adapter_version_id, adapter_id,
     owner_tenant_id, rank, priority_class, share_numerator, share_denominator, price_version, currency, input_tokens,
     cached_tokens, output_tokens, input_nano, cached_nano, output_nano, rank_nano, royalty_nano, fee_nano, total_nano,
     ended_at)
   SELECT c.id, c.part, r.tenant_id, r.tenant_id, sha256('b'), c.version_id, c.adapter_id, c.owner,
          CASE WHEN c.version_id IS NOT NULL THEN 16 END, r.class, 1, c.parts, ${NIL}, 'USD', r.prompt, 0, r.completion,
          c.input_nano, 0, c.output_nano, 0, c.royalty_nano, c.royalty_nano * 15 / 100,
          c.input_nano + c.output_nano + c.royalty_nano, r.ended_at
   FROM charge c JOIN req r ON r.id = c.id ORDER BY r.i`,
  `INSERT INTO ledger_transfer (id, tenant_id, kind, asset, amount, lines, account_id, held, pending_id, business_key,
     reference_type, reference_id, created_at)
   SELECT hold_id, tenant_id, 'PENDING', 'USD', 0, 0, customer, amount * 2, NULL, 'inference:' || id, 'inference', id, at
   FROM priced
   UNION ALL
   SELECT post_id, tenant_id, 'POST', 'USD', amount, 2 + (fee > 0)::int + earners, customer, amount * 2, hold_id, NULL,
          'inference', id, ended_at FROM priced`,
  `INSERT INTO ledger_posting (transfer_id, line, account_id, tenant_id, amount, subject_id, created_at)
   SELECT p.post_id, l.line, l.account_id, l.tenant_id, l.amount, l.subject_id, p.ended_at
   FROM priced p
   CROSS JOIN LATERAL (
     SELECT 1 AS line, p.customer AS account_id, p.tenant_id, -p.amount AS amount, NULL::uuid AS subject_id
     UNION ALL SELECT 2, a.id, a.tenant_id, p.base, NULL FROM ledger_account a WHERE a.kind = 'PLATFORM_BASE'
     UNION ALL SELECT 3, a.id, a.tenant_id, p.fee, NULL FROM ledger_account a WHERE a.kind = 'PLATFORM_FEE' AND p.fee > 0
     UNION ALL SELECT 4 + c.part, c.earnings, c.owner, c.royalty_nano - c.royalty_nano * 15 / 100, c.version_id
     FROM charge c WHERE c.id = p.id AND c.version_id IS NOT NULL
   ) l ORDER BY p.i, l.line`,
  // About what a second's sealing puts together.
  `INSERT INTO ledger_batch (sequence, previous_hash, sealed_at, account_ids, limit_ids, transfer_ids, row_count, marks, hash)
   SELECT s.sequence, sha256((s.sequence - 1)::text::bytea), s.at, '{}', '{}', s.ids, 1, '\\x0000000000000000',
          sha256(s.sequence::text::bytea)
   FROM (
     SELECT h.head + 1 + p.i / 1000 - min(p.i / 1000) OVER () AS sequence, p.at, p.ids
     FROM (SELECT min(i) AS i, max(ended_at) AS at, array_agg(hold_id) || array_agg(post_id) AS ids
           FROM priced GROUP BY i / 1000) p,
          (SELECT coalesce(max(sequence), 0) AS head FROM ledger_batch) h
   ) s`,
  `INSERT INTO usage_rollup AS r (tenant_id, kind, adapter_version_id, adapter_id, bucket, shard, requests, prompt_tokens,
     cached_prompt_tokens, completion_tokens, compute_us, amount_nano)
   SELECT c.tenant_id, c.kind, c.version_id, c.adapter_id, date_trunc('hour', r.ended_at, 'UTC'), r.i % 2, count(*),
          sum(r.prompt), 0, sum(r.completion), sum(r.completion * 1000), coalesce(sum(c.amount), 0)
   FROM req r
   JOIN (
     SELECT r.id, r.tenant_id, 'tenant' AS kind, ${NIL} AS version_id, ${NIL} AS adapter_id, p.amount
     FROM req r LEFT JOIN priced p ON p.id = r.id
     UNION ALL
     SELECT r.id, r.tenant_id, 'caller', coalesce(u.version_id, ${NIL}), coalesce(u.adapter_id, ${NIL}),
            coalesce(c.input_nano + c.output_nano + c.royalty_nano, 0)
     FROM req r
     LEFT JOIN used u ON u.id = r.id
     LEFT JOIN charge c ON c.id = r.id AND c.part = coalesce(u.part, 0)
     UNION ALL
     SELECT u.id, u.owner, 'owner', u.version_id, u.adapter_id, c.royalty_nano
     FROM used u LEFT JOIN charge c ON c.id = u.id AND c.part = u.part
   ) c ON c.id = r.id
   GROUP BY 1, 2, 3, 4, 5, 6
   ON CONFLICT (tenant_id, kind, adapter_version_id, bucket, shard) DO UPDATE SET
     requests = r.requests + excluded.requests, prompt_tokens = r.prompt_tokens + excluded.prompt_tokens,
     completion_tokens = r.completion_tokens + excluded.completion_tokens,
     compute_us = r.compute_us + excluded.compute_us, amount_nano = r.amount_nano + excluded.amount_nano`,
  // Of every 2,000 requests one passes a threshold, of every 20,000 one tenant pays in.
  `INSERT INTO outbox_event (tenant_id, kind, subject_id, payload, created_at)
   SELECT r.tenant_id, e.kind, r.id, e.payload, r.ended_at
   FROM req r LEFT JOIN priced p ON p.id = r.id
   CROSS JOIN LATERAL (
     SELECT 'request.settled' AS kind, jsonb_build_object(
       'keyId', r.tenant_id, 'finishReason', 'stop', 'errorCode', NULL, 'promptTokens', r.prompt, 'cachedPromptTokens', 0,
       'completionTokens', r.completion, 'amountNano', p.amount::text, 'currency', 'USD') AS payload
     UNION ALL SELECT 'budget.threshold', '{}' WHERE r.i % 2000 = 0
     UNION ALL SELECT 'balance.adjusted', '{}' WHERE r.i % 20000 = 0
   ) e ORDER BY r.i`,
  'DROP TABLE req, used, charge, priced',
];

const FINISH = `
-- Everybody has paid in more than was charged, in one transfer before everything else.
INSERT INTO ledger_transfer (id, tenant_id, kind, asset, amount, lines, held, business_key, reference_type, created_at)
SELECT ${id(`$$FROM$$::timestamptz`)}, id, 'SINGLE', 'USD', 1000000000000, 2, 0, 'top_up', 'top_up', $$FROM$$::timestamptz
FROM bench_tenant;
INSERT INTO ledger_posting (transfer_id, line, account_id, tenant_id, amount, created_at)
SELECT t.id, l.line, l.account_id, l.tenant_id, l.amount, t.created_at
FROM ledger_transfer t JOIN bench_tenant b ON b.id = t.tenant_id
CROSS JOIN LATERAL (
  SELECT 1 AS line, a.id AS account_id, a.tenant_id, -t.amount AS amount FROM ledger_account a WHERE a.kind = 'CASH'
  UNION ALL SELECT 2, b.customer, b.id, t.amount) l
WHERE t.kind = 'SINGLE';
INSERT INTO ledger_batch (sequence, previous_hash, sealed_at, account_ids, limit_ids, transfer_ids, row_count, marks, hash)
SELECT h.head + 1, sha256(h.head::text::bytea), now(), '{}', '{}',
       ARRAY(SELECT id FROM ledger_transfer WHERE kind = 'SINGLE'), 1, '\\x0000000000000000', sha256('head')
FROM (SELECT coalesce(max(sequence), 0) AS head FROM ledger_batch) h;
INSERT INTO ledger_balance (account_id, tenant_id, limited, posted)
SELECT a.id, a.tenant_id, a.kind = 'CUSTOMER', CASE a.kind WHEN 'CUSTOMER' THEN coalesce(s.posted, 0) ELSE 0 END
FROM ledger_account a
LEFT JOIN (SELECT account_id, sum(amount)::bigint AS posted FROM ledger_posting GROUP BY 1) s ON s.account_id = a.id;
INSERT INTO ledger_fold (account_id, tenant_id, posted, postings)
SELECT p.account_id, p.tenant_id, sum(p.amount), count(*)
FROM ledger_posting p JOIN ledger_account a ON a.id = p.account_id WHERE a.kind <> 'CUSTOMER' GROUP BY 1, 2;`;

/**
 * Writes so many requests of the 90 days before the time and answers the raw ids of tenants by their number from 0.
 * @param {import('pg').Client} admin a superuser's connection
 * @param {{ rows: number, charged: number, until: Date, log: (line: string) => void }} options
 * @returns {Promise<readonly string[]>}
 */
export async function fill(admin, { rows, charged, until, log }) {
  const from = new Date(until.getTime() - DAYS * 86_400_000);
  // Rules are for the program; these rows keep them.
  await admin.query(`SET session_replication_role = replica`);
  await admin.query(`SET synchronous_commit = off`);
  await admin.query(`SET work_mem = '128MB'`);
  await admin.query(`SELECT setseed(0.5)`);
  await admin.query(`SELECT patchbay.ensure_usage_partitions($1, 5)`, [from]);
  await admin.query(SETUP);
  const tenants = await admin.query('SELECT id, weight FROM bench_tenant ORDER BY n');
  let sum = 0;
  const bounds = tenants.rows.slice(0, -1).map(({ weight }) => {
    sum += weight;
    return sum;
  });
  const started = performance.now();
  for (let first = 0; first < rows; first += CHUNK) {
    await admin.query('BEGIN');
    await admin.query(REQUESTS, [first, Math.min(first + CHUNK, rows) - 1, rows, charged, bounds, from]);
    for (const statement of PARTS) await admin.query(statement);
    await admin.query('COMMIT');
    log(
      `${Math.min(first + CHUNK, rows)} requests after ${((performance.now() - started) / 1_000).toFixed(0)} s`,
    );
  }
  await admin.query(FINISH.replaceAll('$$FROM$$', `'${from.toISOString()}'`));
  await admin.query('SET session_replication_role = origin');
  await admin.query('VACUUM ANALYZE');
  return tenants.rows.map((tenant) => tenant.id);
}

-- Metering: leases, admissions, progress, usage facts and rollups.
--
-- Facts (usage_record, usage_share, usage_salt) are partitioned by RANGE over the request id. A request id is a
-- uuidv7: its first 48 bits are the admission time in milliseconds, so a range of ids is a range of time, and the
-- partition key is the primary key itself. That is why the primary key stays (id) alone and the uniqueness of a
-- request id holds across all partitions: one id has one time and therefore one partition. An id from a clock that is
-- far off lands in the default partition, where it is as unique as anywhere.
--
-- Facts reference other rows by value, without foreign keys: they outlive keys, versions and instances, and a check
-- of five references per settled request would cost more than the insert.
--
-- Times are kept to the microsecond, unlike elsewhere: rounding could move a record over the hour of its rollup.

-- The smallest uuid whose time part is the given instant.
CREATE FUNCTION patchbay.uuidv7_floor(at timestamptz) RETURNS uuid
  LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
  SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;
GRANT EXECUTE ON FUNCTION patchbay.uuidv7_floor(timestamptz) TO patchbay_app, patchbay_system;

-- Processes and their leases ------------------------------------------------------------------------------------

-- One row per run of an API process. All times are the database's: process clocks may disagree.
CREATE TABLE instance (
  id               uuid PRIMARY KEY,
  host             text        NOT NULL,
  pid              integer     NOT NULL,
  -- Which of the parallel rollup rows this process adds to.
  shard            smallint    NOT NULL CHECK (shard >= 0),
  started_at       timestamptz NOT NULL,
  heartbeat_at     timestamptz NOT NULL,
  lease_expires_at timestamptz NOT NULL,
  -- Set once, by the process itself when it stops or by another when the lease has run out. From then on nothing that
  -- names this instance can be written by it, and anyone may settle its requests.
  fenced_at        timestamptz,
  fence_reason     text CHECK (fence_reason IN ('stopped', 'expired')),
  CHECK ((fenced_at IS NULL) = (fence_reason IS NULL))
) WITH (fillfactor = 50);

CREATE INDEX instance_fenced_at_lease_expires_at_idx ON instance (fenced_at, lease_expires_at);

-- Belongs to no tenant: only the system role sees it.
REVOKE ALL ON instance FROM PUBLIC;
ALTER TABLE instance ENABLE ROW LEVEL SECURITY;
ALTER TABLE instance FORCE ROW LEVEL SECURITY;
CREATE POLICY system_access ON instance TO patchbay_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE (heartbeat_at, lease_expires_at, fenced_at, fence_reason), DELETE
  ON instance TO patchbay_system;

-- Requests that are not settled yet -----------------------------------------------------------------------------

-- The admission: written before the first token, deleted by the settlement. A row exists exactly as long as the
-- request is unsettled, so the table stays as small as what is running, and deleting the row is what decides who
-- settles.
CREATE TABLE inference_request (
  id                   uuid PRIMARY KEY,
  tenant_id            uuid        NOT NULL,
  key_id               uuid        NOT NULL,
  instance_id          uuid        NOT NULL,
  idempotency_key_hash bytea,
  backbone_digest      bytea       NOT NULL CHECK (octet_length(backbone_digest) = 32),
  -- [{version_id, adapter_id, owner_tenant_id, digest, weight, share_numerator, share_denominator}]
  adapters             jsonb       NOT NULL CHECK (jsonb_typeof(adapters) = 'array'),
  priority_class       text        NOT NULL CHECK (priority_class IN ('INTERACTIVE', 'STANDARD', 'BATCH')),
  prompt_tokens        integer     NOT NULL CHECK (prompt_tokens > 0),
  max_tokens           integer     NOT NULL CHECK (max_tokens > 0),
  salt                 bytea       NOT NULL CHECK (octet_length(salt) = 32),
  prompt_commitment    bytea       NOT NULL CHECK (octet_length(prompt_commitment) = 32),
  admitted_at          timestamptz NOT NULL,
  -- Pinned at admission once there are prices, splits and budgets.
  hold_id              uuid,
  price_version        uuid,
  split_version        uuid
);

CREATE INDEX inference_request_instance_id_idx ON inference_request (instance_id);
CREATE INDEX inference_request_tenant_id_id_idx ON inference_request (tenant_id, id);

-- The update right is what a row lock needs.
SELECT patchbay.protect_tenant_table(
  'inference_request',
  'SELECT (id, tenant_id, key_id, backbone_digest, priority_class, prompt_tokens, max_tokens, admitted_at)',
  'SELECT, INSERT, UPDATE (hold_id), DELETE');

-- How much of a running request may be delivered. Narrow and half empty, and no index covers what changes, so that
-- every update stays on its page (HOT).
CREATE TABLE request_progress (
  request_id        uuid PRIMARY KEY,
  tenant_id         uuid        NOT NULL,
  completion_tokens integer     NOT NULL CHECK (completion_tokens >= 0),
  output_commitment bytea       NOT NULL CHECK (octet_length(output_commitment) = 32),
  first_token_at    timestamptz,
  updated_at        timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

SELECT patchbay.protect_tenant_table(
  'request_progress', 'SELECT (request_id, tenant_id, completion_tokens, first_token_at, updated_at)',
  'SELECT, INSERT, UPDATE (completion_tokens, output_commitment, first_token_at, updated_at), DELETE');

-- Which request a tenant's idempotency key stands for. It outlives the request: a retry finds the usage record
-- through it.
CREATE TABLE inference_idempotency (
  tenant_id    uuid        NOT NULL,
  key_hash     bytea       NOT NULL CHECK (octet_length(key_hash) = 32),
  request_id   uuid        NOT NULL,
  salt         bytea       NOT NULL CHECK (octet_length(salt) = 32),
  request_hash bytea       NOT NULL CHECK (octet_length(request_hash) = 32),
  created_at   timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, key_hash)
);

CREATE INDEX inference_idempotency_created_at_idx ON inference_idempotency (created_at);

SELECT patchbay.protect_tenant_table(
  'inference_idempotency', 'SELECT (tenant_id, key_hash, request_id, salt, request_hash)',
  'SELECT, INSERT, DELETE');

-- Facts -----------------------------------------------------------------------------------------------------------

CREATE TABLE usage_record (
  id                   uuid PRIMARY KEY,
  tenant_id            uuid        NOT NULL,
  key_id               uuid        NOT NULL,
  instance_id          uuid        NOT NULL,
  backbone_digest      bytea       NOT NULL CHECK (octet_length(backbone_digest) = 32),
  prompt_tokens        integer     NOT NULL CHECK (prompt_tokens >= 0),
  cached_prompt_tokens integer     NOT NULL CHECK (cached_prompt_tokens BETWEEN 0 AND prompt_tokens),
  completion_tokens    integer     NOT NULL CHECK (completion_tokens >= 0),
  priority_class       text        NOT NULL CHECK (priority_class IN ('INTERACTIVE', 'STANDARD', 'BATCH')),
  -- Microseconds as integers, so that sums do not depend on their order. Null when the process that measured them is
  -- lost.
  queue_us             bigint      CHECK (queue_us >= 0),
  prefill_us           bigint      CHECK (prefill_us >= 0),
  decode_us            bigint      CHECK (decode_us >= 0),
  compute_us           bigint      CHECK (compute_us >= 0),
  bytes_loaded         bigint      CHECK (bytes_loaded >= 0),
  finish_reason        text        NOT NULL CHECK (finish_reason IN ('stop', 'length', 'cancelled', 'error')),
  error_code           text,
  admitted_at          timestamptz NOT NULL,
  -- When the first token became deliverable.
  first_token_at       timestamptz,
  ended_at             timestamptz NOT NULL,
  settled_by           text        NOT NULL CHECK (settled_by IN ('engine', 'recovery')),
  price_version        uuid,
  split_version        uuid,
  hold_id              uuid,
  prompt_commitment    bytea       NOT NULL CHECK (octet_length(prompt_commitment) = 32),
  output_commitment    bytea       NOT NULL CHECK (octet_length(output_commitment) = 32),
  CHECK (finish_reason <> 'error' OR error_code IS NOT NULL),
  CHECK (settled_by = 'recovery' OR num_nulls(queue_us, prefill_us, decode_us, compute_us, bytes_loaded) = 0)
) PARTITION BY RANGE (id);

CREATE INDEX usage_record_tenant_id_id_idx ON usage_record (tenant_id, id);
CREATE INDEX usage_record_ended_at_idx ON usage_record USING brin (ended_at);

-- One row per request and adapter version. It repeats what an owner needs to check what they earn, so that nothing
-- of the caller's record has to be opened to them.
CREATE TABLE usage_share (
  request_id           uuid             NOT NULL,
  adapter_version_id   uuid             NOT NULL,
  adapter_id           uuid             NOT NULL,
  adapter_digest       bytea            NOT NULL CHECK (octet_length(adapter_digest) = 32),
  owner_tenant_id      uuid             NOT NULL,
  -- The caller. No role of a tenant may read this column: an owner must not learn who called.
  tenant_id            uuid             NOT NULL,
  weight               double precision NOT NULL CHECK (weight <> 0),
  -- |weight| / sum of |weights|, exactly; the numerators of one request add up to their common denominator.
  share_numerator      numeric          NOT NULL CHECK (share_numerator > 0 AND scale(share_numerator) = 0),
  share_denominator    numeric          NOT NULL CHECK (scale(share_denominator) = 0),
  backbone_digest      bytea            NOT NULL CHECK (octet_length(backbone_digest) = 32),
  priority_class       text             NOT NULL CHECK (priority_class IN ('INTERACTIVE', 'STANDARD', 'BATCH')),
  prompt_tokens        integer          NOT NULL CHECK (prompt_tokens >= 0),
  cached_prompt_tokens integer          NOT NULL CHECK (cached_prompt_tokens BETWEEN 0 AND prompt_tokens),
  completion_tokens    integer          NOT NULL CHECK (completion_tokens >= 0),
  ended_at             timestamptz      NOT NULL,
  price_version        uuid,
  split_version        uuid,
  PRIMARY KEY (request_id, adapter_version_id),
  CHECK (share_numerator <= share_denominator)
) PARTITION BY RANGE (request_id);

CREATE INDEX usage_share_owner_tenant_id_request_id_idx ON usage_share (owner_tenant_id, request_id);
CREATE INDEX usage_share_tenant_id_request_id_idx ON usage_share (tenant_id, request_id);
CREATE INDEX usage_share_adapter_version_id_request_id_idx ON usage_share (adapter_version_id, request_id);

-- The salts of the commitments, apart from the facts: deleting a row here erases what the commitments can prove about
-- a person, and no fact changes.
CREATE TABLE usage_salt (
  request_id uuid  PRIMARY KEY,
  tenant_id  uuid  NOT NULL,
  salt       bytea NOT NULL CHECK (octet_length(salt) = 32)
) PARTITION BY RANGE (request_id);

CREATE INDEX usage_salt_tenant_id_request_id_idx ON usage_salt (tenant_id, request_id);

-- Callers read their own records, shares and salts. Owners of adapters read the shares of their adapters through a
-- second policy; the columns granted leave out the caller, and the caller's record stays closed to them.
SELECT patchbay.protect_tenant_table('usage_record', 'SELECT', 'SELECT, INSERT');
SELECT patchbay.protect_tenant_table(
  'usage_share',
  'SELECT (request_id, adapter_version_id, adapter_id, adapter_digest, owner_tenant_id, weight, share_numerator, '
  'share_denominator, backbone_digest, priority_class, prompt_tokens, cached_prompt_tokens, completion_tokens, '
  'ended_at, price_version, split_version)',
  'SELECT, INSERT');
CREATE POLICY owner_reads ON usage_share FOR SELECT TO patchbay_app
  USING (owner_tenant_id = (SELECT patchbay.current_tenant()));
SELECT patchbay.protect_tenant_table('usage_salt', 'SELECT', 'SELECT, INSERT, DELETE');

SELECT patchbay.make_append_only('usage_record');
SELECT patchbay.make_append_only('usage_share');

CREATE TABLE usage_record_default PARTITION OF usage_record DEFAULT;
CREATE TABLE usage_share_default PARTITION OF usage_share DEFAULT;
CREATE TABLE usage_salt_default PARTITION OF usage_salt DEFAULT;
SELECT patchbay.protect_partition('usage_record_default');
SELECT patchbay.protect_partition('usage_share_default');
SELECT patchbay.protect_partition('usage_salt_default');

-- Which request an idempotency key of a tenant stands for, and how it ended: null columns while it runs, no row for a
-- new key. Every request asks this first. So it runs as whoever calls it, behind row-level security, and sets the
-- tenant by itself: one statement and one round trip, where a transaction would take four.
CREATE FUNCTION patchbay.find_inference(of_tenant uuid, of_key bytea) RETURNS TABLE (
    request_id uuid, salt bytea, request_hash bytea, prompt_tokens integer, cached_prompt_tokens integer,
    completion_tokens integer, finish_reason text, error_code text, settled_by text)
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  before text := coalesce(current_setting('app.tenant_id', true), '');
BEGIN
  PERFORM set_config('app.tenant_id', of_tenant::text, true);
  RETURN QUERY
    SELECT i.request_id, i.salt, i.request_hash, u.prompt_tokens, u.cached_prompt_tokens, u.completion_tokens,
           u.finish_reason, u.error_code, u.settled_by
    FROM public.inference_idempotency i
    LEFT JOIN public.usage_record u ON u.id = i.request_id AND u.tenant_id = i.tenant_id
    WHERE i.tenant_id = of_tenant AND i.key_hash = of_key;
  PERFORM set_config('app.tenant_id', before, true);
END
$$;
GRANT EXECUTE ON FUNCTION patchbay.find_inference(uuid, bytea) TO patchbay_app;

-- Rollups ---------------------------------------------------------------------------------------------------------

-- Hourly sums by the hour in which requests ended, written by the transaction that writes their records.
--
-- kind 'tenant': every request of the tenant once; no adapter version.
-- kind 'caller': the tenant's requests by adapter version; a blend counts once for each of its adapters, a request on
--                the plain backbone under the nil version.
-- kind 'owner':  requests of anyone on the tenant's adapter versions; a blend counts once for each of them.
--
-- Sums over versions therefore exceed the tenant's own sums where blends are used, and only kind 'tenant' counts
-- every request once.
CREATE TABLE usage_rollup (
  -- Whose view this row is, and who may read it.
  tenant_id            uuid        NOT NULL,
  kind                 text        NOT NULL CHECK (kind IN ('tenant', 'caller', 'owner')),
  adapter_version_id   uuid        NOT NULL,
  -- Follows from the version; here so that sums by adapter need no table that the reader may not see.
  adapter_id           uuid        NOT NULL,
  bucket               timestamptz NOT NULL CHECK (bucket = date_trunc('hour', bucket, 'UTC')),
  -- Spreads the writes of several processes over several rows; readers add them up.
  shard                smallint    NOT NULL,
  requests             bigint      NOT NULL,
  prompt_tokens        bigint      NOT NULL,
  cached_prompt_tokens bigint      NOT NULL,
  completion_tokens    bigint      NOT NULL,
  compute_us           bigint      NOT NULL,
  PRIMARY KEY (tenant_id, kind, adapter_version_id, bucket, shard)
) WITH (fillfactor = 50);

CREATE INDEX usage_rollup_tenant_id_kind_bucket_idx ON usage_rollup (tenant_id, kind, bucket);

SELECT patchbay.protect_tenant_table(
  'usage_rollup',
  'SELECT',
  'SELECT, INSERT, UPDATE (requests, prompt_tokens, cached_prompt_tokens, completion_tokens, compute_us)');

-- Partition maintenance ---------------------------------------------------------------------------------------------

-- Creates the monthly partitions (UTC) of all fact tables from the month of `first` on, and returns how many were
-- new. Owned by the role that migrates, because only the owner of a table may give it partitions; it takes no text
-- that becomes SQL. Rows that the default partition holds of a new month move into it.
CREATE FUNCTION patchbay.ensure_usage_partitions(first timestamptz, months integer) RETURNS integer
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  parent    text;
  key       text;
  part      text;
  strays    text;
  immutable boolean;
  low       timestamptz;
  high      timestamptz;
  created   integer := 0;
BEGIN
  IF months NOT BETWEEN 1 AND 120 THEN
    RAISE EXCEPTION 'months must be between 1 and 120' USING ERRCODE = '22023';
  END IF;
  -- Two processes that start together create partitions one after the other.
  PERFORM pg_advisory_xact_lock(hashtextextended('patchbay.usage_partitions', 0));
  FOR i IN 0 .. months - 1 LOOP
    low := date_trunc('month', first) + make_interval(months => i);
    high := low + interval '1 month';
    FOR parent, key, immutable IN
      VALUES ('usage_record', 'id', true), ('usage_share', 'request_id', true), ('usage_salt', 'request_id', false)
    LOOP
      part := format('public.%I', parent || to_char(low, '"_"YYYY"_"MM'));
      CONTINUE WHEN to_regclass(part) IS NOT NULL;
      strays := format('public.%I', parent || '_default');
      EXECUTE format('CREATE TABLE %s (LIKE public.%I INCLUDING ALL)', part, parent);
      -- Held until the end of this transaction: between the move and the attachment nothing may enter the default
      -- partition that belongs into the new one.
      EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', strays);
      -- Moving a row is no change of it, so for this move alone the owner steps over the guards that bind it too.
      EXECUTE format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', strays);
      IF immutable THEN
        EXECUTE format('ALTER TABLE %s DISABLE TRIGGER append_only', strays);
      END IF;
      EXECUTE format(
        'WITH moved AS (DELETE FROM %1$s WHERE %2$I >= %3$L AND %2$I < %4$L RETURNING *) '
        'INSERT INTO %5$s SELECT * FROM moved',
        strays, key, patchbay.uuidv7_floor(low), patchbay.uuidv7_floor(high), part);
      IF immutable THEN
        EXECUTE format('ALTER TABLE %s ENABLE TRIGGER append_only', strays);
      END IF;
      EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', strays);
      PERFORM patchbay.protect_partition(part::regclass);
      EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)',
        parent, part, patchbay.uuidv7_floor(low), patchbay.uuidv7_floor(high));
      created := created + 1;
    END LOOP;
  END LOOP;
  RETURN created;
END
$$;
GRANT EXECUTE ON FUNCTION patchbay.ensure_usage_partitions(timestamptz, integer) TO patchbay_system;

-- Members with roles, and quotas. Conventions are in src/db/README.md.

-- ---------------------------------------------------------------------------------------------------------------
-- Members: the people of a tenant. Nobody signs in yet; when they do (OIDC), what identifies them there becomes a
-- table of its own that references the member, and nothing here changes.
-- ---------------------------------------------------------------------------------------------------------------
CREATE TYPE member_role AS ENUM ('OWNER', 'ADMIN', 'DEVELOPER', 'BILLING', 'AUDITOR');
GRANT USAGE ON TYPE member_role TO patchbay_app, patchbay_system, patchbay_definer;

CREATE TABLE member (
  id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  name text NOT NULL,
  email text NOT NULL,
  role member_role NOT NULL,
  created_at timestamptz(3) NOT NULL,
  removed_at timestamptz(3),
  CONSTRAINT member_pkey PRIMARY KEY (id),
  CONSTRAINT member_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT member_name_length CHECK (char_length(name) BETWEEN 1 AND 200),
  CONSTRAINT member_email_form CHECK (char_length(email) <= 254 AND email = lower(email) AND email ~ '^[^\s@]+@[^\s@]+$'),
  -- Operators are no members of anything: their keys carry what they may do.
  CONSTRAINT member_not_platform CHECK (tenant_id <> '00000000-0000-7000-8000-000000000000')
);
CREATE UNIQUE INDEX member_tenant_id_id_key ON member (tenant_id, id);
-- Somebody who was removed may be added again, as another member.
CREATE UNIQUE INDEX member_tenant_id_email_key ON member (tenant_id, email) WHERE removed_at IS NULL;
SELECT patchbay.protect_tenant_table('member', 'SELECT, INSERT, UPDATE (role, removed_at)', 'SELECT');

-- A key belongs to a member, or to the tenant itself: a service key.
ALTER TABLE api_key ADD COLUMN member_id uuid;
ALTER TABLE api_key ADD CONSTRAINT api_key_tenant_id_member_id_fkey
  FOREIGN KEY (tenant_id, member_id) REFERENCES member (tenant_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT;
CREATE INDEX api_key_tenant_id_member_id_idx ON api_key (tenant_id, member_id) WHERE member_id IS NOT NULL;

CREATE POLICY definer_lookup ON member FOR SELECT TO patchbay_definer USING (true);
GRANT SELECT (id, role, removed_at) ON member TO patchbay_definer;
GRANT SELECT (member_id) ON api_key TO patchbay_definer;

-- As before, and with the member: what their role allows bounds what their key may do, and nobody's key outlives them.
DROP FUNCTION patchbay.find_api_key(bytea);
CREATE FUNCTION patchbay.find_api_key(wanted_hash bytea)
  RETURNS TABLE (
    key_id uuid, tenant_id uuid, kind text, scopes text[], tenant_state text,
    expires_at timestamptz, revoked_at timestamptz, member_id uuid, member_role text, member_removed_at timestamptz
  )
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT k.id, k.tenant_id, k.kind::text, k.scopes, t.state::text, k.expires_at, k.revoked_at,
         m.id, m.role::text, m.removed_at
  FROM public.api_key k
  JOIN public.tenant t ON t.id = k.tenant_id
  LEFT JOIN public.member m ON m.id = k.member_id
  WHERE k.key_hash = wanted_hash
$$;
SELECT patchbay.make_definer('patchbay.find_api_key(bytea)', 'patchbay_app');

-- ---------------------------------------------------------------------------------------------------------------
-- Quotas. Operators set them; null is the installation's default, and 0 is no limit.
-- ---------------------------------------------------------------------------------------------------------------
CREATE TABLE tenant_quota (
  tenant_id uuid NOT NULL,
  requests_per_minute bigint CHECK (requests_per_minute >= 0),
  prompt_tokens_per_minute bigint CHECK (prompt_tokens_per_minute >= 0),
  completion_tokens_per_minute bigint CHECK (completion_tokens_per_minute >= 0),
  concurrent_streams bigint CHECK (concurrent_streams >= 0),
  adapters bigint CHECK (adapters >= 0),
  storage_bytes bigint CHECK (storage_bytes >= 0),
  uploads_per_hour bigint CHECK (uploads_per_hour >= 0),
  updated_at timestamptz(3) NOT NULL,
  CONSTRAINT tenant_quota_pkey PRIMARY KEY (tenant_id),
  CONSTRAINT tenant_quota_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT
);
SELECT patchbay.protect_tenant_table(
  'tenant_quota', 'SELECT',
  'SELECT, INSERT, UPDATE (requests_per_minute, prompt_tokens_per_minute, completion_tokens_per_minute, '
  'concurrent_streams, adapters, storage_bytes, uploads_per_hour, updated_at)');

-- What a tenant with a limit was admitted with, in 13 slots of five seconds: twelve whole ones are a minute, and the
-- one under way makes the window longer than a minute, never shorter. Slot s of the Unix epoch is element
-- 1 + s mod 13; `head` is the newest slot that was written. One row for each tenant, so every replica that admits for
-- a tenant takes turns here: that is what makes the quota exact. No foreign key: it is written with every admission.
CREATE TABLE quota_window (
  tenant_id         uuid PRIMARY KEY,
  head              bigint   NOT NULL,
  requests          bigint[] NOT NULL CHECK (array_length(requests, 1) = 13),
  prompt_tokens     bigint[] NOT NULL CHECK (array_length(prompt_tokens, 1) = 13),
  completion_tokens bigint[] NOT NULL CHECK (array_length(completion_tokens, 1) = 13)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
SELECT patchbay.protect_tenant_table(
  'quota_window', 'SELECT', 'SELECT, INSERT, UPDATE (head, requests, prompt_tokens, completion_tokens)');

CREATE FUNCTION patchbay.quota_slot(at timestamptz) RETURNS bigint
  LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
  SELECT floor(extract(epoch FROM at) / 5)::bigint
$$;
GRANT EXECUTE ON FUNCTION patchbay.quota_slot(timestamptz) TO patchbay_app, patchbay_system;

-- What counters hold of the window that ends with the slot.
CREATE FUNCTION patchbay.quota_used(counters bigint[], head bigint, slot bigint) RETURNS bigint
  LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(sum(counters[1 + s % 13]), 0)::bigint FROM generate_series(greatest(head, slot) - 12, head) s
$$;
GRANT EXECUTE ON FUNCTION patchbay.quota_used(bigint[], bigint, bigint) TO patchbay_app, patchbay_system;

-- Milliseconds until so much of the window has passed that `needed` fits below the limit, if nothing else comes.
CREATE FUNCTION patchbay.quota_retry_ms(
  counters bigint[], head bigint, used bigint, needed bigint, bound bigint, at timestamptz
) RETURNS bigint
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  remaining bigint := used;
BEGIN
  IF needed > bound THEN
    RETURN NULL; -- It never will.
  END IF;
  FOR slot IN head - 12 .. head LOOP
    remaining := remaining - counters[1 + slot % 13];
    IF remaining + needed <= bound THEN
      RETURN greatest(1, ceil((slot + 13)::bigint * 5000 - extract(epoch FROM at) * 1000))::bigint;
    END IF;
  END LOOP;
  RETURN 65000;
END
$$;
GRANT EXECUTE ON FUNCTION patchbay.quota_retry_ms(bigint[], bigint, bigint, bigint, bigint, timestamptz)
  TO patchbay_system;

-- Charges admissions that the current transaction has written against their tenants' quotas, and gives back what
-- earlier ones reserved and did not use. Answers those that do not fit, each with the quota that keeps it waiting the
-- longest; the caller takes their admissions back. One call for all requests of a round, of all tenants; tenants
-- without a limit cost nothing.
--
--   charges  [{ord, id, tenant_id, prompt_tokens, completion_tokens}]   in the order in which they were asked for
--   refunds  [{tenant_id, at, requests, prompt_tokens, completion_tokens}]   `at` is when they were admitted
--   defaults {requests_per_minute, …}   where the tenant's own limit is null
--
-- Rows are locked in the order of the tenants, and last in the transaction, so that two rounds cannot wait for each
-- other. Streams are counted, not kept in step: what a lost process ran stops counting when its lease is fenced.
CREATE FUNCTION patchbay.charge_quota(charges jsonb, refunds jsonb, defaults jsonb)
  RETURNS TABLE (
    request_id uuid, quota text, quota_limit bigint, used bigint, requested bigint, retry_after_ms bigint)
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  zeros   CONSTANT bigint[] := array_fill(0::bigint, ARRAY[13]);
  slot    CONSTANT bigint := patchbay.quota_slot(now());
  item    record;
  held    public.quota_window%ROWTYPE;
  index   integer;
  streams bigint;
  sums    bigint[];
  worst   record;
BEGIN
  FOR item IN
    SELECT i.*, count(i.id) OVER (PARTITION BY i.tenant_id) AS charged,
           nullif(coalesce(q.requests_per_minute, (defaults ->> 'requests_per_minute')::bigint), 0) AS max_requests,
           nullif(coalesce(q.prompt_tokens_per_minute,
             (defaults ->> 'prompt_tokens_per_minute')::bigint), 0) AS max_prompt,
           nullif(coalesce(q.completion_tokens_per_minute,
             (defaults ->> 'completion_tokens_per_minute')::bigint), 0) AS max_completion,
           nullif(coalesce(q.concurrent_streams, (defaults ->> 'concurrent_streams')::bigint), 0) AS max_streams
    FROM (
      SELECT r.tenant_id, 0 AS ord, NULL::uuid AS id, patchbay.quota_slot(r.at) AS at_slot, r.requests,
             r.prompt_tokens, r.completion_tokens
      FROM jsonb_to_recordset(refunds) AS r(
        tenant_id uuid, at timestamptz, requests bigint, prompt_tokens bigint, completion_tokens bigint)
      WHERE EXISTS (SELECT FROM public.quota_window w WHERE w.tenant_id = r.tenant_id)
      UNION ALL
      SELECT c.tenant_id, c.ord, c.id, NULL, 1, c.prompt_tokens, c.completion_tokens
      FROM jsonb_to_recordset(charges) AS c(
        ord integer, id uuid, tenant_id uuid, prompt_tokens bigint, completion_tokens bigint)
    ) i
    LEFT JOIN public.tenant_quota q ON q.tenant_id = i.tenant_id
    ORDER BY i.tenant_id, i.ord
  LOOP
    CONTINUE WHEN item.id IS NOT NULL
      AND num_nulls(item.max_requests, item.max_prompt, item.max_completion, item.max_streams) = 4;
    IF held.tenant_id IS DISTINCT FROM item.tenant_id THEN
      IF held.tenant_id IS NOT NULL THEN
        UPDATE public.quota_window w
        SET head = held.head, requests = held.requests, prompt_tokens = held.prompt_tokens,
            completion_tokens = held.completion_tokens
        WHERE w.tenant_id = held.tenant_id;
      END IF;
      SELECT * INTO held FROM public.quota_window w WHERE w.tenant_id = item.tenant_id FOR UPDATE;
      IF NOT FOUND THEN
        INSERT INTO public.quota_window VALUES (item.tenant_id, slot, zeros, zeros, zeros) ON CONFLICT DO NOTHING;
        SELECT * INTO held FROM public.quota_window w WHERE w.tenant_id = item.tenant_id FOR UPDATE;
      END IF;
      FOR passed IN greatest(held.head + 1, slot - 12) .. slot LOOP
        index := 1 + passed % 13;
        held.requests[index] := 0;
        held.prompt_tokens[index] := 0;
        held.completion_tokens[index] := 0;
      END LOOP;
      held.head := greatest(held.head, slot);
      streams := NULL;
      sums := NULL;
    END IF;

    IF item.id IS NULL THEN
      -- What was reserved before the window began counts no more.
      CONTINUE WHEN item.at_slot <= held.head - 13 OR item.at_slot > held.head;
      index := 1 + item.at_slot % 13;
      held.requests[index] := greatest(0, held.requests[index] - item.requests);
      held.prompt_tokens[index] := greatest(0, held.prompt_tokens[index] - item.prompt_tokens);
      held.completion_tokens[index] := greatest(0, held.completion_tokens[index] - item.completion_tokens);
      CONTINUE;
    END IF;

    IF sums IS NULL THEN
      -- Slots that passed are zero by now, so all thirteen are the window.
      sums := ARRAY[0, 0, 0];
      FOR i IN 1 .. 13 LOOP
        sums[1] := sums[1] + held.requests[i];
        sums[2] := sums[2] + held.prompt_tokens[i];
        sums[3] := sums[3] + held.completion_tokens[i];
      END LOOP;
    END IF;
    IF streams IS NULL AND item.max_streams IS NOT NULL THEN
      -- The lock is held, so every admission that another replica has charged is visible. So are this call's own, all
      -- of them; none of those is decided yet.
      SELECT count(*) - item.charged INTO streams
      FROM public.inference_request r JOIN public.instance i ON i.id = r.instance_id
      WHERE r.tenant_id = item.tenant_id AND i.fenced_at IS NULL;
    END IF;

    -- Comparisons with a limit that is null are null, and so are no reason to refuse.
    IF coalesce(sums[1] + 1 > item.max_requests, false)
       OR coalesce(sums[2] + item.prompt_tokens > item.max_prompt, false)
       OR coalesce(sums[3] + item.completion_tokens > item.max_completion, false)
       OR coalesce(streams + 1 > item.max_streams, false)
    THEN
      SELECT * INTO worst FROM (
        VALUES
          ('REQUESTS_PER_MINUTE', item.max_requests, sums[1], 1::bigint,
           patchbay.quota_retry_ms(held.requests, held.head, sums[1], 1, item.max_requests, now())),
          ('PROMPT_TOKENS_PER_MINUTE', item.max_prompt, sums[2], item.prompt_tokens,
           patchbay.quota_retry_ms(held.prompt_tokens, held.head, sums[2], item.prompt_tokens, item.max_prompt, now())),
          ('COMPLETION_TOKENS_PER_MINUTE', item.max_completion, sums[3], item.completion_tokens,
           patchbay.quota_retry_ms(
             held.completion_tokens, held.head, sums[3], item.completion_tokens, item.max_completion, now())),
          -- Nobody knows when a stream will end; a second is advice.
          ('CONCURRENT_STREAMS', item.max_streams, streams, 1, 1000)
      ) AS v(quota, bound, used, requested, retry)
      WHERE v.used + v.requested > v.bound
      ORDER BY v.retry DESC NULLS FIRST, v.quota LIMIT 1;
      request_id := item.id;
      quota := worst.quota;
      quota_limit := worst.bound;
      used := worst.used;
      requested := worst.requested;
      retry_after_ms := worst.retry;
      RETURN NEXT;
      CONTINUE;
    END IF;

    index := 1 + slot % 13;
    held.requests[index] := held.requests[index] + 1;
    held.prompt_tokens[index] := held.prompt_tokens[index] + item.prompt_tokens;
    held.completion_tokens[index] := held.completion_tokens[index] + item.completion_tokens;
    sums[1] := sums[1] + 1;
    sums[2] := sums[2] + item.prompt_tokens;
    sums[3] := sums[3] + item.completion_tokens;
    streams := streams + 1;
  END LOOP;
  IF held.tenant_id IS NOT NULL THEN
    UPDATE public.quota_window w
    SET head = held.head, requests = held.requests, prompt_tokens = held.prompt_tokens,
        completion_tokens = held.completion_tokens
    WHERE w.tenant_id = held.tenant_id;
  END IF;
END
$$;
GRANT EXECUTE ON FUNCTION patchbay.charge_quota(jsonb, jsonb, jsonb) TO patchbay_system;

-- Uploads of the last hour are counted from the uploads themselves: their rows are kept for a day.
CREATE INDEX upload_tenant_id_created_at_idx ON upload (tenant_id, created_at);

-- What a tenant has of adapters, at a time of the program's clock. Bytes are the declared ones of uploads that are
-- open and those of versions that are kept; a version that several uploads led to counts once. It runs with its
-- caller's rights, behind row-level security.
CREATE FUNCTION patchbay.adapter_use(of_tenant uuid, at timestamptz)
  RETURNS TABLE (adapters bigint, storage_bytes bigint, uploads bigint)
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT
    (SELECT count(*) FROM public.adapter a WHERE a.tenant_id = of_tenant),
    (SELECT coalesce(sum(f.size), 0)::bigint
     FROM public.upload_file f
     WHERE f.tenant_id = of_tenant AND f.upload_id IN (
       SELECT u.id FROM public.upload u
       WHERE u.tenant_id = of_tenant AND u.version_id IS NULL AND u.expires_at > at
       UNION ALL
       (SELECT DISTINCT ON (u.version_id) u.id
        FROM public.upload u JOIN public.adapter_version v ON v.id = u.version_id
        WHERE u.tenant_id = of_tenant AND v.state <> 'REJECTED'
        ORDER BY u.version_id, u.id))),
    (SELECT count(*) FROM public.upload u
     WHERE u.tenant_id = of_tenant AND u.created_at > at - interval '1 hour')
$$;
GRANT EXECUTE ON FUNCTION patchbay.adapter_use(uuid, timestamptz) TO patchbay_app;

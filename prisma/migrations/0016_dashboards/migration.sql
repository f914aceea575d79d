-- What dashboards ask is answered from sums and by indexes, beside any number of rows: usage by day, earnings by hour and
-- day, events and transfers of rare kinds. None of it is written by the transactions that settle requests.

-- Usage by day ------------------------------------------------------------------------------------------------------

-- Sums of usage_rollup over whole days (UTC) that are over. Kinds and versions are as there.
CREATE TABLE usage_rollup_day (
  tenant_id            uuid        NOT NULL,
  kind                 text        NOT NULL CHECK (kind IN ('tenant', 'caller', 'owner')),
  day                  timestamptz NOT NULL CHECK (day = date_trunc('day', day, 'UTC')),
  adapter_version_id   uuid        NOT NULL,
  adapter_id           uuid        NOT NULL,
  requests             bigint      NOT NULL,
  prompt_tokens        bigint      NOT NULL,
  cached_prompt_tokens bigint      NOT NULL,
  completion_tokens    bigint      NOT NULL,
  compute_us           bigint      NOT NULL,
  amount_nano          numeric     NOT NULL CHECK (scale(amount_nano) = 0),
  PRIMARY KEY (tenant_id, kind, day, adapter_version_id)
);
CREATE INDEX usage_rollup_day_tenant_id_kind_adapter_id_day_idx ON usage_rollup_day (tenant_id, kind, adapter_id, day);
-- For sums over all tenants.
CREATE INDEX usage_rollup_day_kind_day_idx ON usage_rollup_day (kind, day);
SELECT patchbay.protect_tenant_table('usage_rollup_day', 'SELECT', 'SELECT, INSERT');
SELECT patchbay.make_append_only('usage_rollup_day');

-- Up to where the days are summed up: every day before it is there whole, none from it on. Null before the first.
CREATE TABLE usage_rolled (
  id    smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
  until timestamptz CHECK (until = date_trunc('day', until, 'UTC'))
);
INSERT INTO usage_rolled DEFAULT VALUES;
-- It belongs to no tenant and tells nothing of any: everybody who adds sums up has to know it.
REVOKE ALL ON usage_rolled FROM PUBLIC;
ALTER TABLE usage_rolled ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_rolled FORCE ROW LEVEL SECURITY;
CREATE POLICY everybody_reads ON usage_rolled FOR SELECT TO patchbay_app USING (true);
CREATE POLICY system_access ON usage_rolled TO patchbay_system USING (true) WITH CHECK (true);
GRANT SELECT ON usage_rolled TO patchbay_app;
GRANT SELECT, UPDATE (until) ON usage_rolled TO patchbay_system;

-- Earnings ----------------------------------------------------------------------------------------------------------

-- Sums over the sealed postings of accounts of earnings, by hour and by day (UTC) of the posting, by what it was and what
-- it was for (the nil uuid for nothing). One writer adds the batches of the chain in their order.
CREATE TABLE earnings_rollup (
  account_id uuid           NOT NULL,
  width      text           NOT NULL CHECK (width IN ('hour', 'day')),
  start      timestamptz    NOT NULL CHECK (start = date_trunc(width, start, 'UTC')),
  kind       text           NOT NULL CHECK (kind IN ('EARNED', 'PAID', 'RETURNED', 'CORRECTION')),
  subject_id uuid           NOT NULL,
  tenant_id  uuid           NOT NULL,
  amount     numeric(38, 0) NOT NULL,
  -- Of the amount, what came in.
  credited   numeric(38, 0) NOT NULL CHECK (credited >= amount AND credited >= 0),
  postings   bigint         NOT NULL CHECK (postings > 0),
  PRIMARY KEY (account_id, width, start, kind, subject_id)
) WITH (fillfactor = 50);
CREATE INDEX earnings_rollup_tenant_id_idx ON earnings_rollup (tenant_id);
SELECT patchbay.protect_tenant_table('earnings_rollup', 'SELECT', 'SELECT');
CREATE POLICY earnings_writer ON earnings_rollup TO patchbay_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE (amount, credited, postings) ON earnings_rollup TO patchbay_definer;

-- The last batch of the chain that is summed up.
CREATE TABLE earnings_rolled (
  id       smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
  sequence bigint  NOT NULL DEFAULT 0
);
INSERT INTO earnings_rolled DEFAULT VALUES;
REVOKE ALL ON earnings_rolled FROM PUBLIC;
ALTER TABLE earnings_rolled ENABLE ROW LEVEL SECURITY;
ALTER TABLE earnings_rolled FORCE ROW LEVEL SECURITY;
CREATE POLICY system_access ON earnings_rolled FOR SELECT TO patchbay_system USING (true);
GRANT SELECT ON earnings_rolled TO patchbay_system;
CREATE POLICY earnings_writer ON earnings_rolled TO patchbay_definer USING (true) WITH CHECK (true);
GRANT SELECT, UPDATE (sequence) ON earnings_rolled TO patchbay_definer;

CREATE FUNCTION patchbay.earning_kind(reference_type text) RETURNS text
  LANGUAGE sql IMMUTABLE PARALLEL SAFE
  RETURN CASE reference_type WHEN 'inference' THEN 'EARNED' WHEN 'payout' THEN 'PAID'
                             WHEN 'payout_return' THEN 'RETURNED' ELSE 'CORRECTION' END;
GRANT EXECUTE ON FUNCTION patchbay.earning_kind(text) TO patchbay_definer;

-- Adds batches that are sealed and not summed up yet, the first and others until they have so many rows; returns how many it
-- added, and none while somebody else adds.
CREATE FUNCTION patchbay.roll_up_earnings(rows_max integer) RETURNS integer
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
  SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
  done      bigint;
  last      bigint;
  batches   integer;
  transfers uuid[];
BEGIN
  SELECT r.sequence INTO done FROM public.earnings_rolled r FOR UPDATE SKIP LOCKED;
  IF done IS NULL THEN
    RETURN 0;
  END IF;
  SELECT max(b.sequence), count(*) INTO last, batches
  FROM (
    SELECT l.sequence, sum(l.row_count) OVER (ORDER BY l.sequence) - l.row_count AS before
    FROM (SELECT o.sequence, o.row_count FROM public.ledger_batch o
          WHERE o.sequence > done ORDER BY o.sequence LIMIT 1000) l
  ) b
  WHERE b.before < rows_max;
  IF batches = 0 THEN
    RETURN 0;
  END IF;
  transfers := ARRAY(
    SELECT t.id FROM public.ledger_batch b CROSS JOIN LATERAL unnest(b.transfer_ids) AS t(id)
    WHERE b.sequence > done AND b.sequence <= last);
  INSERT INTO public.earnings_rollup AS r (account_id, width, start, kind, subject_id, tenant_id, amount, credited, postings)
  SELECT p.account_id, w.width, date_trunc(w.width, p.created_at, 'UTC'), patchbay.earning_kind(t.reference_type),
         coalesce(p.subject_id, '00000000-0000-0000-0000-000000000000'), p.tenant_id, sum(p.amount),
         sum(greatest(p.amount, 0)), count(*)
  FROM unnest(transfers) AS x(id)
  JOIN public.ledger_posting p ON p.transfer_id = x.id
  JOIN public.ledger_account a ON a.id = p.account_id AND a.kind = 'EARNINGS'
  JOIN public.ledger_transfer t ON t.id = x.id
  CROSS JOIN (VALUES ('hour'), ('day')) AS w(width)
  GROUP BY 1, 2, 3, 4, 5, 6
  ON CONFLICT (account_id, width, start, kind, subject_id) DO UPDATE SET
    amount = r.amount + excluded.amount, credited = r.credited + excluded.credited,
    postings = r.postings + excluded.postings;
  UPDATE public.earnings_rolled SET sequence = last;
  RETURN batches;
END
$$;
SELECT patchbay.make_definer('patchbay.roll_up_earnings(integer)', 'patchbay_system');

-- What was posted to accounts of earnings from a time on and before another, as of the statement: whole days and hours
-- from the sums, what of these is not summed up yet from its batches and from what waits to be sealed, and the parts of
-- hours at both ends from the postings. Those are looked for by the time inside of their ids, which come from processes
-- whose clocks may be up to an hour off.
CREATE FUNCTION patchbay.earnings_between(account_ids uuid[], from_time timestamptz, to_time timestamptz) RETURNS TABLE (
    account_id uuid, kind text, subject_id uuid, amount numeric, credited numeric, postings bigint)
  LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
  SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
  tick      interval := interval '1 microsecond';
  hour_from timestamptz := date_trunc('hour', from_time + interval '1 hour' - tick, 'UTC');
  hour_to   timestamptz := greatest(date_trunc('hour', to_time, 'UTC'), hour_from);
  day_from  timestamptz := date_trunc('day', hour_from + interval '24 hours' - tick, 'UTC');
  day_to    timestamptz := greatest(date_trunc('day', hour_to, 'UTC'), day_from);
BEGIN
  RETURN QUERY
  WITH late AS (
    SELECT w.id FROM public.ledger_unsealed u CROSS JOIN LATERAL unnest(u.ids) AS w(id) WHERE u.what = 'transfer'
    UNION ALL
    SELECT w.id FROM public.ledger_batch b CROSS JOIN LATERAL unnest(b.transfer_ids) AS w(id)
    WHERE b.sequence > (SELECT r.sequence FROM public.earnings_rolled r)
  ), posting AS (
    SELECT p.transfer_id, p.account_id, p.subject_id, p.amount
    FROM late l JOIN public.ledger_posting p ON p.transfer_id = l.id
    WHERE p.account_id = ANY (account_ids) AND p.created_at >= hour_from AND p.created_at < hour_to
    UNION ALL
    SELECT p.transfer_id, p.account_id, p.subject_id, p.amount
    FROM (VALUES (from_time, least(hour_from, to_time)), (hour_to, to_time)) AS e(low, high)
    CROSS JOIN unnest(account_ids) AS a(id)
    JOIN public.ledger_posting p ON p.account_id = a.id AND p.created_at >= e.low AND p.created_at < e.high
      AND p.transfer_id >= patchbay.uuidv7_floor(e.low - interval '1 hour')
      AND p.transfer_id < patchbay.uuidv7_floor(e.high + interval '1 hour')
    WHERE e.low < e.high
  ), part AS (
    SELECT p.account_id, patchbay.earning_kind(t.reference_type) AS kind, p.subject_id, p.amount,
           greatest(p.amount, 0) AS credited, 1::bigint AS postings
    FROM posting p JOIN public.ledger_transfer t ON t.id = p.transfer_id
    UNION ALL
    SELECT r.account_id, r.kind, nullif(r.subject_id, '00000000-0000-0000-0000-000000000000'), r.amount, r.credited,
           r.postings
    FROM (VALUES ('hour', hour_from, least(day_from, hour_to)), ('day', day_from, day_to),
                 ('hour', greatest(day_to, hour_from), hour_to)) AS e(width, low, high)
    CROSS JOIN unnest(account_ids) AS a(id)
    JOIN public.earnings_rollup r
      ON r.account_id = a.id AND r.width = e.width AND r.start >= e.low AND r.start < e.high
    WHERE e.low < e.high
  )
  SELECT p.account_id, p.kind, p.subject_id, sum(p.amount), sum(p.credited), sum(p.postings)::bigint
  FROM part p GROUP BY p.account_id, p.kind, p.subject_id;
END
$$;
GRANT EXECUTE ON FUNCTION patchbay.uuidv7_floor(timestamptz) TO patchbay_definer;
SELECT patchbay.make_definer('patchbay.earnings_between(uuid[], timestamptz, timestamptz)', 'patchbay_definer');

-- What each adapter version earned the current tenant in a period.
CREATE FUNCTION patchbay.own_earnings(from_time timestamptz, to_time timestamptz) RETURNS TABLE (
    asset text, subject_id uuid, amount numeric, postings bigint)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT a.asset, e.subject_id, sum(e.amount), sum(e.postings)::bigint
  FROM patchbay.earnings_between(ARRAY(
    SELECT o.id FROM public.ledger_account o WHERE o.tenant_id = patchbay.current_tenant() AND o.kind = 'EARNINGS'),
    from_time, to_time) e
  JOIN public.ledger_account a ON a.id = e.account_id
  WHERE e.subject_id IS NOT NULL
  GROUP BY a.asset, e.subject_id
$$;
SELECT patchbay.make_definer('patchbay.own_earnings(timestamptz, timestamptz)', 'patchbay_app');

-- Functions of 0010_payouts that read postings one by one, made anew on the sums. What they answer is the same. Whoever
-- migrates need not be allowed to replace what belongs to another role, but may be that role for it.
SET LOCAL ROLE patchbay_definer;
DROP FUNCTION patchbay.own_earnings_payable(timestamptz);
DROP FUNCTION patchbay.earnings_payable(uuid[], timestamptz);
DROP FUNCTION patchbay.own_earnings_statement(text, timestamptz, timestamptz);
DROP FUNCTION patchbay.earnings_statement(uuid, text, timestamptz, timestamptz);
RESET ROLE;

CREATE FUNCTION patchbay.earnings_payable(account_ids uuid[], before timestamptz) RETURNS TABLE (
    account_id uuid, tenant_id uuid, asset text, posted numeric, held bigint, maturing numeric, payable numeric)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
  SELECT b.account_id, b.tenant_id, b.asset, b.posted, b.held, coalesce(m.amount, 0),
         b.posted - b.held - coalesce(m.amount, 0)
  FROM patchbay.ledger_balances(account_ids) b
  LEFT JOIN (
    SELECT e.account_id, sum(e.credited) AS amount
    FROM patchbay.earnings_between(account_ids, before, '9999-01-01T00:00:00Z') e GROUP BY e.account_id
  ) m ON m.account_id = b.account_id
  WHERE b.kind = 'EARNINGS'
$$;
SELECT patchbay.make_definer('patchbay.earnings_payable(uuid[], timestamptz)', 'patchbay_system');

CREATE FUNCTION patchbay.own_earnings_payable(before timestamptz) RETURNS TABLE (
    account_id uuid, tenant_id uuid, asset text, posted numeric, held bigint, maturing numeric, payable numeric)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT e.* FROM patchbay.earnings_payable(ARRAY(
    SELECT a.id FROM public.ledger_account a WHERE a.tenant_id = patchbay.current_tenant() AND a.kind = 'EARNINGS'), before) e
$$;
SELECT patchbay.make_definer('patchbay.own_earnings_payable(timestamptz)', 'patchbay_app');

CREATE FUNCTION patchbay.earnings_statement(
  of_tenant uuid, of_asset text, from_time timestamptz, to_time timestamptz
) RETURNS TABLE (kind text, subject_id uuid, amount numeric, postings bigint)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
  WITH account AS (
    SELECT b.account_id, b.posted FROM patchbay.ledger_balances(ARRAY(
      SELECT a.id FROM public.ledger_account a
      WHERE a.tenant_id = of_tenant AND a.kind = 'EARNINGS' AND a.asset = of_asset)) b
  ), during AS (
    SELECT e.* FROM patchbay.earnings_between(ARRAY(SELECT c.account_id FROM account c), from_time, to_time) e
  ), later AS (
    SELECT e.* FROM patchbay.earnings_between(
      ARRAY(SELECT c.account_id FROM account c), to_time, '9999-01-01T00:00:00Z') e
  )
  SELECT 'OPENING', NULL::uuid, c.posted - coalesce((SELECT sum(d.amount) FROM during d), 0)
                                         - coalesce((SELECT sum(l.amount) FROM later l), 0), 0::bigint
  FROM account c
  UNION ALL
  SELECT d.kind, d.subject_id, d.amount, d.postings FROM during d
$$;
SELECT patchbay.make_definer(
  'patchbay.earnings_statement(uuid, text, timestamptz, timestamptz)', 'patchbay_system');

CREATE FUNCTION patchbay.own_earnings_statement(of_asset text, from_time timestamptz, to_time timestamptz)
  RETURNS TABLE (kind text, subject_id uuid, amount numeric, postings bigint)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT s.* FROM patchbay.earnings_statement(patchbay.current_tenant(), of_asset, from_time, to_time) s
$$;
SELECT patchbay.make_definer('patchbay.own_earnings_statement(text, timestamptz, timestamptz)', 'patchbay_app');

-- Rare kinds --------------------------------------------------------------------------------------------------------

-- Of what settlements write there is much and it is read by time; everything else is rare and looked for by kind. These
-- indexes leave out what settlements write, so that those do not pay for them.
CREATE INDEX outbox_event_rare_idx ON outbox_event (tenant_id, kind, transaction, position)
  WHERE kind <> 'request.settled';
CREATE INDEX ledger_transfer_rare_idx ON ledger_transfer (tenant_id, kind, id) WHERE kind NOT IN ('PENDING', 'POST');

-- Requests of one adapter. A tenant may not read whose request a share is of, so a function that knows answers for its own.
DROP INDEX usage_share_tenant_id_request_id_idx;
CREATE INDEX usage_share_tenant_id_adapter_id_request_id_idx ON usage_share (tenant_id, adapter_id, request_id);
CREATE POLICY definer_lookup ON usage_share FOR SELECT TO patchbay_definer USING (true);
GRANT SELECT (request_id, tenant_id, adapter_id, ended_at) ON usage_share TO patchbay_definer;

-- The current tenant's requests that used the adapter, the newest first: at most so many before one and before a uuid, which
-- bounds their times from above, and that ended in a period.
CREATE FUNCTION patchbay.own_requests_of(
  of_adapter uuid, before uuid, bound uuid, from_time timestamptz, to_time timestamptz, most integer
) RETURNS SETOF uuid
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
  SELECT s.request_id FROM public.usage_share s
  WHERE s.tenant_id = patchbay.current_tenant() AND s.adapter_id = of_adapter
    AND s.request_id < least(coalesce(before, 'ffffffff-ffff-ffff-ffff-ffffffffffff'),
                             coalesce(bound, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    AND s.ended_at >= coalesce(from_time, '-infinity') AND s.ended_at < coalesce(to_time, 'infinity')
  GROUP BY s.request_id ORDER BY s.request_id DESC LIMIT most
$$;
SELECT patchbay.make_definer(
  'patchbay.own_requests_of(uuid, uuid, uuid, timestamptz, timestamptz, integer)', 'patchbay_app');

-- Earlier periods of budgets ----------------------------------------------------------------------------------------

-- What a period was bounded by when it ended, or is by now; null for periods that were over before this was kept.
ALTER TABLE budget_period
  ADD COLUMN period     text CHECK (period IN ('DAY', 'MONTH')),
  ADD COLUMN limit_nano bigint,
  ADD COLUMN alerts_ppm integer[];
GRANT UPDATE (period, limit_nano, alerts_ppm) ON budget_period TO patchbay_definer, patchbay_system;

-- After the insert, so that charges of a period that is there already do not ask for it.
CREATE FUNCTION patchbay.keep_budget_terms() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE public.budget_period p SET period = b.period, limit_nano = b.limit_nano, alerts_ppm = b.alerts_ppm
  FROM public.budget b WHERE b.id = NEW.budget_id AND p.budget_id = NEW.budget_id AND p.start = NEW.start;
  RETURN NULL;
END
$$;
CREATE TRIGGER keep_terms AFTER INSERT ON budget_period
  FOR EACH ROW EXECUTE FUNCTION patchbay.keep_budget_terms();

-- A limit that changes bounds the present period, and thresholds of it that are no longer reached count again. What was told
-- of earlier periods stays, which the trigger of 0012_money did not see to. A tenant may not write what is taken of a period,
-- so the database does it for the tenant.
DROP TRIGGER rearm_alerts ON budget;
SET LOCAL ROLE patchbay_definer;
DROP FUNCTION patchbay.rearm_budget_alerts();
RESET ROLE;
CREATE FUNCTION patchbay.follow_budget_terms() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE public.budget_period p
  SET period = NEW.period, limit_nano = NEW.limit_nano, alerts_ppm = NEW.alerts_ppm,
      alerted_ppm = coalesce((
        SELECT max(a.ppm) FROM unnest(NEW.alerts_ppm) AS a(ppm)
        WHERE a.ppm <= p.alerted_ppm AND p.spent_nano::numeric * 1000000 >= NEW.limit_nano::numeric * a.ppm), 0)
  WHERE p.budget_id = NEW.id AND p.start >= date_trunc(lower(NEW.period), now(), 'UTC');
  RETURN NULL;
END
$$;
CREATE TRIGGER follow_terms AFTER UPDATE OF limit_nano, alerts_ppm ON budget
  FOR EACH ROW EXECUTE FUNCTION patchbay.follow_budget_terms();
-- After the trigger, for which whoever makes it needs a right to the function.
SELECT patchbay.make_definer('patchbay.follow_budget_terms()', VARIADIC ARRAY[]::text[]);

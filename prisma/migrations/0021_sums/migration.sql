-- Coarser sums for what dashboards ask most: earnings by month, an owner's usage by day over all adapters, and everybody's
-- usage by day. A question about 90 days then reads hundreds of rows where it read tens of thousands.

-- Earnings by month -------------------------------------------------------------------------------------------------

ALTER TABLE earnings_rollup DROP CONSTRAINT earnings_rollup_width_check;
ALTER TABLE earnings_rollup ADD CONSTRAINT earnings_rollup_width_check CHECK (width IN ('hour', 'day', 'month'));
ALTER TABLE earnings_rollup NO FORCE ROW LEVEL SECURITY;
INSERT INTO earnings_rollup (account_id, width, start, kind, subject_id, tenant_id, amount, credited, postings)
SELECT account_id, 'month', date_trunc('month', start, 'UTC'), kind, subject_id, tenant_id, sum(amount), sum(credited),
       sum(postings)
FROM earnings_rollup WHERE width = 'day' GROUP BY 1, 3, 4, 5, 6;
ALTER TABLE earnings_rollup FORCE ROW LEVEL SECURITY;

-- As in 0016_dashboards, with months. Whoever migrates need not be allowed to replace what belongs to another role, but may
-- be that role for it.
SET LOCAL ROLE patchbay_definer;
DROP FUNCTION patchbay.roll_up_earnings(integer);
DROP FUNCTION patchbay.earnings_between(uuid[], timestamptz, timestamptz);
RESET ROLE;

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
  CROSS JOIN (VALUES ('hour'), ('day'), ('month')) AS w(width)
  GROUP BY 1, 2, 3, 4, 5, 6
  ON CONFLICT (account_id, width, start, kind, subject_id) DO UPDATE SET
    amount = r.amount + excluded.amount, credited = r.credited + excluded.credited,
    postings = r.postings + excluded.postings;
  UPDATE public.earnings_rolled SET sequence = last;
  RETURN batches;
END
$$;
SELECT patchbay.make_definer('patchbay.roll_up_earnings(integer)', 'patchbay_system');

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
  -- Months of UTC, whatever the session's zone: an interval of a month is added to a time without one.
  mon_from  timestamptz := greatest(day_from, (
    date_trunc('month', (day_from - tick) AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC');
  mon_to    timestamptz := greatest(date_trunc('month', day_to, 'UTC'), mon_from);
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
    FROM (VALUES ('hour', hour_from, least(day_from, hour_to)), ('day', day_from, least(mon_from, day_to)),
                 ('month', mon_from, mon_to), ('day', greatest(mon_to, day_from), day_to),
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
SELECT patchbay.make_definer('patchbay.earnings_between(uuid[], timestamptz, timestamptz)', 'patchbay_definer');

-- Usage by day ------------------------------------------------------------------------------------------------------

-- Besides the kinds of the hours: `owner_sum`, an owner's over all adapters (of the nil version), and `all_tenant`,
-- `all_caller`, `all_owner`, everybody's of a kind by version, which the platform's tenant has.
ALTER TABLE usage_rollup_day DROP CONSTRAINT usage_rollup_day_kind_check;
ALTER TABLE usage_rollup_day ADD CONSTRAINT usage_rollup_day_kind_check
  CHECK (kind IN ('tenant', 'caller', 'owner', 'owner_sum', 'all_tenant', 'all_caller', 'all_owner'));
ALTER TABLE usage_rollup_day NO FORCE ROW LEVEL SECURITY;
INSERT INTO usage_rollup_day (tenant_id, kind, day, adapter_version_id, adapter_id, requests, prompt_tokens,
  cached_prompt_tokens, completion_tokens, compute_us, amount_nano)
SELECT tenant_id, 'owner_sum', day, '00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000',
       sum(requests), sum(prompt_tokens), sum(cached_prompt_tokens), sum(completion_tokens), sum(compute_us), sum(amount_nano)
FROM usage_rollup_day WHERE kind = 'owner' GROUP BY tenant_id, day
UNION ALL
SELECT '00000000-0000-7000-8000-000000000000', 'all_' || kind, day, adapter_version_id, adapter_id,
       sum(requests), sum(prompt_tokens), sum(cached_prompt_tokens), sum(completion_tokens), sum(compute_us), sum(amount_nano)
FROM usage_rollup_day GROUP BY kind, day, adapter_version_id, adapter_id;
ALTER TABLE usage_rollup_day FORCE ROW LEVEL SECURITY;

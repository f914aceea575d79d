-- Loose ends of money: recovery knows how much of a prompt was cached, a new budget does not sum its period up under the
-- lock that the tenant's requests wait for, and a split is joined by those alone who agree to it.

-- What recovery knows of a request --------------------------------------------------------------------------------

-- Of the prompt's tokens, those that were not computed. The prompt is in another table, so what settles takes no more
-- than that, and the record's own check refuses what does not fit.
ALTER TABLE request_progress
  ADD COLUMN cached_prompt_tokens integer NOT NULL DEFAULT 0 CHECK (cached_prompt_tokens >= 0);
GRANT UPDATE (cached_prompt_tokens) ON request_progress TO patchbay_system;

-- A new budget counts what its running period has spent and what runs ---------------------------------------------

-- What a settlement was and in which transaction: each writes one event, so nothing else has to be kept for this.
CREATE POLICY budget_start ON outbox_event FOR SELECT TO patchbay_definer USING (kind = 'request.settled');
GRANT SELECT (tenant_id, transaction, kind, subject_id, created_at) ON outbox_event TO patchbay_definer;

-- What a budget's period that begins at `first` has spent, as of the statement that asks: by all requests that ended since
-- `ended_from`, or by these alone.
CREATE FUNCTION patchbay.budget_spent(
  b budget, keys uuid[], first timestamptz, ended_from timestamptz, requests uuid[]
) RETURNS numeric
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  next  timestamptz := first + CASE b.period WHEN 'DAY' THEN interval '1 day' ELSE interval '1 month' END;
  spent numeric;
BEGIN
  -- A request counts in the period in which it was admitted. Its id says when that was to the hour; only near the ends of
  -- the period is the record asked.
  SELECT coalesce(sum(c.total_nano), 0) INTO spent
  FROM public.usage_charge c
  WHERE c.tenant_id = b.tenant_id AND c.ended_at >= ended_from AND c.currency = b.currency
    AND (requests IS NULL OR c.request_id = ANY (requests))
    AND CASE b.scope WHEN 'TENANT' THEN true WHEN 'KEY' THEN c.key_id = ANY (keys) ELSE c.adapter_id = b.subject_id END
    AND CASE
      WHEN c.request_id >= patchbay.uuidv7_floor(first + interval '1 hour')
           AND c.request_id < patchbay.uuidv7_floor(next - interval '1 hour') THEN true
      ELSE coalesce((
        SELECT r.admitted_at >= first AND r.admitted_at < next FROM public.usage_record r WHERE r.id = c.request_id), false)
      END;
  RETURN spent;
END
$$;
GRANT EXECUTE ON FUNCTION patchbay.budget_spent(budget, uuid[], timestamptz, timestamptz, uuid[]) TO patchbay_definer;

-- As before, but what a period has spent is summed up before the lock is taken, and only what was settled since is added
-- under it: the settlements that the first snapshot did not see, whose transactions their events name. A settlement that
-- costs something holds the lock until it is committed, so the second snapshot misses none.
SET LOCAL ROLE patchbay_definer;
DROP FUNCTION patchbay.start_budget(uuid, uuid, timestamptz);
RESET ROLE;
CREATE FUNCTION patchbay.start_budget(of_budget uuid, new_account uuid, at timestamptz) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  b       public.budget;
  keys    uuid[];
  summed  timestamptz[];
  sums    numeric[];
  seen    pg_snapshot;
  since   timestamptz;
  settled uuid[];
  first   timestamptz;
  next    timestamptz;
  spent   numeric;
  held    numeric;
BEGIN
  SELECT * INTO b FROM public.budget o WHERE o.id = of_budget AND o.tenant_id = patchbay.current_tenant();
  IF b.id IS NULL THEN
    RETURN;
  END IF;
  -- The period may have changed since the transaction began.
  summed := ARRAY(SELECT DISTINCT date_trunc(lower(b.period), t.at) FROM unnest(ARRAY[now(), clock_timestamp()]) AS t(at));
  -- One statement and so one snapshot: no key that it does not see has a charge that it sees.
  WITH own AS (
    SELECT array_agg(k.id) AS keys FROM public.api_key k WHERE k.tenant_id = b.tenant_id AND k.origin_id = b.subject_id
  )
  SELECT array_agg(patchbay.budget_spent(b, o.keys, s.first, s.first, NULL) ORDER BY s.nth), pg_current_snapshot()
  INTO sums, seen FROM own o CROSS JOIN unnest(summed) WITH ORDINALITY AS s(first, nth);
  PERFORM patchbay.ledger_lock(ARRAY[
    patchbay.ledger_open_account(new_account, b.tenant_id, 'CUSTOMER', b.currency, at)]);
  SELECT array_agg(e.subject_id), min(e.created_at) INTO settled, since
  FROM public.outbox_event e
  WHERE e.tenant_id = b.tenant_id AND e.kind = 'request.settled'
    AND e.transaction >= pg_snapshot_xmin(seen)::text::bigint
    AND NOT pg_visible_in_snapshot(e.transaction::text::xid8, seen);
  keys := ARRAY(SELECT k.id FROM public.api_key k WHERE k.tenant_id = b.tenant_id AND k.origin_id = b.subject_id);
  -- A period may have ended while this waited for the lock.
  FOR first IN SELECT DISTINCT date_trunc(lower(b.period), t.at) FROM unnest(ARRAY[now(), clock_timestamp()]) AS t(at) LOOP
    INSERT INTO public.budget_period (budget_id, start, tenant_id) VALUES (b.id, first, b.tenant_id)
    ON CONFLICT DO NOTHING;
    CONTINUE WHEN NOT FOUND;
    next := first + CASE b.period WHEN 'DAY' THEN interval '1 day' ELSE interval '1 month' END;
    spent := CASE
      -- It has just begun.
      WHEN array_position(summed, first) IS NULL THEN patchbay.budget_spent(b, keys, first, first, NULL)
      WHEN settled IS NULL THEN sums[array_position(summed, first)]
      ELSE sums[array_position(summed, first)]
        + patchbay.budget_spent(b, keys, first, greatest(since, first), settled)
      END;
    -- Of a blend that runs, a budget of one of its adapters holds all until it ends: never too little.
    WITH running AS (
      INSERT INTO public.budget_hold (request_id, budget_id, start, tenant_id, adapter_id, amount_nano)
      SELECT q.id, b.id, first, q.tenant_id, CASE b.scope WHEN 'ADAPTER' THEN b.subject_id END, t.held
      FROM public.inference_request q JOIN public.ledger_transfer t ON t.id = q.hold_id
      WHERE q.tenant_id = b.tenant_id AND q.admitted_at >= first AND q.admitted_at < next
        AND CASE b.scope WHEN 'TENANT' THEN true WHEN 'KEY' THEN q.key_id = ANY (keys)
                         ELSE q.adapters @> jsonb_build_array(jsonb_build_object('adapter_id', b.subject_id)) END
      RETURNING amount_nano
    )
    SELECT coalesce(sum(r.amount_nano), 0) INTO held FROM running r;
    UPDATE public.budget_period p SET spent_nano = spent, held_nano = held WHERE p.budget_id = b.id AND p.start = first;
    PERFORM patchbay.tell_threshold(b.id, first);
  END LOOP;
END
$$;
SELECT patchbay.make_definer('patchbay.start_budget(uuid, uuid, timestamptz)', 'patchbay_app');

-- Who joins a split -----------------------------------------------------------------------------------------------

-- As before, but nobody looks whether a tenant is there that is to be added: whoever joins is asked, as those whose share
-- falls are, and a proposal waits for an id that nobody has as it waits for a tenant that says nothing. So its answer tells
-- nothing about ids, and only a tenant that works and wants to can begin to earn. Everybody knows the platform's id, and it
-- joins no split.
SET LOCAL ROLE patchbay_definer;
DROP FUNCTION patchbay.propose_split(
  uuid, uuid, uuid, uuid, uuid[], bigint[], timestamptz, timestamptz, timestamptz);
RESET ROLE;
CREATE FUNCTION patchbay.propose_split(
  new_id uuid, new_split_id uuid, of_adapter uuid, of_version uuid, to_tenants uuid[], in_parts bigint[],
  wanted_from timestamptz, at timestamptz, earliest timestamptz
) RETURNS text
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  me       uuid := patchbay.current_tenant();
  base     public.split_version;
  proposal public.split_proposal;
  total    bigint := patchbay.sum_parts(in_parts);
  asked    uuid[];
BEGIN
  -- A version first: without one an adapter may still be swept away.
  IF NOT EXISTS (
    SELECT FROM public.adapter_version v
    WHERE v.tenant_id = me AND v.adapter_id = of_adapter AND (of_version IS NULL OR v.id = of_version)
  ) THEN
    RETURN 'UNKNOWN_ADAPTER';
  END IF;
  IF '00000000-0000-7000-8000-000000000000' = ANY (to_tenants) THEN
    RETURN 'PLATFORM';
  END IF;
  PERFORM patchbay.lock_splits(of_adapter);
  base := patchbay.newest_split(of_adapter, of_version);
  IF base.effective_from >= wanted_from THEN
    RETURN 'TOO_EARLY';
  END IF;
  -- Those who join, and those whose share falls. Shares are compared as fractions, a / b < c / d as a * d < c * b, in
  -- numeric so that nothing overflows.
  SELECT coalesce(array_agg(coalesce(old.tenant, new.tenant) ORDER BY coalesce(old.tenant, new.tenant)), '{}') INTO asked
  FROM unnest(base.beneficiaries, base.parts) AS old (tenant, part)
  FULL JOIN unnest(to_tenants, in_parts) AS new (tenant, part) ON new.tenant = old.tenant
  WHERE coalesce(old.tenant, new.tenant) <> me
    AND (old.tenant IS NULL OR coalesce(new.part, 0)::numeric * base.whole < old.part::numeric * total);
  INSERT INTO public.split_proposal (id, tenant_id, adapter_id, adapter_version_id, beneficiaries, parts, whole,
    consents_needed, base_id, effective_from, created_at)
  VALUES (new_id, me, of_adapter, of_version, to_tenants, in_parts, total, asked, base.id, wanted_from, at)
  RETURNING * INTO proposal;
  RETURN patchbay.activate_split(proposal, new_split_id, at, earliest);
END
$$;
SELECT patchbay.make_definer(
  'patchbay.propose_split(uuid, uuid, uuid, uuid, uuid[], bigint[], timestamptz, timestamptz, timestamptz)',
  'patchbay_app');

-- What a budget and a balance tell of, and what they count: rotated keys, what a period had already spent, the first
-- refusal, a balance that runs low. And one rule for what counts as a running stream.

-- The origin of a key ---------------------------------------------------------------------------------------------

-- The first key of a chain of rotations: what is kept for a key is kept for all of its chain. The database fills it in,
-- and nobody may change it, so that no key can leave what bounds it.
ALTER TABLE api_key ADD COLUMN origin_id uuid;
-- For this one statement the owner steps over the guards that bind it too.
ALTER TABLE api_key NO FORCE ROW LEVEL SECURITY;
WITH RECURSIVE chain AS (
  SELECT k.id, k.id AS origin_id FROM api_key k WHERE k.rotated_from IS NULL
  UNION ALL
  SELECT k.id, c.origin_id FROM api_key k JOIN chain c ON k.rotated_from = c.id
)
UPDATE api_key k SET origin_id = c.origin_id FROM chain c WHERE c.id = k.id;
ALTER TABLE api_key FORCE ROW LEVEL SECURITY;
ALTER TABLE api_key
  ALTER COLUMN origin_id SET NOT NULL,
  ADD CONSTRAINT api_key_origin_is_first CHECK (rotated_from IS NOT NULL OR origin_id = id);
CREATE INDEX api_key_tenant_id_origin_id_idx ON api_key (tenant_id, origin_id);
GRANT SELECT (origin_id) ON api_key TO patchbay_definer;

CREATE FUNCTION patchbay.set_key_origin() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  NEW.origin_id := coalesce(
    (SELECT k.origin_id FROM public.api_key k WHERE k.tenant_id = NEW.tenant_id AND k.id = NEW.rotated_from), NEW.id);
  RETURN NEW;
END
$$;
CREATE TRIGGER set_origin BEFORE INSERT ON api_key FOR EACH ROW EXECUTE FUNCTION patchbay.set_key_origin();

-- Budgets of keys are kept under the origin from now on. Where a chain has several of a period, the one of its newest
-- key stays.
ALTER TABLE budget NO FORCE ROW LEVEL SECURITY;
DELETE FROM budget b USING (
  SELECT o.id, row_number() OVER (PARTITION BY o.tenant_id, k.origin_id, o.period ORDER BY k.created_at DESC, k.id DESC) AS nth
  FROM budget o JOIN api_key k ON k.tenant_id = o.tenant_id AND k.id = o.subject_id
  WHERE o.scope = 'KEY') ranked
WHERE b.id = ranked.id AND ranked.nth > 1;
UPDATE budget b SET subject_id = k.origin_id
FROM api_key k WHERE b.scope = 'KEY' AND k.tenant_id = b.tenant_id AND k.id = b.subject_id AND k.origin_id <> k.id;
ALTER TABLE budget FORCE ROW LEVEL SECURITY;

-- Budgets ---------------------------------------------------------------------------------------------------------

-- Whether it was told in this period that something was refused.
ALTER TABLE budget_period ADD COLUMN exhausted boolean NOT NULL DEFAULT false;
GRANT UPDATE (exhausted) ON budget_period TO patchbay_system, patchbay_definer;
GRANT INSERT, UPDATE (spent_nano, held_nano) ON budget_period TO patchbay_definer;
CREATE POLICY budget_functions ON budget FOR SELECT TO patchbay_definer USING (true);
GRANT SELECT ON budget TO patchbay_definer;

-- What of a charge a budget counts; null when it does not count it at all.
CREATE FUNCTION patchbay.budget_part(
  scope text, subject uuid, key_origin uuid, amount bigint, adapters jsonb
) RETURNS bigint
  LANGUAGE sql IMMUTABLE PARALLEL SAFE
  RETURN CASE scope WHEN 'TENANT' THEN amount WHEN 'KEY' THEN CASE WHEN subject = key_origin THEN amount END
                    ELSE (adapters ->> subject::text)::bigint END;
GRANT EXECUTE ON FUNCTION patchbay.budget_part(text, uuid, uuid, bigint, jsonb) TO patchbay_system;

-- What an event of a budget says.
CREATE FUNCTION patchbay.budget_facts(b budget, p budget_period) RETURNS jsonb
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
  RETURN jsonb_build_object(
    'scope', b.scope, 'subjectId', nullif(b.subject_id, '00000000-0000-0000-0000-000000000000'),
    'period', b.period, 'start', p.start, 'currency', b.currency,
    'limitNano', b.limit_nano::text, 'spentNano', p.spent_nano::text);
GRANT EXECUTE ON FUNCTION patchbay.budget_facts(budget, budget_period) TO patchbay_system, patchbay_definer;

-- Tells the highest threshold that is reached and was not told. Whoever calls it has the period's row locked.
CREATE FUNCTION patchbay.tell_threshold(of_budget uuid, of_start timestamptz) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  b       public.budget;
  p       public.budget_period;
  reached integer;
BEGIN
  SELECT * INTO b FROM public.budget o WHERE o.id = of_budget;
  SELECT * INTO p FROM public.budget_period o WHERE o.budget_id = of_budget AND o.start = of_start;
  SELECT max(a.ppm) INTO reached FROM unnest(b.alerts_ppm) AS a(ppm)
  WHERE a.ppm > p.alerted_ppm AND p.spent_nano > 0
    AND p.spent_nano::numeric * 1000000 >= b.limit_nano::numeric * a.ppm;
  IF reached IS NULL THEN
    RETURN;
  END IF;
  UPDATE public.budget_period o SET alerted_ppm = reached WHERE o.budget_id = of_budget AND o.start = of_start;
  PERFORM patchbay.emit_event(b.tenant_id, 'budget.threshold', b.id,
    patchbay.budget_facts(b, p) || jsonb_build_object('thresholdPpm', reached));
END
$$;
GRANT EXECUTE ON FUNCTION patchbay.tell_threshold(uuid, timestamptz) TO patchbay_system, patchbay_definer;

-- As before, and what a lower limit or a new threshold makes reached is told at once. Another limit makes the next
-- refusal worth telling again.
DROP TRIGGER follow_terms ON budget;
SET LOCAL ROLE patchbay_definer;
DROP FUNCTION patchbay.follow_budget_terms();
RESET ROLE;
CREATE FUNCTION patchbay.follow_budget_terms() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  present timestamptz := date_trunc(lower(NEW.period), now(), 'UTC');
BEGIN
  UPDATE public.budget_period p
  SET period = NEW.period, limit_nano = NEW.limit_nano, alerts_ppm = NEW.alerts_ppm,
      alerted_ppm = coalesce((
        SELECT max(a.ppm) FROM unnest(NEW.alerts_ppm) AS a(ppm)
        WHERE a.ppm <= p.alerted_ppm AND p.spent_nano::numeric * 1000000 >= NEW.limit_nano::numeric * a.ppm), 0),
      exhausted = p.exhausted AND NEW.limit_nano = OLD.limit_nano
  WHERE p.budget_id = NEW.id AND p.start >= present;
  PERFORM patchbay.tell_threshold(NEW.id, present);
  RETURN NULL;
END
$$;
CREATE TRIGGER follow_terms AFTER UPDATE OF limit_nano, alerts_ppm ON budget
  FOR EACH ROW EXECUTE FUNCTION patchbay.follow_budget_terms();
SELECT patchbay.make_definer('patchbay.follow_budget_terms()', VARIADIC ARRAY[]::text[]);

-- As before, but: a budget of a key counts what every key of its chain of rotations costs, and the first refusal of a
-- period is told.
CREATE OR REPLACE FUNCTION patchbay.charge_budgets(charges jsonb, endings jsonb) RETURNS TABLE (
    request_id uuid, budget_id uuid, scope text, subject_id uuid, period text, start timestamptz, limit_nano bigint,
    spent_nano bigint, held_nano bigint, amount_nano bigint)
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  locked   uuid[];
  today    timestamptz := date_trunc('day', now(), 'UTC');
  month    timestamptz := date_trunc('month', now(), 'UTC');
  charge   record;
  ended    record;
  lacking  record;
BEGIN
  INSERT INTO public.budget_period (budget_id, start, tenant_id)
  SELECT DISTINCT b.id, CASE b.period WHEN 'DAY' THEN today ELSE month END, b.tenant_id
  FROM jsonb_to_recordset(charges) AS c(tenant_id uuid) JOIN public.budget b ON b.tenant_id = c.tenant_id
  ORDER BY 1
  ON CONFLICT DO NOTHING;
  -- Every statement below sees what others have committed by then, a budget that was made since among it. Only those that
  -- are locked here are charged.
  locked := ARRAY(
    SELECT p.budget_id FROM public.budget_period p
    WHERE (p.budget_id, p.start) IN (
      SELECT b.id, CASE b.period WHEN 'DAY' THEN today ELSE month END
      FROM jsonb_to_recordset(charges) AS c(tenant_id uuid) JOIN public.budget b ON b.tenant_id = c.tenant_id
      UNION ALL
      SELECT h.budget_id, h.start
      FROM jsonb_to_recordset(endings) AS e(id uuid) JOIN public.budget_hold h ON h.request_id = e.id)
    ORDER BY p.budget_id, p.start FOR NO KEY UPDATE);

  FOR ended IN
    WITH gone AS (
      DELETE FROM public.budget_hold h
      USING jsonb_to_recordset(endings) AS e(id uuid, amount bigint, adapters jsonb)
      WHERE h.request_id = e.id
      RETURNING h.budget_id, h.start, h.amount_nano AS held,
                CASE WHEN h.adapter_id IS NULL THEN e.amount
                     ELSE coalesce((e.adapters ->> h.adapter_id::text)::bigint, 0) END AS spent
    ), summed AS (
      SELECT g.budget_id, g.start, sum(g.held)::bigint AS held, sum(g.spent)::bigint AS spent
      FROM gone g GROUP BY g.budget_id, g.start
    )
    UPDATE public.budget_period p
    SET held_nano = p.held_nano - s.held, spent_nano = p.spent_nano + s.spent
    FROM summed s WHERE p.budget_id = s.budget_id AND p.start = s.start
    RETURNING p.budget_id, p.start
  LOOP
    PERFORM patchbay.tell_threshold(ended.budget_id, ended.start);
  END LOOP;

  FOR charge IN
    -- The index finds a key; a charge of none that is there is its own origin.
    SELECT c.*, coalesce((SELECT k.origin_id FROM public.api_key k WHERE k.id = c.key_id), c.key_id) AS origin_id
    FROM jsonb_to_recordset(charges) AS c(
      ord integer, id uuid, tenant_id uuid, key_id uuid, amount bigint, adapters jsonb)
    ORDER BY c.ord
  LOOP
    SELECT a.*, bool_and(a.exhausted) OVER () AS told INTO lacking
    FROM (
      SELECT b.id, b.scope, b.subject_id, b.period, p.start, b.limit_nano, p.spent_nano, p.held_nano, p.exhausted,
             patchbay.budget_part(b.scope, b.subject_id, charge.origin_id, charge.amount, charge.adapters) AS amount
      FROM public.budget b
      JOIN public.budget_period p ON p.budget_id = b.id
        AND p.start = CASE b.period WHEN 'DAY' THEN today ELSE month END
      WHERE b.tenant_id = charge.tenant_id AND b.id = ANY (locked)
    ) a
    WHERE a.amount > a.limit_nano - a.spent_nano - a.held_nano
    ORDER BY a.limit_nano - a.spent_nano - a.held_nano - a.amount, a.id LIMIT 1;
    IF FOUND THEN
      request_id := charge.id;
      budget_id := lacking.id;
      scope := lacking.scope;
      subject_id := nullif(lacking.subject_id, '00000000-0000-0000-0000-000000000000');
      period := lacking.period;
      start := lacking.start;
      limit_nano := lacking.limit_nano;
      spent_nano := lacking.spent_nano;
      held_nano := lacking.held_nano;
      amount_nano := lacking.amount;
      RETURN NEXT;
      CONTINUE WHEN lacking.told;
      -- Each budget that refuses it tells so the first time. Its row is locked already, and all later refusals of the
      -- period write nothing.
      FOR ended IN
        UPDATE public.budget_period p SET exhausted = true
        FROM public.budget b
        WHERE b.tenant_id = charge.tenant_id AND b.id = ANY (locked) AND p.budget_id = b.id AND NOT p.exhausted
          AND p.start = CASE b.period WHEN 'DAY' THEN today ELSE month END
          AND patchbay.budget_part(b.scope, b.subject_id, charge.origin_id, charge.amount, charge.adapters)
              > b.limit_nano - p.spent_nano - p.held_nano
        RETURNING b.id, b.tenant_id, patchbay.budget_facts(b, p) || jsonb_build_object(
          'heldNano', p.held_nano::text, 'amountNano',
          patchbay.budget_part(b.scope, b.subject_id, charge.origin_id, charge.amount, charge.adapters)::text) AS facts
      LOOP
        PERFORM patchbay.emit_event(ended.tenant_id, 'budget.exhausted', ended.id, ended.facts);
      END LOOP;
      CONTINUE;
    END IF;
    WITH taken AS (
      INSERT INTO public.budget_hold (request_id, budget_id, start, tenant_id, adapter_id, amount_nano)
      SELECT charge.id, a.id, a.start, a.tenant_id, CASE a.scope WHEN 'ADAPTER' THEN a.subject_id END, a.amount
      FROM (
        SELECT b.*, CASE b.period WHEN 'DAY' THEN today ELSE month END AS start,
               patchbay.budget_part(b.scope, b.subject_id, charge.origin_id, charge.amount, charge.adapters) AS amount
        FROM public.budget b
        -- A budget that was made after the locks were taken counts from the next request on.
        WHERE b.tenant_id = charge.tenant_id AND b.id = ANY (locked)
      ) a
      WHERE a.amount IS NOT NULL
      RETURNING budget_id, start, amount_nano
    )
    UPDATE public.budget_period p SET held_nano = p.held_nano + t.amount_nano
    FROM taken t WHERE p.budget_id = t.budget_id AND p.start = t.start;
  END LOOP;
END
$$;

-- A new budget counts what its running period has spent and what runs ---------------------------------------------

CREATE POLICY budget_start ON usage_charge FOR SELECT TO patchbay_definer USING (true);
GRANT SELECT (request_id, tenant_id, key_id, adapter_id, currency, total_nano, ended_at) ON usage_charge TO patchbay_definer;
CREATE POLICY budget_start ON usage_record FOR SELECT TO patchbay_definer USING (true);
GRANT SELECT (id, admitted_at) ON usage_record TO patchbay_definer;
GRANT EXECUTE ON FUNCTION patchbay.uuidv7_floor(timestamptz) TO patchbay_definer;
CREATE POLICY budget_start ON inference_request FOR SELECT TO patchbay_definer USING (true);
GRANT SELECT (id, tenant_id, key_id, instance_id, adapters, hold_id, admitted_at) ON inference_request TO patchbay_definer;
CREATE POLICY budget_start ON budget_hold TO patchbay_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON budget_hold TO patchbay_definer;

-- Starts a budget of the current tenant that this transaction has made, with what its period has spent and what is held
-- of it. Every request that costs something locks the account that it is paid from before anything else, so with that
-- lock none is under way: what was admitted is in one of the tables, and whoever comes later finds the budget. The
-- account is opened for that where there is none; `new_account` is its id then.
CREATE FUNCTION patchbay.start_budget(of_budget uuid, new_account uuid, at timestamptz) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  b      public.budget;
  keys   uuid[];
  first  timestamptz;
  next   timestamptz;
  spent  numeric;
  held   numeric;
BEGIN
  SELECT * INTO b FROM public.budget o WHERE o.id = of_budget AND o.tenant_id = patchbay.current_tenant();
  IF b.id IS NULL THEN
    RETURN;
  END IF;
  PERFORM patchbay.ledger_lock(ARRAY[
    patchbay.ledger_open_account(new_account, b.tenant_id, 'CUSTOMER', b.currency, at)]);
  keys := ARRAY(SELECT k.id FROM public.api_key k WHERE k.tenant_id = b.tenant_id AND k.origin_id = b.subject_id);
  -- A period may have ended while this waited for the lock.
  FOR first IN SELECT DISTINCT date_trunc(lower(b.period), t.at) FROM unnest(ARRAY[now(), clock_timestamp()]) AS t(at) LOOP
    INSERT INTO public.budget_period (budget_id, start, tenant_id) VALUES (b.id, first, b.tenant_id)
    ON CONFLICT DO NOTHING;
    CONTINUE WHEN NOT FOUND;
    next := first + CASE b.period WHEN 'DAY' THEN interval '1 day' ELSE interval '1 month' END;
    -- A request counts in the period in which it was admitted. Its id says when that was to the hour; only near the ends
    -- of the period is the record asked.
    SELECT coalesce(sum(c.total_nano), 0) INTO spent
    FROM public.usage_charge c
    WHERE c.tenant_id = b.tenant_id AND c.ended_at >= first AND c.currency = b.currency
      AND CASE b.scope WHEN 'TENANT' THEN true WHEN 'KEY' THEN c.key_id = ANY (keys) ELSE c.adapter_id = b.subject_id END
      AND CASE
        WHEN c.request_id >= patchbay.uuidv7_floor(first + interval '1 hour')
             AND c.request_id < patchbay.uuidv7_floor(next - interval '1 hour') THEN true
        ELSE coalesce((
          SELECT r.admitted_at >= first AND r.admitted_at < next FROM public.usage_record r WHERE r.id = c.request_id), false)
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

-- Balances that run low -------------------------------------------------------------------------------------------

-- What is left of a customer's balance, its credit included, is told of once when it falls below this, and again only
-- after it was above. A setting and no fact of the ledger, so it is not in its tables.
CREATE TABLE balance_alert (
  account_id uuid PRIMARY KEY,
  tenant_id  uuid    NOT NULL,
  below_nano bigint  NOT NULL CHECK (below_nano BETWEEN 1 AND 1000000000000000000),
  -- Whether it was told, and was not above since.
  told       boolean NOT NULL
);
CREATE INDEX balance_alert_tenant_id_idx ON balance_alert (tenant_id);
SELECT patchbay.protect_tenant_table('balance_alert', 'SELECT', 'SELECT');
GRANT SELECT, INSERT, UPDATE (below_nano, told), DELETE ON balance_alert TO patchbay_definer;
CREATE POLICY balance_functions ON balance_alert TO patchbay_definer USING (true) WITH CHECK (true);

CREATE FUNCTION patchbay.tell_low_balance(of_account uuid, left_nano bigint, credit_limit bigint, below bigint) RETURNS void
  LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
  SELECT patchbay.emit_event(a.tenant_id, 'balance.low', a.id, jsonb_build_object(
    'currency', a.asset, 'leftNano', left_nano::text, 'creditLimitNano', credit_limit::text,
    'thresholdNano', below::text))
  FROM public.ledger_account a WHERE a.id = of_account
$$;
GRANT EXECUTE ON FUNCTION patchbay.tell_low_balance(uuid, bigint, bigint, bigint) TO patchbay_definer;

-- Once for a statement, whatever the number of balances, and on the index alone, as the ledger's own triggers.
CREATE FUNCTION patchbay.watch_balances() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
  SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
  crossed record;
BEGIN
  FOR crossed IN
    UPDATE public.balance_alert a SET told = NOT a.told
    FROM changed c
    WHERE a.account_id = c.account_id AND (c.credit_limit + c.posted < a.below_nano) <> a.told
    RETURNING a.account_id, a.told, a.below_nano, c.credit_limit + c.posted AS left_nano, c.credit_limit
  LOOP
    CONTINUE WHEN NOT crossed.told;
    PERFORM patchbay.tell_low_balance(crossed.account_id, crossed.left_nano, crossed.credit_limit, crossed.below_nano);
  END LOOP;
  RETURN NULL;
END
$$;
CREATE TRIGGER watch_balances AFTER UPDATE ON ledger_balance REFERENCING NEW TABLE AS changed
  FOR EACH STATEMENT EXECUTE FUNCTION patchbay.watch_balances();
SELECT patchbay.make_definer('patchbay.watch_balances()', VARIADIC ARRAY[]::text[]);

-- Sets it, or with null takes it away. What is below another one already is told at once.
-- Whether there is such an account.
CREATE FUNCTION patchbay.set_balance_alert(of_account uuid, below bigint) RETURNS boolean
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  balance public.ledger_balance;
BEGIN
  -- The lock keeps the balance as it is until this commits.
  SELECT * INTO balance FROM public.ledger_balance b WHERE b.account_id = of_account AND b.limited FOR NO KEY UPDATE;
  IF balance.account_id IS NULL THEN
    RETURN false;
  END IF;
  IF below IS NULL THEN
    DELETE FROM public.balance_alert a WHERE a.account_id = of_account;
    RETURN true;
  END IF;
  INSERT INTO public.balance_alert AS a (account_id, tenant_id, below_nano, told)
  VALUES (of_account, balance.tenant_id, below, balance.credit_limit + balance.posted < below)
  ON CONFLICT (account_id) DO UPDATE SET below_nano = excluded.below_nano, told = excluded.told
    WHERE a.below_nano <> excluded.below_nano;
  IF FOUND AND balance.credit_limit + balance.posted < below THEN
    PERFORM patchbay.tell_low_balance(
      of_account, balance.credit_limit + balance.posted, balance.credit_limit, below);
  END IF;
  RETURN true;
END
$$;
SELECT patchbay.make_definer('patchbay.set_balance_alert(uuid, bigint)', 'patchbay_system');

-- Running streams -------------------------------------------------------------------------------------------------

GRANT SELECT (id, fenced_at) ON instance TO patchbay_definer;
CREATE POLICY running_streams ON instance FOR SELECT TO patchbay_definer USING (true);

-- The one rule for what a quota of streams counts: requests of processes that still run.
CREATE FUNCTION patchbay.running_streams(of_tenant uuid) RETURNS bigint
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
  RETURN (SELECT count(*) FROM public.inference_request r JOIN public.instance i ON i.id = r.instance_id
          WHERE r.tenant_id = of_tenant AND i.fenced_at IS NULL);
GRANT EXECUTE ON FUNCTION patchbay.running_streams(uuid) TO patchbay_system, patchbay_definer;

-- The same for the current tenant, who sees no processes.
CREATE FUNCTION patchbay.own_running_streams() RETURNS bigint
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  RETURN patchbay.running_streams(patchbay.current_tenant());
SELECT patchbay.make_definer('patchbay.own_running_streams()', 'patchbay_app');

-- As before, by that rule.
CREATE OR REPLACE FUNCTION patchbay.charge_quota(charges jsonb, refunds jsonb, defaults jsonb)
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
      streams := patchbay.running_streams(item.tenant_id) - item.charged;
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

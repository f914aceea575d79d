-- Charging: what a request may cost is held when it is admitted, and what it did cost is captured when it is settled.
-- Budgets bound what a tenant, a key or an adapter may cost in a day or a month.
--
-- The admission carries everything that its price follows from, so that whoever settles it, this process or a stranger
-- after a crash, computes the same. Once it is settled the same is a fact: one row for each part of the price.

-- Admissions ------------------------------------------------------------------------------------------------------

-- Prices are pinned by part, so one version for a whole request has no meaning.
ALTER TABLE inference_request DROP COLUMN price_version, DROP COLUMN split_version;
-- { currency, pin, splits, accounts }, as src/billing/pricing.ts reads and writes it. No role of a tenant may read it: it
-- names who earns. Null for what was admitted before there were prices.
ALTER TABLE inference_request ADD COLUMN pricing jsonb CHECK (jsonb_typeof(pricing) = 'object');

-- Facts -----------------------------------------------------------------------------------------------------------

ALTER TABLE usage_record DROP COLUMN price_version, DROP COLUMN split_version;
ALTER TABLE usage_record
  -- What the request cost; the sum of its charges. Null for what was admitted before there were prices.
  ADD COLUMN amount_nano bigint CHECK (amount_nano >= 0),
  ADD COLUMN currency    text   CHECK (currency ~ '^[A-Z]{3,8}$'),
  ADD CONSTRAINT usage_record_amount_in_currency CHECK ((amount_nano IS NULL) = (currency IS NULL)),
  -- What costs something was held before.
  ADD CONSTRAINT usage_record_amount_was_held CHECK (coalesce(amount_nano, 0) = 0 OR hold_id IS NOT NULL);

-- What an owner checks their earnings by: the part's royalty, and the platform's fee on it.
ALTER TABLE usage_share DROP COLUMN price_version, DROP COLUMN split_version;
ALTER TABLE usage_share
  ADD COLUMN royalty_version uuid,
  ADD COLUMN split_version   uuid,
  ADD COLUMN currency        text,
  ADD COLUMN royalty_nano    bigint CHECK (royalty_nano >= 0),
  ADD COLUMN fee_nano        bigint CHECK (fee_nano BETWEEN 0 AND royalty_nano);
GRANT SELECT (royalty_version, split_version, currency, royalty_nano, fee_nano) ON usage_share TO patchbay_app;

-- The price of a request by part, as docs/concepts/pricing.md computes it: a part is an adapter version of the request,
-- or the plain backbone. Together with the versions that it names, a row can be recomputed to the last nano-unit.
CREATE TABLE usage_charge (
  request_id         uuid     NOT NULL,
  part               smallint NOT NULL CHECK (part >= 0),
  tenant_id          uuid     NOT NULL,
  key_id             uuid     NOT NULL,
  backbone_digest    bytea    NOT NULL CHECK (octet_length(backbone_digest) = 32),
  -- Null for the plain backbone.
  adapter_version_id uuid,
  adapter_id         uuid,
  owner_tenant_id    uuid,
  rank               integer  CHECK (rank > 0),
  priority_class     text     NOT NULL CHECK (priority_class IN ('INTERACTIVE', 'STANDARD', 'BATCH')),
  share_numerator    numeric  NOT NULL CHECK (share_numerator > 0 AND scale(share_numerator) = 0),
  share_denominator  numeric  NOT NULL CHECK (scale(share_denominator) = 0),
  price_version      uuid     NOT NULL,
  royalty_version    uuid,
  split_version      uuid,
  currency           text     NOT NULL CHECK (currency ~ '^[A-Z]{3,8}$'),
  -- Tokens of the request, not of the part: a blend computes with each of its adapters in full.
  input_tokens       integer  NOT NULL CHECK (input_tokens >= 0),
  cached_tokens      integer  NOT NULL CHECK (cached_tokens >= 0),
  output_tokens      integer  NOT NULL CHECK (output_tokens >= 0),
  input_nano         bigint   NOT NULL CHECK (input_nano >= 0),
  cached_nano        bigint   NOT NULL CHECK (cached_nano >= 0),
  output_nano        bigint   NOT NULL CHECK (output_nano >= 0),
  rank_nano          bigint   NOT NULL CHECK (rank_nano >= 0),
  royalty_nano       bigint   NOT NULL CHECK (royalty_nano >= 0),
  -- The platform's part of the royalty.
  fee_nano           bigint   NOT NULL CHECK (fee_nano BETWEEN 0 AND royalty_nano),
  total_nano         bigint   NOT NULL,
  ended_at           timestamptz NOT NULL,
  PRIMARY KEY (request_id, part),
  CHECK (share_numerator <= share_denominator),
  CHECK (num_nulls(adapter_version_id, adapter_id, owner_tenant_id, rank) IN (0, 4)),
  CONSTRAINT usage_charge_adds_up
    CHECK (total_nano = input_nano + cached_nano + output_nano + rank_nano + royalty_nano)
) PARTITION BY RANGE (request_id);
CREATE INDEX usage_charge_tenant_id_ended_at_idx ON usage_charge (tenant_id, ended_at);
SELECT patchbay.protect_tenant_table('usage_charge', 'SELECT', 'SELECT, INSERT');
SELECT patchbay.make_append_only('usage_charge');
CREATE TABLE usage_charge_default PARTITION OF usage_charge DEFAULT;
SELECT patchbay.protect_partition('usage_charge_default');

-- What requests cost, beside what they used. For an owner: the royalties of their adapters before the fee.
ALTER TABLE usage_rollup ADD COLUMN amount_nano numeric NOT NULL DEFAULT 0 CHECK (scale(amount_nano) = 0);
GRANT UPDATE (amount_nano) ON usage_rollup TO patchbay_system;

-- Budgets ---------------------------------------------------------------------------------------------------------

CREATE TABLE budget (
  id          uuid PRIMARY KEY,
  tenant_id   uuid        NOT NULL REFERENCES tenant (id) ON DELETE RESTRICT ON UPDATE RESTRICT,
  scope       text        NOT NULL CHECK (scope IN ('TENANT', 'KEY', 'ADAPTER')),
  -- The key or the adapter; the nil uuid for the whole tenant, so that one index keeps them apart.
  subject_id  uuid        NOT NULL,
  period      text        NOT NULL CHECK (period IN ('DAY', 'MONTH')),
  currency    text        NOT NULL CHECK (currency ~ '^[A-Z]{3,8}$'),
  limit_nano  bigint      NOT NULL CHECK (limit_nano BETWEEN 0 AND 1000000000000000000),
  -- At which parts of the limit, in parts per million, an event is written.
  alerts_ppm  integer[]   NOT NULL DEFAULT '{}' CHECK (cardinality(alerts_ppm) <= 10 AND array_position(alerts_ppm, NULL) IS NULL),
  created_at  timestamptz(3) NOT NULL,
  updated_at  timestamptz(3) NOT NULL,
  CONSTRAINT budget_subject CHECK ((scope = 'TENANT') = (subject_id = '00000000-0000-0000-0000-000000000000'))
);
CREATE UNIQUE INDEX budget_tenant_id_scope_subject_id_period_key ON budget (tenant_id, scope, subject_id, period);
SELECT patchbay.protect_tenant_table(
  'budget', 'SELECT, INSERT, UPDATE (limit_nano, alerts_ppm, updated_at), DELETE', 'SELECT');

-- What of a budget is taken in one period (UTC), which begins at `start`. A request counts in the period in which it was
-- admitted. Rows outlive their budget, as a record of what was spent.
CREATE TABLE budget_period (
  budget_id  uuid        NOT NULL,
  start      timestamptz NOT NULL,
  tenant_id  uuid        NOT NULL,
  spent_nano bigint      NOT NULL DEFAULT 0 CHECK (spent_nano >= 0),
  held_nano  bigint      NOT NULL DEFAULT 0 CHECK (held_nano >= 0),
  -- The highest part of the limit that was told of.
  alerted_ppm integer    NOT NULL DEFAULT 0,
  PRIMARY KEY (budget_id, start)
) WITH (fillfactor = 50);
CREATE INDEX budget_period_tenant_id_start_idx ON budget_period (tenant_id, start);
SELECT patchbay.protect_tenant_table(
  'budget_period', 'SELECT', 'SELECT, INSERT, UPDATE (spent_nano, held_nano, alerted_ppm)');

-- What an unsettled request holds of which budget.
CREATE TABLE budget_hold (
  request_id  uuid        NOT NULL,
  budget_id   uuid        NOT NULL,
  start       timestamptz NOT NULL,
  tenant_id   uuid        NOT NULL,
  adapter_id  uuid,
  amount_nano bigint      NOT NULL CHECK (amount_nano >= 0),
  PRIMARY KEY (request_id, budget_id)
);
SELECT patchbay.protect_tenant_table('budget_hold', NULL, 'SELECT, INSERT, DELETE');

-- Charges budgets with what was admitted, and turns what is held of ended requests into what they spent. Returns the
-- admissions that do not fit, each with the budget that lacks most; those are charged nowhere.
--
-- charges: [{ord, id, tenant_id, key_id, amount, adapters}], endings: [{id, amount, adapters}]; amounts are decimal text,
-- adapters an object of amounts by adapter. No period goes beyond its limit, whoever races: its row is the lock, and
-- everybody takes the rows in the order of budgets.
CREATE FUNCTION patchbay.charge_budgets(charges jsonb, endings jsonb) RETURNS TABLE (
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
    RETURNING p.budget_id, p.start, p.tenant_id, p.spent_nano, p.alerted_ppm
  LOOP
    SELECT b.*, (
      SELECT max(a.ppm) FROM unnest(b.alerts_ppm) AS a(ppm)
      WHERE a.ppm > ended.alerted_ppm AND ended.spent_nano::numeric * 1000000 >= b.limit_nano::numeric * a.ppm
    ) AS reached_ppm
    INTO lacking FROM public.budget b WHERE b.id = ended.budget_id;
    CONTINUE WHEN lacking.reached_ppm IS NULL;
    UPDATE public.budget_period p SET alerted_ppm = lacking.reached_ppm
    WHERE p.budget_id = ended.budget_id AND p.start = ended.start;
    PERFORM patchbay.emit_event(ended.tenant_id, 'budget.threshold', ended.budget_id, jsonb_build_object(
      'scope', lacking.scope, 'subjectId', nullif(lacking.subject_id, '00000000-0000-0000-0000-000000000000'),
      'period', lacking.period, 'start', ended.start, 'currency', lacking.currency,
      'limitNano', lacking.limit_nano::text, 'spentNano', ended.spent_nano::text, 'thresholdPpm', lacking.reached_ppm));
  END LOOP;

  FOR charge IN
    SELECT c.* FROM jsonb_to_recordset(charges) AS c(
      ord integer, id uuid, tenant_id uuid, key_id uuid, amount bigint, adapters jsonb)
    ORDER BY c.ord
  LOOP
    SELECT a.* INTO lacking
    FROM (
      SELECT b.id, b.scope, b.subject_id, b.period, p.start, b.limit_nano, p.spent_nano, p.held_nano,
             CASE b.scope WHEN 'ADAPTER' THEN (charge.adapters ->> b.subject_id::text)::bigint
                          ELSE charge.amount END AS amount
      FROM public.budget b
      JOIN public.budget_period p ON p.budget_id = b.id
        AND p.start = CASE b.period WHEN 'DAY' THEN today ELSE month END
      WHERE b.tenant_id = charge.tenant_id AND b.id = ANY (locked)
        AND CASE b.scope WHEN 'TENANT' THEN true WHEN 'KEY' THEN b.subject_id = charge.key_id
                         ELSE charge.adapters ? b.subject_id::text END
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
      CONTINUE;
    END IF;
    WITH taken AS (
      INSERT INTO public.budget_hold (request_id, budget_id, start, tenant_id, adapter_id, amount_nano)
      SELECT charge.id, b.id, CASE b.period WHEN 'DAY' THEN today ELSE month END, b.tenant_id,
             CASE b.scope WHEN 'ADAPTER' THEN b.subject_id END,
             CASE b.scope WHEN 'ADAPTER' THEN (charge.adapters ->> b.subject_id::text)::bigint ELSE charge.amount END
      FROM public.budget b
      -- A budget that was made after the locks were taken counts from the next request on.
      WHERE b.tenant_id = charge.tenant_id AND b.id = ANY (locked)
        AND CASE b.scope WHEN 'TENANT' THEN true WHEN 'KEY' THEN b.subject_id = charge.key_id
                         ELSE charge.adapters ? b.subject_id::text END
      RETURNING budget_id, start, amount_nano
    )
    UPDATE public.budget_period p SET held_nano = p.held_nano + t.amount_nano
    FROM taken t WHERE p.budget_id = t.budget_id AND p.start = t.start;
  END LOOP;
END
$$;
GRANT EXECUTE ON FUNCTION patchbay.charge_budgets(jsonb, jsonb) TO patchbay_system;

-- Partition maintenance ---------------------------------------------------------------------------------------------

-- As before, and the charges with them.
CREATE OR REPLACE FUNCTION patchbay.ensure_usage_partitions(first timestamptz, months integer) RETURNS integer
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
      VALUES ('usage_record', 'id', true), ('usage_share', 'request_id', true), ('usage_salt', 'request_id', false),
             ('usage_charge', 'request_id', true)
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

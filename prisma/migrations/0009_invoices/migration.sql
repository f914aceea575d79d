-- Bills: terms of a period, invoices, credit notes, and the numbers that both get without gaps.
--
-- An invoice is a document: its canonical bytes and their SHA-256 are stored when its period is closed, and never change.
-- What changes is its state, and only forwards. Numbers are given by triggers, so that no program can choose one; the row
-- that counts them is locked until the transaction ends, so that a rollback gives its number to the next one.
-- How it is used: docs/concepts/invoicing.md.

-- Terms ------------------------------------------------------------------------------------------------------------
--
-- What depends on a whole period: free allowance, volume tiers, minimum charge. Versions, as prices are: added, never
-- changed. The platform's own rows are the default; what is in effect at the end of a period holds for all of it.

CREATE FUNCTION patchbay.is_ascending(numbers bigint[]) RETURNS boolean
  LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(bool_and(n.before < n.number), true)
  FROM (SELECT u.number, lag(u.number) OVER (ORDER BY u.place) AS before
        FROM unnest(numbers) WITH ORDINALITY AS u(number, place)) n
$$;
GRANT EXECUTE ON FUNCTION patchbay.is_ascending(bigint[]) TO patchbay_system;

CREATE TABLE billing_terms (
  id                uuid PRIMARY KEY,
  tenant_id         uuid           NOT NULL REFERENCES tenant (id) ON DELETE RESTRICT ON UPDATE RESTRICT,
  -- From here on the tenant has no terms of its own and the default holds again.
  inherits          boolean        NOT NULL DEFAULT false,
  currency          text           NOT NULL,
  -- So much of a period's charges is free.
  free_nano         bigint,
  -- At least so much is charged for a period.
  minimum_nano      bigint,
  -- From which amount of the charges that are left on which discount is given, in parts per million.
  tier_from_nano    bigint[],
  tier_discount_ppm bigint[],
  effective_from    timestamptz(3) NOT NULL,
  created_at        timestamptz(3) NOT NULL,
  CONSTRAINT billing_terms_default_inherits
    CHECK (NOT inherits OR tenant_id <> '00000000-0000-7000-8000-000000000000'),
  CONSTRAINT billing_terms_complete CHECK (
    num_nulls(free_nano, minimum_nano, tier_from_nano, tier_discount_ppm) = CASE WHEN inherits THEN 4 ELSE 0 END),
  CONSTRAINT billing_terms_range CHECK (
    free_nano BETWEEN 0 AND 1000000000000000000 AND minimum_nano BETWEEN 0 AND 1000000000000000000),
  CONSTRAINT billing_terms_tiers CHECK (
    cardinality(tier_from_nano) <= 20 AND cardinality(tier_discount_ppm) = cardinality(tier_from_nano)
    AND array_position(tier_from_nano, NULL) IS NULL AND array_position(tier_discount_ppm, NULL) IS NULL),
  CONSTRAINT billing_terms_tier_range CHECK (
    0 <= ALL (tier_from_nano) AND 1000000000000000000 >= ALL (tier_from_nano)
    AND 0 <= ALL (tier_discount_ppm) AND 1000000 >= ALL (tier_discount_ppm)),
  CONSTRAINT billing_terms_tiers_ascend CHECK (patchbay.is_ascending(tier_from_nano)),
  CONSTRAINT billing_terms_currency_form CHECK (currency ~ '^[A-Z]{3,8}$'),
  CONSTRAINT billing_terms_not_backdated CHECK (effective_from >= created_at AND isfinite(effective_from))
);
CREATE UNIQUE INDEX billing_terms_tenant_id_effective_from_key ON billing_terms (tenant_id, effective_from);
SELECT patchbay.protect_tenant_table('billing_terms', 'SELECT', 'SELECT, INSERT');
SELECT patchbay.make_append_only('billing_terms');
-- The default holds for every tenant without terms of its own, so every tenant may read it.
CREATE POLICY default_terms ON billing_terms FOR SELECT TO patchbay_app
  USING (tenant_id = '00000000-0000-7000-8000-000000000000' AND (SELECT patchbay.current_tenant()) IS NOT NULL);

-- Invoices ---------------------------------------------------------------------------------------------------------

CREATE TABLE invoice (
  id                uuid PRIMARY KEY,
  tenant_id         uuid           NOT NULL REFERENCES tenant (id) ON DELETE RESTRICT ON UPDATE RESTRICT,
  period_start      timestamptz(3) NOT NULL,
  period_end        timestamptz(3) NOT NULL,
  currency          text           NOT NULL CHECK (currency ~ '^[A-Z]{3,8}$'),
  -- How the customer, and what the lines name, was called when the period was closed.
  customer_name     text           NOT NULL,
  names             jsonb          NOT NULL CHECK (jsonb_typeof(names) = 'object'),
  -- The canonical document, and what it comes to.
  content           text           NOT NULL,
  content_sha256    bytea          NOT NULL,
  charges_nano      numeric(38, 0) NOT NULL CHECK (charges_nano >= 0),
  total_nano        numeric(38, 0) NOT NULL CHECK (total_nano >= 0),
  state             text           NOT NULL DEFAULT 'DRAFT' CHECK (state IN ('DRAFT', 'FINALISED', 'PAID', 'VOID')),
  number_year       integer,
  number_serial     integer,
  number            text,
  -- How it was paid, in the operator's words.
  payment_reference text CHECK (char_length(payment_reference) BETWEEN 1 AND 200),
  created_at        timestamptz(3) NOT NULL,
  finalised_at      timestamptz(3),
  paid_at           timestamptz(3),
  voided_at         timestamptz(3),
  CONSTRAINT invoice_of_customer CHECK (tenant_id <> '00000000-0000-7000-8000-000000000000'),
  CONSTRAINT invoice_period_is_month CHECK (
    period_start = date_trunc('month', period_start, 'UTC')
    AND period_end = date_trunc('month', period_start + interval '768 hours', 'UTC')),
  CONSTRAINT invoice_of_past_period CHECK (created_at >= period_end),
  CONSTRAINT invoice_content_hash CHECK (content_sha256 = sha256(convert_to(content, 'UTF8'))),
  CONSTRAINT invoice_numbered CHECK (
    num_nulls(number_year, number_serial, number, finalised_at) = CASE state WHEN 'DRAFT' THEN 4 ELSE 0 END),
  CONSTRAINT invoice_paid CHECK ((state = 'PAID') = (paid_at IS NOT NULL)),
  CONSTRAINT invoice_payment CHECK (payment_reference IS NULL OR state = 'PAID'),
  CONSTRAINT invoice_voided CHECK ((state = 'VOID') = (voided_at IS NOT NULL))
);
CREATE UNIQUE INDEX invoice_tenant_id_id_key ON invoice (tenant_id, id);
-- A period is closed once.
CREATE UNIQUE INDEX invoice_tenant_id_period_start_key ON invoice (tenant_id, period_start);
CREATE UNIQUE INDEX invoice_number_year_number_serial_key ON invoice (number_year, number_serial);
CREATE INDEX invoice_period_end_idx ON invoice (period_end);
SELECT patchbay.protect_tenant_table(
  'invoice', 'SELECT', 'SELECT, INSERT, UPDATE (state, finalised_at, paid_at, voided_at, payment_reference)');
CREATE TRIGGER no_removal BEFORE DELETE ON invoice FOR EACH ROW EXECUTE FUNCTION patchbay.refuse_change();
CREATE TRIGGER no_truncation BEFORE TRUNCATE ON invoice EXECUTE FUNCTION patchbay.refuse_change();

-- A minimum charge that did not fit into the customer's balance when the period was closed. The row exists exactly as
-- long as the charge is not posted; deleting it decides who posts it.
CREATE TABLE invoice_open_charge (
  invoice_id  uuid PRIMARY KEY,
  tenant_id   uuid           NOT NULL,
  currency    text           NOT NULL,
  amount_nano bigint         NOT NULL CHECK (amount_nano BETWEEN 1 AND 1000000000000000000),
  created_at  timestamptz(3) NOT NULL,
  CONSTRAINT invoice_open_charge_tenant_id_invoice_id_fkey FOREIGN KEY (tenant_id, invoice_id)
    REFERENCES invoice (tenant_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT
);
SELECT patchbay.protect_tenant_table('invoice_open_charge', 'SELECT', 'SELECT, INSERT, DELETE');
CREATE TRIGGER append_only BEFORE UPDATE ON invoice_open_charge
  FOR EACH ROW EXECUTE FUNCTION patchbay.refuse_change();

CREATE TABLE credit_note (
  id            uuid PRIMARY KEY,
  tenant_id     uuid           NOT NULL,
  invoice_id    uuid           NOT NULL,
  currency      text           NOT NULL,
  amount_nano   bigint         NOT NULL CHECK (amount_nano BETWEEN 1 AND 1000000000000000000),
  reason        text           NOT NULL CHECK (char_length(reason) BETWEEN 1 AND 1000),
  number_year   integer        NOT NULL,
  number_serial integer        NOT NULL,
  number        text           NOT NULL,
  created_at    timestamptz(3) NOT NULL,
  CONSTRAINT credit_note_tenant_id_invoice_id_fkey FOREIGN KEY (tenant_id, invoice_id)
    REFERENCES invoice (tenant_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT
);
CREATE INDEX credit_note_tenant_id_invoice_id_idx ON credit_note (tenant_id, invoice_id);
CREATE UNIQUE INDEX credit_note_number_year_number_serial_key ON credit_note (number_year, number_serial);
SELECT patchbay.protect_tenant_table('credit_note', 'SELECT', 'SELECT, INSERT');
SELECT patchbay.make_append_only('credit_note');

-- Numbers ----------------------------------------------------------------------------------------------------------

-- The last number of each kind and year. It belongs to the installation, and the triggers below alone write it.
CREATE TABLE number_series (
  kind text    NOT NULL CHECK (kind IN ('INVOICE', 'CREDIT_NOTE')),
  year integer NOT NULL CHECK (year BETWEEN 2000 AND 9999),
  last integer NOT NULL CHECK (last > 0),
  PRIMARY KEY (kind, year)
);
REVOKE ALL ON number_series FROM PUBLIC;
ALTER TABLE number_series ENABLE ROW LEVEL SECURITY;
ALTER TABLE number_series FORCE ROW LEVEL SECURITY;
CREATE POLICY system_access ON number_series FOR SELECT TO patchbay_system USING (true);
CREATE POLICY definer_access ON number_series TO patchbay_definer USING (true) WITH CHECK (true);
GRANT SELECT ON number_series TO patchbay_system;
GRANT SELECT, INSERT, UPDATE (last) ON number_series TO patchbay_definer;

-- The next number of its kind and year. Whoever comes second waits for the first to commit, and gets the one after it,
-- or to roll back, and gets the same.
CREATE FUNCTION patchbay.next_number(of_kind text, of_year integer) RETURNS integer
  LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO public.number_series AS s (kind, year, last) VALUES (of_kind, of_year, 1)
  ON CONFLICT (kind, year) DO UPDATE SET last = s.last + 1
  RETURNING last
$$;
GRANT EXECUTE ON FUNCTION patchbay.next_number(text, integer) TO patchbay_definer;

CREATE FUNCTION patchbay.document_number(prefix text, year integer, serial integer) RETURNS text
  LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
  AS $$ SELECT format('%s-%s-%s', prefix, year, lpad(serial::text, greatest(6, length(serial::text)), '0')) $$;
GRANT EXECUTE ON FUNCTION patchbay.document_number(text, integer, integer) TO patchbay_definer;

-- Rules ------------------------------------------------------------------------------------------------------------
--
-- Triggers are made before their functions are handed over: after that an owner who is no superuser may not name them.

CREATE POLICY definer_access ON invoice TO patchbay_definer USING (true) WITH CHECK (true);
CREATE POLICY definer_lookup ON credit_note FOR SELECT TO patchbay_definer USING (true);
CREATE POLICY definer_lookup ON invoice_open_charge FOR SELECT TO patchbay_definer USING (true);
-- The right to update is what the lock of a row needs.
GRANT SELECT, UPDATE (state) ON invoice TO patchbay_definer;
GRANT SELECT ON credit_note, invoice_open_charge TO patchbay_definer;

-- Terms and the closing of periods exclude each other: terms take this lock alone, closings share it. So terms that
-- begin before the end of a closed period are refused, whoever comes first.
CREATE FUNCTION patchbay.guard_billing_terms() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  known text;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('patchbay.billing_terms', 0));
  SELECT p.currency INTO known FROM public.price_version p LIMIT 1;
  IF known IS DISTINCT FROM NEW.currency THEN
    RAISE EXCEPTION 'billing_terms: the currency of this installation is %', coalesce(known, 'not decided')
      USING ERRCODE = '22023';
  END IF;
  IF EXISTS (
    SELECT FROM public.invoice i
    WHERE i.period_end > NEW.effective_from
      AND (i.tenant_id = NEW.tenant_id OR NEW.tenant_id = '00000000-0000-7000-8000-000000000000'))
  THEN
    RAISE EXCEPTION 'billing_terms: a period that they would change is closed'
      USING ERRCODE = '23514', CONSTRAINT = 'billing_terms_after_closed_periods';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER guard_billing_terms BEFORE INSERT ON billing_terms
  FOR EACH ROW EXECUTE FUNCTION patchbay.guard_billing_terms();

-- DRAFT → FINALISED → PAID or VOID. Everything else stays as it was written, and finalising gives the number.
CREATE FUNCTION patchbay.guard_invoice() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  changing CONSTANT text[] := ARRAY['state', 'number_year', 'number_serial', 'number', 'finalised_at', 'paid_at',
    'voided_at', 'payment_reference'];
BEGIN
  IF TG_OP = 'INSERT' THEN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('patchbay.billing_terms', 0));
    IF NEW.state <> 'DRAFT' THEN
      RAISE EXCEPTION 'invoice: it begins as a draft' USING ERRCODE = '23514', CONSTRAINT = 'invoice_state_order';
    END IF;
    RETURN NEW;
  END IF;
  IF (to_jsonb(NEW) - changing) IS DISTINCT FROM (to_jsonb(OLD) - changing) THEN
    RAISE EXCEPTION 'invoice: what it says never changes' USING ERRCODE = '42501';
  END IF;
  IF (OLD.state, NEW.state) NOT IN (('DRAFT', 'FINALISED'), ('FINALISED', 'PAID'), ('FINALISED', 'VOID')) THEN
    RAISE EXCEPTION 'invoice: % does not become %', OLD.state, NEW.state
      USING ERRCODE = '23514', CONSTRAINT = 'invoice_state_order';
  END IF;
  IF NEW.state = 'FINALISED' THEN
    NEW.number_year := extract(year FROM NEW.finalised_at AT TIME ZONE 'UTC');
    NEW.number_serial := patchbay.next_number('INVOICE', NEW.number_year);
    NEW.number := patchbay.document_number('INV', NEW.number_year, NEW.number_serial);
  ELSIF (NEW.number_year, NEW.number_serial, NEW.number, NEW.finalised_at)
        IS DISTINCT FROM (OLD.number_year, OLD.number_serial, OLD.number, OLD.finalised_at)
  THEN
    RAISE EXCEPTION 'invoice: its number never changes' USING ERRCODE = '42501';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER guard_invoice BEFORE INSERT OR UPDATE ON invoice
  FOR EACH ROW EXECUTE FUNCTION patchbay.guard_invoice();
SELECT patchbay.make_definer('patchbay.guard_invoice()', VARIADIC ARRAY[]::text[]);

CREATE FUNCTION patchbay.emit_invoice_state() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM patchbay.emit_event(
    NEW.tenant_id,
    CASE NEW.state WHEN 'FINALISED' THEN 'invoice.finalised' WHEN 'PAID' THEN 'invoice.paid' ELSE 'invoice.voided' END,
    NEW.id,
    jsonb_build_object(
      'number', NEW.number, 'period', to_char(NEW.period_start AT TIME ZONE 'UTC', 'YYYY-MM'),
      'currency', NEW.currency, 'totalNano', NEW.total_nano::text, 'sha256', encode(NEW.content_sha256, 'hex')));
  RETURN NULL;
END
$$;
CREATE TRIGGER emit_state AFTER UPDATE ON invoice
  FOR EACH ROW WHEN (NEW.state IS DISTINCT FROM OLD.state) EXECUTE FUNCTION patchbay.emit_invoice_state();
SELECT patchbay.make_definer('patchbay.emit_invoice_state()', VARIADIC ARRAY[]::text[]);

-- A credit note is about a final invoice, and all of an invoice's together give back no more than was charged for it:
-- its total without a minimum charge that is still open. The lock of the invoice's row makes them come one by one.
CREATE FUNCTION patchbay.guard_credit_note() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  bill     public.invoice;
  credited numeric;
  waiting  numeric;
BEGIN
  SELECT * INTO bill FROM public.invoice i WHERE i.id = NEW.invoice_id AND i.tenant_id = NEW.tenant_id
  FOR NO KEY UPDATE;
  IF bill.id IS NULL OR bill.state NOT IN ('FINALISED', 'PAID') OR bill.currency <> NEW.currency THEN
    RAISE EXCEPTION 'credit_note: there is no final invoice that it could be about'
      USING ERRCODE = '23514', CONSTRAINT = 'credit_note_of_final_invoice';
  END IF;
  SELECT coalesce(sum(c.amount_nano), 0) INTO credited FROM public.credit_note c WHERE c.invoice_id = bill.id;
  SELECT coalesce(sum(o.amount_nano), 0) INTO waiting FROM public.invoice_open_charge o WHERE o.invoice_id = bill.id;
  IF credited + NEW.amount_nano > bill.total_nano - waiting THEN
    RAISE EXCEPTION 'credit_note: the invoice has % left', bill.total_nano - waiting - credited
      USING ERRCODE = '23514', CONSTRAINT = 'credit_note_within_invoice';
  END IF;
  NEW.number_year := extract(year FROM NEW.created_at AT TIME ZONE 'UTC');
  NEW.number_serial := patchbay.next_number('CREDIT_NOTE', NEW.number_year);
  NEW.number := patchbay.document_number('CN', NEW.number_year, NEW.number_serial);
  PERFORM patchbay.emit_event(NEW.tenant_id, 'credit_note.created', NEW.id, jsonb_build_object(
    'number', NEW.number, 'invoiceId', bill.id, 'invoiceNumber', bill.number, 'currency', NEW.currency,
    'amountNano', NEW.amount_nano::text));
  RETURN NEW;
END
$$;
CREATE TRIGGER guard_credit_note BEFORE INSERT ON credit_note
  FOR EACH ROW EXECUTE FUNCTION patchbay.guard_credit_note();
SELECT patchbay.make_definer('patchbay.guard_credit_note()', VARIADIC ARRAY[]::text[]);

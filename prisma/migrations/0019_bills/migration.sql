-- Bills that say what is due and how it was paid, that can be taken back and written anew; payouts that come back; and a
-- second person for whatever releases the money of a large batch.
--
-- Functions that were handed to patchbay_definer are replaced as that role, so that they stay its own.

-- Bills ------------------------------------------------------------------------------------------------------------

ALTER TABLE invoice
  -- The how-manieth bill of its month: those before it are void.
  ADD COLUMN revision integer NOT NULL DEFAULT 1 CONSTRAINT invoice_revision CHECK (revision > 0),
  -- What the terms change of the charges: the parts of the total.
  ADD COLUMN reduction_nano numeric(38, 0),
  ADD COLUMN minimum_nano numeric(38, 0),
  -- What of the total the balance had paid when the month ended. The rest is due.
  ADD COLUMN prepaid_nano numeric(38, 0),
  -- Who writes the bill, as it was set when the month was closed.
  ADD COLUMN issuer text CONSTRAINT invoice_issuer CHECK (char_length(issuer) BETWEEN 1 AND 1000),
  -- The transfer that brought what was due.
  ADD COLUMN payment_transfer_id uuid;

-- Bills that are there already get their parts from their documents, and what was prepaid from the ledger. An owner who
-- is no superuser sees the rows only while row-level security is not forced on it.
ALTER TABLE invoice NO FORCE ROW LEVEL SECURITY;
ALTER TABLE ledger_account NO FORCE ROW LEVEL SECURITY;
ALTER TABLE ledger_posting NO FORCE ROW LEVEL SECURITY;
ALTER TABLE invoice DISABLE TRIGGER guard_invoice;
UPDATE invoice i SET
  reduction_nano = d.reduction,
  minimum_nano = d.minimum,
  prepaid_nano = least(i.total_nano, greatest(0, i.charges_nano + coalesce((
    SELECT sum(p.amount) FROM ledger_account a JOIN ledger_posting p ON p.account_id = a.id
    WHERE a.tenant_id = i.tenant_id AND a.kind = 'CUSTOMER' AND a.asset = i.currency AND p.created_at < i.period_end), 0)))
FROM (
  SELECT o.id, coalesce(-sum((a ->> 'amountNano')::numeric) FILTER (WHERE a ->> 'kind' <> 'MINIMUM'), 0) AS reduction,
         coalesce(sum((a ->> 'amountNano')::numeric) FILTER (WHERE a ->> 'kind' = 'MINIMUM'), 0) AS minimum
  FROM invoice o LEFT JOIN LATERAL jsonb_array_elements(o.content::jsonb -> 'adjustments') a ON true GROUP BY o.id) d
WHERE d.id = i.id;
ALTER TABLE invoice ENABLE TRIGGER guard_invoice;
ALTER TABLE invoice FORCE ROW LEVEL SECURITY;
ALTER TABLE ledger_account FORCE ROW LEVEL SECURITY;
ALTER TABLE ledger_posting FORCE ROW LEVEL SECURITY;

ALTER TABLE invoice
  ALTER COLUMN reduction_nano SET NOT NULL,
  ALTER COLUMN minimum_nano SET NOT NULL,
  ALTER COLUMN prepaid_nano SET NOT NULL,
  ADD CONSTRAINT invoice_parts CHECK (total_nano = charges_nano - reduction_nano + minimum_nano),
  ADD CONSTRAINT invoice_reduction CHECK (reduction_nano BETWEEN 0 AND charges_nano),
  ADD CONSTRAINT invoice_minimum CHECK (minimum_nano >= 0),
  ADD CONSTRAINT invoice_prepaid CHECK (prepaid_nano BETWEEN 0 AND total_nano),
  -- A bill with nothing due is paid when it is final; made void, it keeps how it was.
  DROP CONSTRAINT invoice_paid,
  ADD CONSTRAINT invoice_paid CHECK (CASE state WHEN 'PAID' THEN paid_at IS NOT NULL WHEN 'VOID' THEN true ELSE paid_at IS NULL END),
  DROP CONSTRAINT invoice_payment,
  ADD CONSTRAINT invoice_payment CHECK (payment_reference IS NULL OR paid_at IS NOT NULL),
  ADD CONSTRAINT invoice_payment_transfer CHECK (payment_transfer_id IS NULL OR state = 'PAID');

-- A month has one bill that counts; void ones keep their numbers and their place.
DROP INDEX invoice_tenant_id_period_start_key;
CREATE UNIQUE INDEX invoice_tenant_id_period_start_key ON invoice (tenant_id, period_start) WHERE state <> 'VOID';
CREATE UNIQUE INDEX invoice_tenant_id_period_start_revision_key ON invoice (tenant_id, period_start, revision);
-- A payment pays one bill.
CREATE UNIQUE INDEX invoice_payment_transfer_id_key ON invoice (payment_transfer_id);
GRANT UPDATE (payment_transfer_id) ON invoice TO patchbay_system;

-- Terms may begin in the past: they hold for whole months, and what is closed is guarded below.
ALTER TABLE billing_terms
  DROP CONSTRAINT billing_terms_not_backdated,
  ADD CONSTRAINT billing_terms_finite CHECK (isfinite(effective_from));

CREATE OR REPLACE FUNCTION patchbay.guard_billing_terms() RETURNS trigger
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
    WHERE i.period_end > NEW.effective_from AND i.state <> 'VOID'
      AND (i.tenant_id = NEW.tenant_id OR NEW.tenant_id = '00000000-0000-7000-8000-000000000000'))
  THEN
    RAISE EXCEPTION 'billing_terms: a period that they would change is closed'
      USING ERRCODE = '23514', CONSTRAINT = 'billing_terms_after_closed_periods';
  END IF;
  RETURN NEW;
END
$$;

-- The terms that hold for a month that ends then: the tenant's own, or the default.
CREATE POLICY definer_lookup ON billing_terms FOR SELECT TO patchbay_definer USING (true);
GRANT SELECT ON billing_terms TO patchbay_definer;
CREATE FUNCTION patchbay.terms_of_period(of_tenant uuid, period_end timestamptz) RETURNS uuid
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(
    (SELECT CASE WHEN t.inherits THEN NULL ELSE t.id END FROM public.billing_terms t
     WHERE t.tenant_id = of_tenant AND t.effective_from < period_end ORDER BY t.effective_from DESC LIMIT 1),
    (SELECT t.id FROM public.billing_terms t
     WHERE t.tenant_id = '00000000-0000-7000-8000-000000000000' AND t.effective_from < period_end
     ORDER BY t.effective_from DESC LIMIT 1))
$$;
GRANT EXECUTE ON FUNCTION patchbay.terms_of_period(uuid, timestamptz) TO patchbay_definer;

GRANT CREATE ON SCHEMA patchbay TO patchbay_definer;
SET LOCAL ROLE patchbay_definer;

-- DRAFT → FINALISED → PAID or VOID; PAID → VOID where nothing was paid in. Everything else stays as it was written.
CREATE OR REPLACE FUNCTION patchbay.guard_invoice() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  changing CONSTANT text[] := ARRAY['state', 'number_year', 'number_serial', 'number', 'finalised_at', 'paid_at',
    'voided_at', 'payment_reference', 'payment_transfer_id'];
  due numeric;
BEGIN
  IF TG_OP = 'INSERT' THEN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('patchbay.billing_terms', 0));
    IF NEW.state <> 'DRAFT' THEN
      RAISE EXCEPTION 'invoice: it begins as a draft' USING ERRCODE = '23514', CONSTRAINT = 'invoice_state_order';
    END IF;
    -- Terms that were set while the document was made are not in it.
    IF (NEW.content::jsonb #>> '{terms,id}') IS DISTINCT FROM
       patchbay.terms_of_period(NEW.tenant_id, NEW.period_end)::text
    THEN
      RAISE EXCEPTION 'invoice: its terms are not those of the period'
        USING ERRCODE = '23514', CONSTRAINT = 'invoice_terms_of_period';
    END IF;
    RETURN NEW;
  END IF;
  IF (to_jsonb(NEW) - changing) IS DISTINCT FROM (to_jsonb(OLD) - changing) THEN
    RAISE EXCEPTION 'invoice: what it says never changes' USING ERRCODE = '42501';
  END IF;
  IF (OLD.state, NEW.state)
     NOT IN (('DRAFT', 'FINALISED'), ('FINALISED', 'PAID'), ('FINALISED', 'VOID'), ('PAID', 'VOID'))
  THEN
    RAISE EXCEPTION 'invoice: % does not become %', OLD.state, NEW.state
      USING ERRCODE = '23514', CONSTRAINT = 'invoice_state_order';
  END IF;
  IF OLD.state = 'PAID' AND (NEW.paid_at, NEW.payment_reference, NEW.payment_transfer_id)
     IS DISTINCT FROM (OLD.paid_at, OLD.payment_reference, OLD.payment_transfer_id)
  THEN
    RAISE EXCEPTION 'invoice: how it was paid never changes' USING ERRCODE = '42501';
  END IF;
  IF NEW.state = 'PAID' THEN
    SELECT NEW.total_nano - NEW.prepaid_nano - coalesce(sum(c.amount_nano), 0) INTO due
    FROM public.credit_note c WHERE c.invoice_id = NEW.id;
    -- What is due comes with a transfer to the customer; what is above the largest transfer comes in several.
    IF due > 0 AND NOT EXISTS (
      SELECT FROM public.ledger_transfer t
      JOIN public.ledger_posting p ON p.transfer_id = t.id
      JOIN public.ledger_account a ON a.id = p.account_id
      WHERE t.id = NEW.payment_transfer_id AND t.kind = 'SINGLE' AND t.asset = NEW.currency
        AND (t.reference_type = 'top_up' OR (t.reference_type = 'invoice_payment' AND t.reference_id = NEW.id))
        AND a.kind = 'CUSTOMER' AND a.tenant_id = NEW.tenant_id AND p.amount >= least(due, 1000000000000000000))
    THEN
      RAISE EXCEPTION 'invoice: % are due, and nothing was paid in', due
        USING ERRCODE = '23514', CONSTRAINT = 'invoice_paid_in';
    END IF;
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

RESET ROLE;
REVOKE CREATE ON SCHEMA patchbay FROM patchbay_definer;

-- Payouts ----------------------------------------------------------------------------------------------------------

ALTER TABLE payout
  -- What the bank calls the payment with which the money came back, and the transfer that put it back.
  ADD COLUMN return_reference text,
  ADD COLUMN return_transfer_id uuid,
  -- Operators' keys: who said first that the money is free again, and who said so last.
  ADD COLUMN release_requested_by uuid CONSTRAINT payout_release_requested_by_fkey REFERENCES api_key (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  ADD COLUMN released_by uuid CONSTRAINT payout_released_by_fkey REFERENCES api_key (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  DROP CONSTRAINT payout_state,
  ADD CONSTRAINT payout_state
    CHECK (state IN ('PENDING', 'SENDING', 'PAID', 'FAILED', 'UNKNOWN', 'CANCELLED', 'RETURNED')),
  DROP CONSTRAINT payout_bank_reference,
  ADD CONSTRAINT payout_bank_reference CHECK (
    char_length(bank_reference) BETWEEN 1 AND 140 AND bank_reference !~ '[[:cntrl:]]'
    AND (bank_reference IS NULL OR state IN ('PAID', 'FAILED', 'UNKNOWN', 'RETURNED'))),
  DROP CONSTRAINT payout_paid_by,
  ADD CONSTRAINT payout_paid_by CHECK (state NOT IN ('PAID', 'RETURNED') OR bank_reference IS NOT NULL),
  ADD CONSTRAINT payout_return_reference CHECK (
    char_length(return_reference) BETWEEN 1 AND 140 AND return_reference !~ '[[:cntrl:]]'),
  ADD CONSTRAINT payout_is_returned CHECK (
    num_nonnulls(return_reference, return_transfer_id) = CASE state WHEN 'RETURNED' THEN 2 ELSE 0 END);
CREATE UNIQUE INDEX payout_return_transfer_id_key ON payout (return_transfer_id);
-- One payment of the bank is one payout, whatever became of it afterwards.
CREATE UNIQUE INDEX payout_bank_reference_key ON payout (bank_reference) WHERE state IN ('PAID', 'RETURNED');
GRANT UPDATE (return_reference, return_transfer_id, release_requested_by, released_by) ON payout TO patchbay_system;

ALTER TABLE payout_result
  DROP CONSTRAINT payout_result_state,
  ADD CONSTRAINT payout_result_state CHECK (state IN ('PAID', 'FAILED', 'UNKNOWN', 'RETURNED'));

-- Who was the first to say something that frees money of a batch for which one person is not enough: the hash of a file,
-- or of what was found out of one payout.
CREATE TABLE payout_release (
  content_sha256 bytea          NOT NULL,
  requested_by   uuid           NOT NULL,
  created_at     timestamptz(3) NOT NULL,
  CONSTRAINT payout_release_pkey PRIMARY KEY (content_sha256),
  CONSTRAINT payout_release_requested_by_fkey FOREIGN KEY (requested_by) REFERENCES api_key (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT payout_release_sha256_length CHECK (octet_length(content_sha256) = 32)
);
REVOKE ALL ON payout_release FROM PUBLIC;
ALTER TABLE payout_release ENABLE ROW LEVEL SECURITY;
ALTER TABLE payout_release FORCE ROW LEVEL SECURITY;
CREATE POLICY system_access ON payout_release TO patchbay_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON payout_release TO patchbay_system;
SELECT patchbay.make_append_only('payout_release');

CREATE OR REPLACE FUNCTION patchbay.check_payout_batch() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  batch public.payout_batch;
  found record;
BEGIN
  SELECT * INTO batch FROM public.payout_batch b WHERE b.id = NEW.id;
  SELECT count(*) AS payouts, coalesce(sum(p.amount_nano), 0) AS total, count(DISTINCT p.state) AS states,
         bool_and(CASE WHEN batch.state IN ('DRAFT', 'APPROVED') THEN p.state = 'PENDING'
                       WHEN batch.state = 'CANCELLED' THEN p.state = 'CANCELLED'
                       WHEN batch.state = 'SETTLED' THEN p.state IN ('PAID', 'FAILED', 'RETURNED')
                       ELSE p.state IN ('SENDING', 'PAID', 'FAILED', 'UNKNOWN', 'RETURNED') END) AS fits
  INTO found FROM public.payout p WHERE p.batch_id = batch.id;
  IF found.payouts <> batch.payout_count OR found.total <> batch.total_nano THEN
    RAISE EXCEPTION 'payout_batch %: % of % payouts, % of %',
      batch.id, found.payouts, batch.payout_count, found.total, batch.total_nano
      USING ERRCODE = '23514', CONSTRAINT = 'payout_batch_adds_up';
  END IF;
  IF NOT found.fits THEN
    RAISE EXCEPTION 'payout_batch %: a payout is not where its batch is', batch.id
      USING ERRCODE = '23514', CONSTRAINT = 'payout_batch_fits_payouts';
  END IF;
  RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION patchbay.guard_payout() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  changing CONSTANT text[] := ARRAY['state', 'bank_reference', 'state_changed_at', 'return_reference',
    'return_transfer_id', 'release_requested_by', 'released_by'];
  batch       public.payout_batch;
  destination public.payout_destination;
BEGIN
  IF TG_OP = 'DELETE' THEN
    RAISE EXCEPTION 'payout: DELETE refused' USING ERRCODE = '42501';
  END IF;
  SELECT * INTO batch FROM public.payout_batch b WHERE b.id = NEW.batch_id;
  IF TG_OP = 'INSERT' THEN
    IF NEW.state <> 'PENDING' OR batch.state IS DISTINCT FROM 'DRAFT' OR NEW.line > batch.payout_count
       OR (NEW.currency, NEW.earned_before) IS DISTINCT FROM (batch.currency, batch.earned_before)
    THEN
      RAISE EXCEPTION 'payout: it does not fit its batch' USING ERRCODE = '23514', CONSTRAINT = 'payout_fits_batch';
    END IF;
    SELECT * INTO destination FROM public.payout_destination d WHERE d.id = NEW.destination_id;
    IF destination.effective_from > NEW.created_at OR destination.kind <> batch.rail
       OR NEW.payment_key IS DISTINCT FROM patchbay.payment_key(NEW.tenant_id, NEW.earned_before, NEW.amount_nano,
            NEW.currency, destination.kind, destination.account_name, destination.account_reference)
    THEN
      RAISE EXCEPTION 'payout: the key or the destination is not the one of its content' USING ERRCODE = '23514',
        CONSTRAINT = 'payout_key_of_content';
    END IF;
    RETURN NEW;
  END IF;
  IF to_jsonb(NEW) - changing IS DISTINCT FROM to_jsonb(OLD) - changing THEN
    RAISE EXCEPTION 'payout: what is paid is immutable' USING ERRCODE = '42501';
  END IF;
  IF NOT (CASE OLD.state || '>' || NEW.state
    WHEN 'PENDING>SENDING' THEN batch.state = 'SUBMITTING'
    WHEN 'PENDING>CANCELLED' THEN batch.state = 'CANCELLED'
    WHEN 'PAID>RETURNED' THEN batch.state IN ('SUBMITTING', 'SUBMITTED', 'SETTLED')
      AND NEW.bank_reference = OLD.bank_reference
    ELSE OLD.state IN ('SENDING', 'UNKNOWN') AND NEW.state IN ('PAID', 'FAILED', 'UNKNOWN') AND OLD.state <> NEW.state
         AND batch.state IN ('SUBMITTING', 'SUBMITTED') END)
  THEN
    RAISE EXCEPTION 'payout: % cannot become % in a batch that is %', OLD.state, NEW.state, batch.state
      USING ERRCODE = '42501';
  END IF;
  -- What frees the money to be paid again is said by an operator, and of a large batch by two.
  IF NEW.state IN ('FAILED', 'RETURNED') THEN
    IF NOT patchbay.is_operator_key(NEW.released_by) OR NOT patchbay.is_operator_key(NEW.release_requested_by) THEN
      RAISE EXCEPTION 'payout: only an operator says that it was not paid' USING ERRCODE = '42501';
    END IF;
    IF batch.total_nano > batch.second_person_above_nano
       AND patchbay.is_same_person(NEW.release_requested_by, NEW.released_by)
    THEN
      RAISE EXCEPTION 'payout: that a payment of this batch was not made is said by two people'
        USING ERRCODE = '42501', CONSTRAINT = 'payout_second_person';
    END IF;
  END IF;
  RETURN NEW;
END
$$;

CREATE OR REPLACE FUNCTION patchbay.check_payout_money() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  payout   public.payout;
  hold     public.ledger_transfer;
  resolved public.ledger_transfer;
BEGIN
  SELECT * INTO payout FROM public.payout p WHERE p.id = NEW.id;
  SELECT * INTO hold FROM public.ledger_transfer t WHERE t.id = payout.hold_id;
  SELECT * INTO resolved FROM public.ledger_transfer t WHERE t.pending_id = payout.hold_id;
  IF (hold.kind, hold.tenant_id, hold.account_id, hold.held, hold.asset, hold.reference_type, hold.reference_id)
     IS DISTINCT FROM ('PENDING', payout.tenant_id, payout.account_id, payout.amount_nano, payout.currency, 'payout', payout.id)
     OR NOT EXISTS (SELECT FROM public.ledger_account a WHERE a.id = payout.account_id AND a.kind = 'EARNINGS')
  THEN
    RAISE EXCEPTION 'payout %: its amount is not what is held for it', payout.id
      USING ERRCODE = '23514', CONSTRAINT = 'payout_is_held';
  END IF;
  IF NOT (CASE
    WHEN payout.state IN ('PENDING', 'SENDING', 'UNKNOWN') THEN resolved.id IS NULL
    WHEN payout.state IN ('PAID', 'RETURNED') THEN
      coalesce(resolved.kind = 'POST' AND resolved.amount = payout.amount_nano, false)
      AND EXISTS (SELECT FROM public.ledger_posting l JOIN public.ledger_account a ON a.id = l.account_id
                  WHERE l.transfer_id = resolved.id AND a.kind = 'CASH' AND l.amount = payout.amount_nano)
    ELSE coalesce(resolved.kind = 'VOID', false) END)
  THEN
    RAISE EXCEPTION 'payout %: the ledger does not say that it is %', payout.id, payout.state
      USING ERRCODE = '23514', CONSTRAINT = 'payout_fits_ledger';
  END IF;
  IF payout.state = 'RETURNED' AND NOT EXISTS (
    SELECT FROM public.ledger_transfer t
    JOIN public.ledger_posting l ON l.transfer_id = t.id AND l.account_id = payout.account_id
    JOIN public.ledger_posting c ON c.transfer_id = t.id AND c.amount = -payout.amount_nano
    JOIN public.ledger_account a ON a.id = c.account_id AND a.kind = 'CASH'
    WHERE t.id = payout.return_transfer_id AND t.kind = 'SINGLE' AND t.asset = payout.currency
      AND t.reference_type = 'payout_return' AND t.reference_id = payout.id AND l.amount = payout.amount_nano)
  THEN
    RAISE EXCEPTION 'payout %: what came back is not in the ledger', payout.id
      USING ERRCODE = '23514', CONSTRAINT = 'payout_is_back';
  END IF;
  RETURN NULL;
END
$$;

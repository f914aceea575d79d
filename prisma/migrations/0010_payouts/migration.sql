-- Payouts: where beneficiaries want their money, batches of payments, and what became of each payment. How it works is in
-- docs/concepts/payouts.md.
--
-- A payment that is made twice is gone, and one that is lost is owed. So every state is a row that only moves forward,
-- the money moves in the transaction of the state, and the database checks at commit that the two agree.

-- Finds what was posted in a time without another entry for every posting in a B-tree: postings are written in the order
-- of time, and this index has an entry for many pages.
CREATE INDEX ledger_posting_created_at_idx ON ledger_posting USING brin (created_at);

-- Destinations ----------------------------------------------------------------------------------------------------

-- Every destination that a beneficiary ever registered; the one that took effect last holds.
CREATE TABLE payout_destination (
  id                uuid           NOT NULL,
  tenant_id         uuid           NOT NULL,
  -- Which kind of rail reaches it. On-chain addresses will be another kind.
  kind              text           NOT NULL,
  account_name      text           NOT NULL,
  account_reference text           NOT NULL,
  effective_from    timestamptz(3) NOT NULL,
  created_at        timestamptz(3) NOT NULL,
  CONSTRAINT payout_destination_pkey PRIMARY KEY (id),
  CONSTRAINT payout_destination_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT payout_destination_kind CHECK (kind IN ('FILE')),
  CONSTRAINT payout_destination_name CHECK (char_length(account_name) BETWEEN 1 AND 70 AND account_name !~ '[[:cntrl:]]'),
  CONSTRAINT payout_destination_reference CHECK (account_reference ~ '^[A-Z0-9]{5,34}$'),
  CONSTRAINT payout_destination_not_backdated CHECK (effective_from >= created_at AND isfinite(effective_from))
);
CREATE UNIQUE INDEX payout_destination_tenant_id_id_key ON payout_destination (tenant_id, id);
CREATE INDEX payout_destination_tenant_id_effective_from_idx ON payout_destination (tenant_id, effective_from);
SELECT patchbay.protect_tenant_table('payout_destination', 'SELECT, INSERT', 'SELECT');
SELECT patchbay.make_append_only('payout_destination');

-- Batches ---------------------------------------------------------------------------------------------------------

-- They concern many beneficiaries and belong to none: only the system role sees them.
CREATE TABLE payout_batch (
  id                       uuid           NOT NULL,
  state                    text           NOT NULL,
  rail                     text           NOT NULL,
  currency                 text           NOT NULL,
  -- What was posted before this time is paid.
  earned_before            timestamptz(3) NOT NULL,
  payout_count             integer        NOT NULL,
  total_nano               bigint         NOT NULL,
  -- A batch of more than this is approved by somebody else than who drafted it.
  second_person_above_nano bigint         NOT NULL,
  -- Operators' keys.
  drafted_by               uuid           NOT NULL,
  approved_by              uuid,
  -- What the rail knows the batch by, such as the name of the file, and the SHA-256 of what it was given.
  rail_reference           text,
  rail_sha256              bytea,
  created_at               timestamptz(3) NOT NULL,
  approved_at              timestamptz(3),
  submitting_at            timestamptz(3),
  submitted_at             timestamptz(3),
  closed_at                timestamptz(3),
  CONSTRAINT payout_batch_pkey PRIMARY KEY (id),
  CONSTRAINT payout_batch_drafted_by_fkey FOREIGN KEY (drafted_by) REFERENCES api_key (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT payout_batch_approved_by_fkey FOREIGN KEY (approved_by) REFERENCES api_key (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT payout_batch_state
    CHECK (state IN ('DRAFT', 'APPROVED', 'SUBMITTING', 'SUBMITTED', 'SETTLED', 'CANCELLED')),
  CONSTRAINT payout_batch_rail CHECK (rail IN ('FILE')),
  CONSTRAINT payout_batch_currency_form CHECK (currency ~ '^[A-Z][A-Z0-9]{2,7}$'),
  CONSTRAINT payout_batch_in_the_past CHECK (earned_before <= created_at AND isfinite(earned_before)),
  CONSTRAINT payout_batch_count CHECK (payout_count BETWEEN 1 AND 10000),
  CONSTRAINT payout_batch_total CHECK (total_nano BETWEEN 1 AND 1000000000000000000),
  CONSTRAINT payout_batch_limit CHECK (second_person_above_nano >= 0),
  CONSTRAINT payout_batch_sha256_length CHECK (octet_length(rail_sha256) = 32),
  CONSTRAINT payout_batch_rail_reference_length CHECK (char_length(rail_reference) BETWEEN 1 AND 200),
  CONSTRAINT payout_batch_is_approved CHECK (
    num_nonnulls(approved_by, approved_at) <> 1
    AND (approved_by IS NOT NULL OR state IN ('DRAFT', 'CANCELLED'))),
  CONSTRAINT payout_batch_is_submitting
    CHECK ((submitting_at IS NOT NULL) = (state IN ('SUBMITTING', 'SUBMITTED', 'SETTLED'))),
  CONSTRAINT payout_batch_is_submitted CHECK (
    num_nonnulls(rail_reference, rail_sha256, submitted_at) = CASE WHEN state IN ('SUBMITTED', 'SETTLED') THEN 3 ELSE 0 END),
  CONSTRAINT payout_batch_is_closed CHECK ((closed_at IS NOT NULL) = (state IN ('SETTLED', 'CANCELLED')))
);
CREATE INDEX payout_batch_state_idx ON payout_batch (state, id) WHERE state NOT IN ('SETTLED', 'CANCELLED');

-- Payouts ---------------------------------------------------------------------------------------------------------

CREATE TABLE payout (
  id               uuid           NOT NULL,
  -- The beneficiary, who may read it.
  tenant_id        uuid           NOT NULL,
  batch_id         uuid           NOT NULL,
  -- 1 to the batch's payout_count, so that none can be added later.
  line             integer        NOT NULL,
  -- The account of earnings that it is paid from, and the hold on it.
  account_id       uuid           NOT NULL,
  hold_id          uuid           NOT NULL,
  destination_id   uuid           NOT NULL,
  currency         text           NOT NULL,
  amount_nano      bigint         NOT NULL,
  earned_before    timestamptz(3) NOT NULL,
  -- SHA-256 of the content: what makes the payment unique, whoever attempts it and however often.
  payment_key      bytea          NOT NULL,
  state            text           NOT NULL,
  -- What the bank calls it; null until a result says so.
  bank_reference   text,
  created_at       timestamptz(3) NOT NULL,
  state_changed_at timestamptz(3) NOT NULL,
  CONSTRAINT payout_pkey PRIMARY KEY (id),
  CONSTRAINT payout_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT payout_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES payout_batch (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT payout_tenant_id_destination_id_fkey FOREIGN KEY (tenant_id, destination_id)
    REFERENCES payout_destination (tenant_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT payout_line CHECK (line > 0),
  CONSTRAINT payout_state CHECK (state IN ('PENDING', 'SENDING', 'PAID', 'FAILED', 'UNKNOWN', 'CANCELLED')),
  CONSTRAINT payout_amount CHECK (amount_nano BETWEEN 1 AND 1000000000000000000),
  CONSTRAINT payout_key_length CHECK (octet_length(payment_key) = 32),
  CONSTRAINT payout_bank_reference CHECK (
    char_length(bank_reference) BETWEEN 1 AND 140 AND bank_reference !~ '[[:cntrl:]]'
    AND (bank_reference IS NULL OR state IN ('PAID', 'FAILED', 'UNKNOWN'))),
  -- Who says that it was paid says by which payment of the bank.
  CONSTRAINT payout_paid_by CHECK (state <> 'PAID' OR bank_reference IS NOT NULL)
);
CREATE UNIQUE INDEX payout_tenant_id_id_key ON payout (tenant_id, id);
CREATE UNIQUE INDEX payout_batch_id_line_key ON payout (batch_id, line);
CREATE UNIQUE INDEX payout_payment_key_key ON payout (payment_key);
CREATE UNIQUE INDEX payout_hold_id_key ON payout (hold_id);
-- What was earned before a time is paid once.
CREATE UNIQUE INDEX payout_account_id_earned_before_key ON payout (account_id, earned_before);
SELECT patchbay.protect_tenant_table(
  'payout', 'SELECT', 'SELECT, INSERT, UPDATE (state, bank_reference, state_changed_at)');

-- Results ---------------------------------------------------------------------------------------------------------

-- Every file of results that was taken in, whole; the same file again is found by its hash.
CREATE TABLE payout_import (
  id          uuid           NOT NULL,
  sha256      bytea          NOT NULL,
  content     text           NOT NULL,
  result_count integer       NOT NULL,
  -- How many results said something new.
  applied_count integer      NOT NULL,
  total_nano  numeric(38, 0) NOT NULL,
  imported_by uuid           NOT NULL,
  created_at  timestamptz(3) NOT NULL,
  CONSTRAINT payout_import_pkey PRIMARY KEY (id),
  CONSTRAINT payout_import_imported_by_fkey FOREIGN KEY (imported_by) REFERENCES api_key (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT payout_import_sha256_length CHECK (octet_length(sha256) = 32),
  CONSTRAINT payout_import_counts CHECK (result_count > 0 AND applied_count BETWEEN 0 AND result_count)
);
CREATE UNIQUE INDEX payout_import_sha256_key ON payout_import (sha256);

-- What each line of a file said.
CREATE TABLE payout_result (
  import_id      uuid    NOT NULL,
  line           integer NOT NULL,
  payout_id      uuid    NOT NULL,
  state          text    NOT NULL,
  bank_reference text,
  CONSTRAINT payout_result_pkey PRIMARY KEY (import_id, line),
  CONSTRAINT payout_result_import_id_fkey FOREIGN KEY (import_id) REFERENCES payout_import (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT payout_result_payout_id_fkey FOREIGN KEY (payout_id) REFERENCES payout (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT payout_result_state CHECK (state IN ('PAID', 'FAILED', 'UNKNOWN'))
);
CREATE INDEX payout_result_payout_id_idx ON payout_result (payout_id);

DO $$
DECLARE
  target   text;
  writable text;
BEGIN
  FOR target, writable IN VALUES
    ('payout_batch', 'SELECT, INSERT, UPDATE (state, approved_by, rail_reference, rail_sha256, approved_at, '
                     'submitting_at, submitted_at, closed_at)'),
    ('payout_import', 'SELECT, INSERT'), ('payout_result', 'SELECT, INSERT')
  LOOP
    EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', target);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', target);
    EXECUTE format('CREATE POLICY system_access ON %I TO patchbay_system USING (true) WITH CHECK (true)', target);
    EXECUTE format('GRANT %s ON %I TO patchbay_system', writable, target);
  END LOOP;
END
$$;
SELECT patchbay.make_append_only('payout_import');
SELECT patchbay.make_append_only('payout_result');

-- Rules -----------------------------------------------------------------------------------------------------------

-- The key that the first of a row of rotated keys was: whoever rotates their key stays the same person.
CREATE FUNCTION patchbay.key_origin(key uuid) RETURNS uuid
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE origin AS (
    SELECT k.id, k.rotated_from FROM public.api_key k WHERE k.id = key
    UNION
    SELECT k.id, k.rotated_from FROM origin o JOIN public.api_key k ON k.id = o.rotated_from
  )
  SELECT o.id FROM origin o WHERE o.rotated_from IS NULL
$$;
-- Whether two keys may be one person's: one was rotated from the other, or both belong to one member.
CREATE FUNCTION patchbay.is_same_person(one uuid, other uuid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(patchbay.key_origin(one) = patchbay.key_origin(other), true)
    OR EXISTS (SELECT FROM public.api_key a JOIN public.api_key b ON b.member_id = a.member_id
               WHERE a.id = one AND b.id = other)
$$;
GRANT EXECUTE ON FUNCTION patchbay.key_origin(uuid), patchbay.is_same_person(uuid, uuid) TO patchbay_system;

CREATE FUNCTION patchbay.is_operator_key(key uuid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT FROM public.api_key k WHERE k.id = key AND k.kind = 'OPERATOR')
$$;
GRANT EXECUTE ON FUNCTION patchbay.is_operator_key(uuid) TO patchbay_system;

CREATE FUNCTION patchbay.guard_payout_batch() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  changing text[];
BEGIN
  IF TG_OP = 'DELETE' THEN
    RAISE EXCEPTION 'payout_batch: DELETE refused' USING ERRCODE = '42501';
  END IF;
  IF TG_OP = 'INSERT' THEN
    IF NEW.state <> 'DRAFT' OR NEW.approved_by IS NOT NULL OR NOT patchbay.is_operator_key(NEW.drafted_by) THEN
      RAISE EXCEPTION 'payout_batch: a batch begins as the draft of an operator' USING ERRCODE = '42501';
    END IF;
    RETURN NEW;
  END IF;
  changing := CASE OLD.state || '>' || NEW.state
    WHEN 'DRAFT>APPROVED' THEN ARRAY['approved_by', 'approved_at']
    WHEN 'DRAFT>CANCELLED' THEN ARRAY['closed_at']
    WHEN 'APPROVED>CANCELLED' THEN ARRAY['closed_at']
    WHEN 'APPROVED>SUBMITTING' THEN ARRAY['submitting_at']
    WHEN 'SUBMITTING>SUBMITTED' THEN ARRAY['rail_reference', 'rail_sha256', 'submitted_at']
    WHEN 'SUBMITTED>SETTLED' THEN ARRAY['closed_at'] END;
  IF changing IS NULL THEN
    RAISE EXCEPTION 'payout_batch: % cannot become %', OLD.state, NEW.state USING ERRCODE = '42501';
  END IF;
  changing := changing || ARRAY['state'];
  IF to_jsonb(NEW) - changing IS DISTINCT FROM to_jsonb(OLD) - changing THEN
    RAISE EXCEPTION 'payout_batch: what a batch pays is immutable' USING ERRCODE = '42501';
  END IF;
  IF NEW.state = 'APPROVED' THEN
    IF NOT patchbay.is_operator_key(NEW.approved_by) THEN
      RAISE EXCEPTION 'payout_batch: only an operator approves' USING ERRCODE = '42501';
    END IF;
    IF NEW.total_nano > NEW.second_person_above_nano AND patchbay.is_same_person(NEW.drafted_by, NEW.approved_by) THEN
      RAISE EXCEPTION 'payout_batch: a batch of this amount is approved by somebody else than who drafted it'
        USING ERRCODE = '42501', CONSTRAINT = 'payout_batch_second_person';
    END IF;
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON payout_batch
  FOR EACH ROW EXECUTE FUNCTION patchbay.guard_payout_batch();
CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON payout_batch EXECUTE FUNCTION patchbay.refuse_change();

-- Parts equal the whole, and the payouts are where their batch is. Asked at commit, of the rows as they are then.
CREATE FUNCTION patchbay.check_payout_batch() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  batch public.payout_batch;
  found record;
BEGIN
  SELECT * INTO batch FROM public.payout_batch b WHERE b.id = NEW.id;
  SELECT count(*) AS payouts, coalesce(sum(p.amount_nano), 0) AS total, count(DISTINCT p.state) AS states,
         bool_and(CASE WHEN batch.state IN ('DRAFT', 'APPROVED') THEN p.state = 'PENDING'
                       WHEN batch.state = 'CANCELLED' THEN p.state = 'CANCELLED'
                       WHEN batch.state = 'SETTLED' THEN p.state IN ('PAID', 'FAILED')
                       ELSE p.state IN ('SENDING', 'PAID', 'FAILED', 'UNKNOWN') END) AS fits
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
CREATE CONSTRAINT TRIGGER payout_batch_adds_up AFTER INSERT OR UPDATE ON payout_batch
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION patchbay.check_payout_batch();

-- The key of a payment, as src/payouts/key.ts computes it.
CREATE FUNCTION patchbay.payment_key(
  beneficiary uuid, earned_before timestamptz, amount_nano bigint, currency text, kind text, account_name text,
  account_reference text
) RETURNS bytea
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT sha256(convert_to(concat_ws(E'\n', 'patchbay:payout:v1', beneficiary,
    (extract(epoch FROM earned_before) * 1000)::bigint, amount_nano, currency, kind, account_name, account_reference), 'UTF8'))
$$;
GRANT EXECUTE ON FUNCTION patchbay.payment_key(uuid, timestamptz, bigint, text, text, text, text) TO patchbay_system;

CREATE FUNCTION patchbay.guard_payout() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
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
  IF to_jsonb(NEW) - ARRAY['state', 'bank_reference', 'state_changed_at']
     IS DISTINCT FROM to_jsonb(OLD) - ARRAY['state', 'bank_reference', 'state_changed_at']
  THEN
    RAISE EXCEPTION 'payout: what is paid is immutable' USING ERRCODE = '42501';
  END IF;
  IF NOT (CASE OLD.state || '>' || NEW.state
    WHEN 'PENDING>SENDING' THEN batch.state = 'SUBMITTING'
    WHEN 'PENDING>CANCELLED' THEN batch.state = 'CANCELLED'
    ELSE OLD.state IN ('SENDING', 'UNKNOWN') AND NEW.state IN ('PAID', 'FAILED', 'UNKNOWN') AND OLD.state <> NEW.state
         AND batch.state IN ('SUBMITTING', 'SUBMITTED') END)
  THEN
    RAISE EXCEPTION 'payout: % cannot become % in a batch that is %', OLD.state, NEW.state, batch.state
      USING ERRCODE = '42501';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON payout
  FOR EACH ROW EXECUTE FUNCTION patchbay.guard_payout();
CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON payout EXECUTE FUNCTION patchbay.refuse_change();

-- The ledger says the same as the state, at commit: money is held until it is known what became of it, then it went out,
-- or is the beneficiary's again.
CREATE FUNCTION patchbay.check_payout_money() RETURNS trigger
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
    WHEN payout.state = 'PAID' THEN
      coalesce(resolved.kind = 'POST' AND resolved.amount = payout.amount_nano, false)
      AND EXISTS (SELECT FROM public.ledger_posting l JOIN public.ledger_account a ON a.id = l.account_id
                  WHERE l.transfer_id = resolved.id AND a.kind = 'CASH' AND l.amount = payout.amount_nano)
    ELSE coalesce(resolved.kind = 'VOID', false) END)
  THEN
    RAISE EXCEPTION 'payout %: the ledger does not say that it is %', payout.id, payout.state
      USING ERRCODE = '23514', CONSTRAINT = 'payout_fits_ledger';
  END IF;
  RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER payout_fits_ledger AFTER INSERT OR UPDATE ON payout
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION patchbay.check_payout_money();

-- Events ----------------------------------------------------------------------------------------------------------

CREATE FUNCTION patchbay.emit_payout_state() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM patchbay.emit_event(NEW.tenant_id, 'payout.state', NEW.id, jsonb_build_object(
    'state', NEW.state, 'batchId', NEW.batch_id, 'currency', NEW.currency, 'amountNano', NEW.amount_nano::text,
    'bankReference', NEW.bank_reference));
  RETURN NULL;
END
$$;
CREATE TRIGGER emit_state AFTER INSERT OR UPDATE ON payout
  FOR EACH ROW EXECUTE FUNCTION patchbay.emit_payout_state();

CREATE FUNCTION patchbay.emit_payout_batch_state() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM patchbay.emit_event('00000000-0000-7000-8000-000000000000', 'payout_batch.state', NEW.id, jsonb_build_object(
    'state', NEW.state, 'currency', NEW.currency, 'payouts', NEW.payout_count, 'totalNano', NEW.total_nano::text));
  RETURN NULL;
END
$$;
CREATE TRIGGER emit_state AFTER INSERT OR UPDATE ON payout_batch
  FOR EACH ROW EXECUTE FUNCTION patchbay.emit_payout_batch_state();

-- Reading ---------------------------------------------------------------------------------------------------------

-- Of accounts of earnings, in one snapshot: what is posted, held for payouts, still in the holdback window, and payable.
-- A credit counts once it was posted before the time; a debit counts at once.
CREATE FUNCTION patchbay.earnings_payable(account_ids uuid[], before timestamptz) RETURNS TABLE (
    account_id uuid, tenant_id uuid, asset text, posted numeric, held bigint, maturing numeric, payable numeric)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
  SELECT b.account_id, b.tenant_id, b.asset, b.posted, b.held, coalesce(m.amount, 0),
         b.posted - b.held - coalesce(m.amount, 0)
  FROM patchbay.ledger_balances(account_ids) b
  LEFT JOIN (
    SELECT p.account_id, sum(p.amount) AS amount FROM public.ledger_posting p
    WHERE p.account_id = ANY (account_ids) AND p.created_at >= before AND p.amount > 0 GROUP BY p.account_id
  ) m ON m.account_id = b.account_id
  WHERE b.kind = 'EARNINGS'
$$;
SELECT patchbay.make_definer('patchbay.earnings_payable(uuid[], timestamptz)', 'patchbay_system');

-- The same for the current tenant, in every asset.
CREATE FUNCTION patchbay.own_earnings_payable(before timestamptz) RETURNS TABLE (
    account_id uuid, tenant_id uuid, asset text, posted numeric, held bigint, maturing numeric, payable numeric)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT e.* FROM patchbay.earnings_payable(ARRAY(
    SELECT a.id FROM public.ledger_account a WHERE a.tenant_id = patchbay.current_tenant() AND a.kind = 'EARNINGS'), before) e
$$;
SELECT patchbay.make_definer('patchbay.own_earnings_payable(timestamptz)', 'patchbay_app');

-- What was posted to a beneficiary's account of earnings in a period, by what it was, and the balance before it. A
-- beneficiary may not read the transfers of who paid, so what those were is told here, and nothing else of them.
CREATE FUNCTION patchbay.earnings_statement(
  of_tenant uuid, of_asset text, from_time timestamptz, to_time timestamptz
) RETURNS TABLE (kind text, subject_id uuid, amount numeric, postings bigint)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
  WITH account AS (
    SELECT b.account_id, b.posted FROM patchbay.ledger_balances(ARRAY(
      SELECT a.id FROM public.ledger_account a
      WHERE a.tenant_id = of_tenant AND a.kind = 'EARNINGS' AND a.asset = of_asset)) b
  ), since AS (
    SELECT p.transfer_id, p.amount, p.subject_id, p.created_at
    FROM account c JOIN public.ledger_posting p ON p.account_id = c.account_id WHERE p.created_at >= from_time
  ), line AS (
    SELECT CASE t.reference_type WHEN 'inference' THEN 'EARNED' WHEN 'payout' THEN 'PAID' ELSE 'CORRECTION' END AS kind,
           s.subject_id, s.amount
    FROM since s JOIN public.ledger_transfer t ON t.id = s.transfer_id WHERE s.created_at < to_time
  )
  SELECT 'OPENING', NULL::uuid, c.posted - coalesce((SELECT sum(s.amount) FROM since s), 0), 0::bigint FROM account c
  UNION ALL
  SELECT l.kind, l.subject_id, sum(l.amount), count(*) FROM line l GROUP BY l.kind, l.subject_id
$$;
SELECT patchbay.make_definer(
  'patchbay.earnings_statement(uuid, text, timestamptz, timestamptz)', 'patchbay_system');

CREATE FUNCTION patchbay.own_earnings_statement(of_asset text, from_time timestamptz, to_time timestamptz)
  RETURNS TABLE (kind text, subject_id uuid, amount numeric, postings bigint)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT s.* FROM patchbay.earnings_statement(patchbay.current_tenant(), of_asset, from_time, to_time) s
$$;
SELECT patchbay.make_definer('patchbay.own_earnings_statement(text, timestamptz, timestamptz)', 'patchbay_app');

-- Payouts on a chain: batches that become trees of a RoyaltyDistributor, their publication and settlement, what is paid in,
-- and what the chain itself says. How it works is in docs/concepts/payouts.md, why in docs/decisions/0028-chain-payouts.md.
--
-- What a tree promises can be claimed for ever, so that the database computes every tree again before it takes it: its leaves
-- are the sums of the payments that were handed over, no account has less than before, and trees have no gaps.

-- Destinations and batches -------------------------------------------------------------------------------------------

ALTER TABLE payout_destination
  DROP CONSTRAINT payout_destination_kind,
  ADD CONSTRAINT payout_destination_kind CHECK (kind IN ('FILE', 'CHAIN')),
  DROP CONSTRAINT payout_destination_reference,
  ADD CONSTRAINT payout_destination_reference CHECK (
    CASE kind WHEN 'CHAIN' THEN account_reference ~ '^0x[0-9a-fA-F]{40}$' AND account_reference !~ '^0x0{40}$'
              ELSE account_reference ~ '^[A-Z0-9]{5,34}$' END);
ALTER TABLE payout_batch
  DROP CONSTRAINT payout_batch_rail,
  ADD CONSTRAINT payout_batch_rail CHECK (rail IN ('FILE', 'CHAIN'));

-- One transaction publishes a tree, which pays many; a payment of a bank still pays one.
DROP INDEX payout_bank_reference_key;
CREATE UNIQUE INDEX payout_bank_reference_key ON payout (bank_reference)
  WHERE state IN ('PAID', 'RETURNED') AND bank_reference !~ '^[0-9]+:0x[0-9a-f]{64}$';
CREATE INDEX payout_bank_reference_idx ON payout (bank_reference) WHERE state IN ('PAID', 'RETURNED');

-- Trees --------------------------------------------------------------------------------------------------------------

-- A distributor as it was when it was used first.
CREATE TABLE payout_distributor (
  id            uuid           NOT NULL,
  chain_id      bigint         NOT NULL,
  address       text           NOT NULL,
  token         text           NOT NULL,
  decimals      smallint       NOT NULL,
  -- What it held after this block, from which on its events are read. Nothing had been claimed then.
  opening_units numeric(78, 0) NOT NULL,
  opening_block bigint         NOT NULL,
  created_at    timestamptz(3) NOT NULL,
  CONSTRAINT payout_distributor_pkey PRIMARY KEY (id),
  CONSTRAINT payout_distributor_chain CHECK (chain_id > 0),
  CONSTRAINT payout_distributor_address CHECK (address ~ '^0x[0-9a-fA-F]{40}$'),
  CONSTRAINT payout_distributor_token CHECK (token ~ '^0x[0-9a-fA-F]{40}$' AND token <> address),
  CONSTRAINT payout_distributor_decimals CHECK (decimals BETWEEN 0 AND 36),
  CONSTRAINT payout_distributor_opening CHECK (opening_units >= 0 AND opening_block >= 0)
);
CREATE UNIQUE INDEX payout_distributor_chain_id_address_key ON payout_distributor (chain_id, address);

-- Each tree answers the order of one batch and holds everything that was ordered before as well.
CREATE TABLE payout_tree (
  id             uuid           NOT NULL,
  distributor_id uuid           NOT NULL,
  sequence       bigint         NOT NULL,
  -- The batch whose order it answers. No foreign key: a rail knows orders, not where they come from.
  batch_id       uuid           NOT NULL,
  currency       text           NOT NULL,
  root           bytea          NOT NULL,
  total_units    numeric(78, 0) NOT NULL,
  accounts       integer        NOT NULL,
  -- SHA-256 of the order, by which it is known when it is given again.
  order_sha256   bytea          NOT NULL,
  created_at     timestamptz(3) NOT NULL,
  CONSTRAINT payout_tree_pkey PRIMARY KEY (id),
  CONSTRAINT payout_tree_distributor_id_fkey FOREIGN KEY (distributor_id) REFERENCES payout_distributor (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT payout_tree_sequence CHECK (sequence > 0),
  CONSTRAINT payout_tree_currency_form CHECK (currency ~ '^[A-Z][A-Z0-9]{2,7}$'),
  CONSTRAINT payout_tree_hashes CHECK (octet_length(root) = 32 AND octet_length(order_sha256) = 32),
  CONSTRAINT payout_tree_totals CHECK (total_units > 0 AND accounts > 0)
);
CREATE UNIQUE INDEX payout_tree_distributor_id_sequence_key ON payout_tree (distributor_id, sequence);
CREATE UNIQUE INDEX payout_tree_batch_id_key ON payout_tree (batch_id);

-- The payments of the orders; a payment is in one order.
CREATE TABLE payout_tree_payment (
  payment_key    bytea   NOT NULL,
  tree_id        uuid    NOT NULL,
  line           integer NOT NULL,
  beneficiary_id uuid    NOT NULL,
  account        text    NOT NULL,
  amount_nano    bigint  NOT NULL,
  CONSTRAINT payout_tree_payment_pkey PRIMARY KEY (payment_key),
  CONSTRAINT payout_tree_payment_tree_id_fkey FOREIGN KEY (tree_id) REFERENCES payout_tree (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT DEFERRABLE INITIALLY DEFERRED,
  CONSTRAINT payout_tree_payment_key_length CHECK (octet_length(payment_key) = 32),
  CONSTRAINT payout_tree_payment_line CHECK (line > 0),
  CONSTRAINT payout_tree_payment_account CHECK (account ~ '^0x[0-9a-fA-F]{40}$'),
  CONSTRAINT payout_tree_payment_amount CHECK (amount_nano BETWEEN 1 AND 1000000000000000000)
);
CREATE UNIQUE INDEX payout_tree_payment_tree_id_line_key ON payout_tree_payment (tree_id, line);

-- What every account can claim in all by the tree.
CREATE TABLE payout_tree_leaf (
  tree_id uuid           NOT NULL,
  account text           NOT NULL,
  units   numeric(78, 0) NOT NULL,
  CONSTRAINT payout_tree_leaf_pkey PRIMARY KEY (tree_id, account),
  CONSTRAINT payout_tree_leaf_tree_id_fkey FOREIGN KEY (tree_id) REFERENCES payout_tree (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT DEFERRABLE INITIALLY DEFERRED,
  CONSTRAINT payout_tree_leaf_account CHECK (account ~ '^0x[0-9a-fA-F]{40}$'),
  CONSTRAINT payout_tree_leaf_units CHECK (units > 0)
);

-- Every attempt to publish a tree: the purpose of its transaction. There is another only when the contract refused one.
CREATE TABLE payout_tree_publication (
  tree_id    uuid           NOT NULL,
  attempt    integer        NOT NULL,
  purpose    text           NOT NULL,
  created_at timestamptz(3) NOT NULL,
  CONSTRAINT payout_tree_publication_pkey PRIMARY KEY (tree_id, attempt),
  CONSTRAINT payout_tree_publication_tree_id_fkey FOREIGN KEY (tree_id) REFERENCES payout_tree (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT payout_tree_publication_attempt CHECK (attempt > 0),
  CONSTRAINT payout_tree_publication_purpose CHECK (char_length(purpose) BETWEEN 1 AND 200)
);
CREATE UNIQUE INDEX payout_tree_publication_purpose_key ON payout_tree_publication (purpose);

-- What an operator has told the publishing account to pay in.
CREATE TABLE payout_funding (
  id             uuid           NOT NULL,
  distributor_id uuid           NOT NULL,
  units          numeric(78, 0) NOT NULL,
  -- The account had allowed something before, which is taken back first.
  clears_allowance boolean      NOT NULL,
  requested_by   uuid           NOT NULL,
  created_at     timestamptz(3) NOT NULL,
  CONSTRAINT payout_funding_pkey PRIMARY KEY (id),
  CONSTRAINT payout_funding_distributor_id_fkey FOREIGN KEY (distributor_id) REFERENCES payout_distributor (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT payout_funding_requested_by_fkey FOREIGN KEY (requested_by) REFERENCES api_key (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT payout_funding_units CHECK (units > 0)
);
CREATE INDEX payout_funding_distributor_id_idx ON payout_funding (distributor_id, id);

-- What the chain says --------------------------------------------------------------------------------------------------

-- Events of a distributor, and transfers of its token to it, out of final blocks.
CREATE TABLE payout_chain_event (
  distributor_id   uuid           NOT NULL,
  block_number     bigint         NOT NULL,
  log_index        integer        NOT NULL,
  block_hash       bytea          NOT NULL,
  transaction_hash bytea          NOT NULL,
  kind             text           NOT NULL,
  -- Who paid in, or was paid; null for a tree.
  account          text,
  -- The tree that was published, or that was claimed by.
  sequence         bigint,
  root             bytea,
  -- What was moved; of a tree, the sum of its leaves as its publisher says.
  units            numeric(78, 0) NOT NULL,
  -- Of a claim: what the account was paid in all.
  cumulative       numeric(78, 0),
  seen_at          timestamptz(3) NOT NULL,
  CONSTRAINT payout_chain_event_pkey PRIMARY KEY (distributor_id, block_number, log_index),
  CONSTRAINT payout_chain_event_distributor_id_fkey FOREIGN KEY (distributor_id) REFERENCES payout_distributor (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT payout_chain_event_hashes CHECK (octet_length(block_hash) = 32 AND octet_length(transaction_hash) = 32),
  CONSTRAINT payout_chain_event_amounts CHECK (units >= 0 AND cumulative >= 0),
  CONSTRAINT payout_chain_event_form CHECK (CASE kind
    WHEN 'RECEIVED' THEN num_nonnulls(sequence, root, cumulative) = 0 AND account IS NOT NULL
    WHEN 'FUNDED' THEN num_nonnulls(sequence, root, cumulative) = 0 AND account IS NOT NULL
    WHEN 'PUBLISHED' THEN num_nonnulls(account, cumulative) = 0 AND sequence IS NOT NULL AND octet_length(root) = 32
    WHEN 'CLAIMED' THEN root IS NULL AND num_nonnulls(account, sequence, cumulative) = 3
    ELSE false END)
);
CREATE INDEX payout_chain_event_account_idx ON payout_chain_event (distributor_id, kind, account);

-- Up to which block they were read, what the distributor held after it, and what its events come to until then, so that not
-- all of them are read each time.
CREATE TABLE payout_chain_follow (
  distributor_id uuid           NOT NULL,
  block_number   bigint         NOT NULL,
  block_hash     bytea          NOT NULL,
  balance_units  numeric(78, 0) NOT NULL,
  received_units numeric(78, 0) NOT NULL,
  claimed_units  numeric(78, 0) NOT NULL,
  -- The number of the tree in force; zero for none.
  published      bigint         NOT NULL,
  followed_at    timestamptz(3) NOT NULL,
  CONSTRAINT payout_chain_follow_pkey PRIMARY KEY (distributor_id),
  CONSTRAINT payout_chain_follow_distributor_id_fkey FOREIGN KEY (distributor_id) REFERENCES payout_distributor (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT payout_chain_follow_hash CHECK (octet_length(block_hash) = 32),
  CONSTRAINT payout_chain_follow_balance CHECK (
    balance_units >= 0 AND received_units >= 0 AND claimed_units >= 0 AND published >= 0)
);

-- Trees whose payouts are paid: the transaction that published it, and the block after which the distributor held what it
-- owed in all, less what was claimed.
CREATE TABLE payout_tree_settlement (
  tree_id          uuid           NOT NULL,
  transaction_hash bytea          NOT NULL,
  block_number     bigint         NOT NULL,
  owed_units       numeric(78, 0) NOT NULL,
  balance_units    numeric(78, 0) NOT NULL,
  created_at       timestamptz(3) NOT NULL,
  CONSTRAINT payout_tree_settlement_pkey PRIMARY KEY (tree_id),
  CONSTRAINT payout_tree_settlement_tree_id_fkey FOREIGN KEY (tree_id) REFERENCES payout_tree (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT payout_tree_settlement_hash CHECK (octet_length(transaction_hash) = 32),
  CONSTRAINT payout_tree_settlement_covered CHECK (balance_units >= owed_units)
);

DO $$
DECLARE
  target  text;
  granted text;
BEGIN
  FOR target, granted IN VALUES
    ('payout_distributor', 'SELECT, INSERT'), ('payout_tree', 'SELECT, INSERT'), ('payout_tree_payment', 'SELECT, INSERT'),
    ('payout_tree_leaf', 'SELECT, INSERT'), ('payout_tree_publication', 'SELECT, INSERT'),
    ('payout_funding', 'SELECT, INSERT'), ('payout_chain_event', 'SELECT, INSERT'),
    ('payout_chain_follow', 'SELECT, INSERT, UPDATE (block_number, block_hash, balance_units, received_units, claimed_units, '
                            'published, followed_at)'),
    ('payout_tree_settlement', 'SELECT, INSERT')
  LOOP
    EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', target);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', target);
    EXECUTE format('CREATE POLICY system_access ON %I TO patchbay_system USING (true) WITH CHECK (true)', target);
    EXECUTE format('GRANT %s ON %I TO patchbay_system', granted, target);
    IF target <> 'payout_chain_follow' THEN
      PERFORM patchbay.make_append_only(target::regclass);
    END IF;
  END LOOP;
END
$$;

-- Rules ----------------------------------------------------------------------------------------------------------------

-- What a tree holds is written before the tree, so that nothing is added to one that is there.
CREATE FUNCTION patchbay.guard_payout_tree_part() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM public.payout_tree t WHERE t.id = NEW.tree_id) THEN
    RAISE EXCEPTION 'payout_tree %: nothing is added to a tree', NEW.tree_id USING ERRCODE = '42501';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER guard BEFORE INSERT ON payout_tree_payment
  FOR EACH ROW EXECUTE FUNCTION patchbay.guard_payout_tree_part();
CREATE TRIGGER guard BEFORE INSERT ON payout_tree_leaf
  FOR EACH ROW EXECUTE FUNCTION patchbay.guard_payout_tree_part();

-- What each account can claim by the payments of the trees up to one: of each beneficiary all of it, in the token's smallest
-- unit and rounded down, added up where several have one account. As src/payouts/chain/entitlements.ts computes it.
CREATE FUNCTION patchbay.payout_entitlements(of_distributor uuid, up_to bigint) RETURNS TABLE (account text, units numeric)
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
  SELECT s.account, sum(s.units) FROM (
    SELECT p.account, CASE WHEN d.decimals >= 9 THEN sum(p.amount_nano) * (10::numeric ^ (d.decimals - 9))::numeric(78, 0)
                           ELSE div(sum(p.amount_nano), (10::numeric ^ (9 - d.decimals))::numeric(78, 0)) END AS units
    FROM public.payout_distributor d
    JOIN public.payout_tree t ON t.distributor_id = d.id AND t.sequence <= up_to
    JOIN public.payout_tree_payment p ON p.tree_id = t.id
    WHERE d.id = of_distributor
    GROUP BY p.account, p.beneficiary_id, d.decimals
  ) s GROUP BY s.account HAVING sum(s.units) > 0
$$;
GRANT EXECUTE ON FUNCTION patchbay.payout_entitlements(uuid, bigint) TO patchbay_system;

-- A batch that was cancelled gets no tree, and one that has a tree is not cancelled: each waits for the other.
CREATE FUNCTION patchbay.guard_payout_tree_batch() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM FROM public.payout_batch b WHERE b.id = NEW.batch_id FOR SHARE;
  IF EXISTS (SELECT FROM public.payout_batch b WHERE b.id = NEW.batch_id AND b.state = 'CANCELLED') THEN
    RAISE EXCEPTION 'payout_tree: the batch % was cancelled', NEW.batch_id
      USING ERRCODE = '23514', CONSTRAINT = 'payout_tree_of_cancelled';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER guard BEFORE INSERT ON payout_tree FOR EACH ROW EXECUTE FUNCTION patchbay.guard_payout_tree_batch();

CREATE FUNCTION patchbay.check_payout_tree() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  earlier public.payout_tree;
  found   record;
BEGIN
  SELECT * INTO earlier FROM public.payout_tree t
  WHERE t.distributor_id = NEW.distributor_id AND t.sequence < NEW.sequence ORDER BY t.sequence DESC LIMIT 1;
  IF NEW.sequence <> coalesce(earlier.sequence, 0) + 1 OR earlier.currency <> NEW.currency THEN
    RAISE EXCEPTION 'payout_tree: % in % does not follow %', NEW.sequence, NEW.currency, coalesce(earlier.sequence, 0)
      USING ERRCODE = '23514', CONSTRAINT = 'payout_tree_follows';
  END IF;
  IF EXISTS (
    SELECT FROM public.payout_tree_leaf b
    LEFT JOIN public.payout_tree_leaf l ON l.tree_id = NEW.id AND l.account = b.account
    WHERE b.tree_id = earlier.id AND coalesce(l.units, 0) < b.units)
  THEN
    RAISE EXCEPTION 'payout_tree %: an account has less than before', NEW.sequence
      USING ERRCODE = '23514', CONSTRAINT = 'payout_tree_takes_back';
  END IF;
  IF EXISTS (
    SELECT FROM patchbay.payout_entitlements(NEW.distributor_id, NEW.sequence) e
    FULL JOIN (SELECT l.account, l.units FROM public.payout_tree_leaf l WHERE l.tree_id = NEW.id) l USING (account)
    WHERE e.units IS DISTINCT FROM l.units)
  THEN
    RAISE EXCEPTION 'payout_tree %: a leaf is not the sum of its payments', NEW.sequence
      USING ERRCODE = '23514', CONSTRAINT = 'payout_tree_leaf_of_payments';
  END IF;
  SELECT count(*) AS leaves, sum(l.units) AS total INTO found FROM public.payout_tree_leaf l WHERE l.tree_id = NEW.id;
  IF (found.leaves, found.total) IS DISTINCT FROM (NEW.accounts::bigint, NEW.total_units)
     OR NOT EXISTS (SELECT FROM public.payout_tree_payment p WHERE p.tree_id = NEW.id)
  THEN
    RAISE EXCEPTION 'payout_tree %: it is not the sum of its leaves', NEW.sequence
      USING ERRCODE = '23514', CONSTRAINT = 'payout_tree_adds_up';
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER check_tree AFTER INSERT ON payout_tree FOR EACH ROW EXECUTE FUNCTION patchbay.check_payout_tree();

-- Blocks are read forwards.
CREATE FUNCTION patchbay.guard_payout_chain_follow() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NEW.block_number < OLD.block_number OR NEW.received_units < OLD.received_units
     OR NEW.claimed_units < OLD.claimed_units OR NEW.published < OLD.published
  THEN
    RAISE EXCEPTION 'payout_chain_follow: blocks are read forwards' USING ERRCODE = '42501';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER guard BEFORE UPDATE ON payout_chain_follow
  FOR EACH ROW EXECUTE FUNCTION patchbay.guard_payout_chain_follow();

-- A tree that is not one of ours: somebody else has the publisher's key, or its role.
CREATE FUNCTION patchbay.emit_foreign_payout_tree() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT EXISTS (
    SELECT FROM public.payout_tree t
    WHERE t.distributor_id = NEW.distributor_id AND t.sequence = NEW.sequence AND t.root = NEW.root)
  THEN
    PERFORM patchbay.emit_event('00000000-0000-7000-8000-000000000000', 'payout_tree.foreign', NEW.distributor_id,
      jsonb_build_object('sequence', NEW.sequence::text, 'root', '0x' || encode(NEW.root, 'hex'), 'units', NEW.units::text,
        'transaction', '0x' || encode(NEW.transaction_hash, 'hex'), 'block', NEW.block_number::text));
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER emit_foreign AFTER INSERT ON payout_chain_event
  FOR EACH ROW WHEN (NEW.kind = 'PUBLISHED') EXECUTE FUNCTION patchbay.emit_foreign_payout_tree();

-- Only what the chain has seen is settled, and trees in their order.
CREATE FUNCTION patchbay.guard_payout_tree_settlement() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  tree public.payout_tree;
BEGIN
  SELECT * INTO tree FROM public.payout_tree t WHERE t.id = NEW.tree_id;
  IF NOT EXISTS (
    SELECT FROM public.payout_chain_event e
    WHERE e.distributor_id = tree.distributor_id AND e.kind = 'PUBLISHED' AND e.sequence = tree.sequence
      AND e.root = tree.root AND e.transaction_hash = NEW.transaction_hash)
  THEN
    RAISE EXCEPTION 'payout_tree %: the chain has not published it', NEW.tree_id
      USING ERRCODE = '23514', CONSTRAINT = 'payout_tree_is_published';
  END IF;
  IF EXISTS (
    SELECT FROM public.payout_tree t
    WHERE t.distributor_id = tree.distributor_id AND t.sequence < tree.sequence
      AND NOT EXISTS (SELECT FROM public.payout_tree_settlement s WHERE s.tree_id = t.id))
  THEN
    RAISE EXCEPTION 'payout_tree %: one before it is not settled', NEW.tree_id USING ERRCODE = '42501';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER guard BEFORE INSERT ON payout_tree_settlement
  FOR EACH ROW EXECUTE FUNCTION patchbay.guard_payout_tree_settlement();

-- As before, and a batch that is being handed over can be cancelled while it is in no tree.
CREATE OR REPLACE FUNCTION patchbay.guard_payout_batch() RETURNS trigger
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
    WHEN 'SUBMITTING>CANCELLED' THEN ARRAY['submitting_at', 'closed_at']
    WHEN 'APPROVED>SUBMITTING' THEN ARRAY['submitting_at']
    WHEN 'SUBMITTING>SUBMITTED' THEN ARRAY['rail_reference', 'rail_sha256', 'submitted_at']
    WHEN 'SUBMITTED>SETTLED' THEN ARRAY['closed_at'] END;
  IF changing IS NULL THEN
    RAISE EXCEPTION 'payout_batch: % cannot become %', OLD.state, NEW.state USING ERRCODE = '42501';
  END IF;
  -- Once a rail was asked, money is free again only where nothing can have come of it.
  IF (OLD.state, NEW.state) = ('SUBMITTING', 'CANCELLED') AND (OLD.rail <> 'CHAIN'
      OR EXISTS (SELECT FROM public.payout_tree t WHERE t.batch_id = OLD.id))
  THEN
    RAISE EXCEPTION 'payout_batch: what was handed over may be paid' USING ERRCODE = '42501';
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

-- As before, with what a chain pays.
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
    WHEN 'SENDING>CANCELLED' THEN batch.state = 'CANCELLED'
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
  -- What is claimed on a chain cannot fail or come back: it is paid by the settlement of the tree that it is in.
  IF batch.rail = 'CHAIN' AND OLD.state <> 'PENDING' AND NEW.state <> 'CANCELLED' AND NOT EXISTS (
    SELECT FROM public.payout_tree_payment p
    JOIN public.payout_tree t ON t.id = p.tree_id
    JOIN public.payout_tree_settlement s ON s.tree_id = t.id
    WHERE p.payment_key = NEW.payment_key AND p.beneficiary_id = NEW.tenant_id AND p.amount_nano = NEW.amount_nano
      AND t.batch_id = NEW.batch_id AND NEW.state = 'PAID'
      AND NEW.bank_reference = t.sequence || ':0x' || encode(s.transaction_hash, 'hex'))
  THEN
    RAISE EXCEPTION 'payout: what is paid on a chain is paid by a tree that is settled'
      USING ERRCODE = '42501', CONSTRAINT = 'payout_paid_by_tree';
  END IF;
  IF batch.rail <> 'CHAIN' AND NEW.bank_reference ~ '^[0-9]+:0x[0-9a-f]{64}$' THEN
    RAISE EXCEPTION 'payout: a bank does not pay by a tree' USING ERRCODE = '42501';
  END IF;
  RETURN NEW;
END
$$;

-- Transactions on a chain: what is to be sent, under which nonce, what was signed for it, and what became of it. How it works:
-- docs/concepts/chain.md. Why it is built this way: docs/decisions/0027-outbox.md.
--
-- They belong to no tenant. Only the system role reads and writes them.

-- Who sends for an account: one process at a time. `token` grows whenever another one takes over, and everything that a sender
-- writes asks for the token that it was given, so that one that was slow writes nothing over its successor.
CREATE TABLE chain_writer (
  chain_id     bigint         NOT NULL CHECK (chain_id > 0),
  account      text           NOT NULL CHECK (account ~ '^0x[0-9a-fA-F]{40}$'),
  token        bigint         NOT NULL CHECK (token > 0),
  held_until   timestamptz(3) NOT NULL,
  -- What the last run saw.
  height       bigint         CHECK (height >= 0),
  balance_wei  numeric(78, 0) CHECK (balance_wei >= 0),
  seen_at      timestamptz(3),
  problem_code text,
  problem      text,
  problem_at   timestamptz(3),
  PRIMARY KEY (chain_id, account),
  CHECK (num_nulls(height, balance_wei, seen_at) IN (0, 3)),
  CHECK (num_nulls(problem_code, problem, problem_at) IN (0, 3))
);

CREATE TABLE chain_transaction (
  id           uuid           PRIMARY KEY,
  -- In which order they were ordered; ids of one millisecond have none.
  position     bigint         NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE,
  chain_id     bigint         NOT NULL CHECK (chain_id > 0),
  purpose      text           NOT NULL CHECK (length(purpose) BETWEEN 1 AND 200),
  recipient    text           NOT NULL CHECK (recipient ~ '^0x[0-9a-fA-F]{40}$'),
  data         bytea          NOT NULL,
  value_wei    numeric(78, 0) NOT NULL CHECK (value_wei >= 0),
  state        text           NOT NULL CHECK (state IN ('QUEUED', 'SIGNED', 'INCLUDED', 'FINAL', 'REVERTED')),
  -- The attempt that is in a block, which one, and whether it did what it was for.
  hash         text           CHECK (hash ~ '^0x[0-9a-f]{64}$'),
  block_number bigint         CHECK (block_number >= 0),
  block_hash   text           CHECK (block_hash ~ '^0x[0-9a-f]{64}$'),
  succeeded    boolean,
  -- Why the contract refused it, where that is known.
  reason       text,
  problem_code text,
  problem      text,
  problem_at   timestamptz(3),
  created_at   timestamptz(3) NOT NULL,
  changed_at   timestamptz(3) NOT NULL,
  UNIQUE (chain_id, purpose),
  CHECK (num_nulls(hash, block_number, block_hash, succeeded) = CASE WHEN state IN ('QUEUED', 'SIGNED') THEN 4 ELSE 0 END),
  CHECK (state <> 'FINAL' OR succeeded),
  CHECK (state <> 'REVERTED' OR NOT succeeded),
  CHECK (reason IS NULL OR NOT succeeded),
  CHECK (num_nulls(problem_code, problem, problem_at) IN (0, 3))
);
CREATE INDEX chain_transaction_open_idx ON chain_transaction (chain_id, position) WHERE state IN ('QUEUED', 'SIGNED', 'INCLUDED');

-- Nonces that were given out, each for one transaction, whatever becomes of it.
CREATE TABLE chain_nonce (
  chain_id       bigint NOT NULL,
  account        text   NOT NULL,
  nonce          bigint NOT NULL CHECK (nonce >= 0),
  transaction_id uuid   NOT NULL REFERENCES chain_transaction (id) ON DELETE RESTRICT,
  gas            bigint NOT NULL CHECK (gas > 0),
  -- The transaction of somebody else with this nonce that is in a final block: nothing of ours can be included any more.
  taken_by       text   CHECK (taken_by ~ '^0x[0-9a-f]{64}$'),
  PRIMARY KEY (chain_id, account, nonce),
  FOREIGN KEY (chain_id, account) REFERENCES chain_writer (chain_id, account) ON DELETE RESTRICT
);
-- Two nonces for one purpose could both be included.
CREATE UNIQUE INDEX chain_nonce_transaction_id_key ON chain_nonce (transaction_id) WHERE taken_by IS NULL;

-- What was signed, each with higher fees than the one before. Written before it is sent.
CREATE TABLE chain_attempt (
  hash             text           PRIMARY KEY CHECK (hash ~ '^0x[0-9a-f]{64}$'),
  chain_id         bigint         NOT NULL,
  account          text           NOT NULL,
  nonce            bigint         NOT NULL,
  number           smallint       NOT NULL CHECK (number > 0),
  signed           bytea          NOT NULL,
  max_fee_wei      numeric(78, 0) NOT NULL CHECK (max_fee_wei > 0),
  -- Null for a chain without EIP-1559.
  priority_fee_wei numeric(78, 0) CHECK (priority_fee_wei BETWEEN 0 AND max_fee_wei),
  signed_at        timestamptz(3) NOT NULL,
  UNIQUE (chain_id, account, nonce, number),
  FOREIGN KEY (chain_id, account, nonce) REFERENCES chain_nonce (chain_id, account, nonce) ON DELETE RESTRICT
);
ALTER TABLE chain_transaction ADD FOREIGN KEY (hash) REFERENCES chain_attempt (hash) ON DELETE RESTRICT;
CREATE INDEX chain_transaction_hash_idx ON chain_transaction (hash);

-- Contracts that epochs are anchored in.
CREATE TABLE anchor_contract (
  chain_id     bigint NOT NULL CHECK (chain_id > 0),
  address      text   NOT NULL CHECK (address ~ '^0x[0-9a-fA-F]{40}$'),
  -- The number that anchoring began with; the contract never changes it.
  first_epoch  bigint CHECK (first_epoch >= 0),
  problem_code text,
  problem      text,
  problem_at   timestamptz(3),
  PRIMARY KEY (chain_id, address),
  CHECK (num_nulls(problem_code, problem, problem_at) IN (0, 3))
);

-- What became of an epoch there. An epoch without a row waits for its turn.
CREATE TABLE epoch_anchor (
  chain_id     bigint   NOT NULL,
  contract     text     NOT NULL,
  epoch        bigint   NOT NULL REFERENCES epoch (number) ON DELETE RESTRICT,
  -- How many transactions were ordered for it: another only after one was reverted. None for what was there already.
  orders       smallint NOT NULL CHECK (orders >= 0),
  state        text     NOT NULL CHECK (state IN ('ORDERED', 'ANCHORED', 'DIFFERS')),
  -- The transaction that anchored it, if it was one of these.
  hash         text     REFERENCES chain_attempt (hash) ON DELETE RESTRICT,
  block_number bigint   CHECK (block_number >= 0),
  block_hash   text     CHECK (block_hash ~ '^0x[0-9a-f]{64}$'),
  PRIMARY KEY (chain_id, contract, epoch),
  FOREIGN KEY (chain_id, contract) REFERENCES anchor_contract (chain_id, address) ON DELETE RESTRICT,
  CHECK (num_nulls(hash, block_number, block_hash) IN (0, 3)),
  CHECK (hash IS NULL OR state = 'ANCHORED'),
  CHECK (orders > 0 OR state <> 'ORDERED')
);
CREATE INDEX epoch_anchor_epoch_idx ON epoch_anchor (epoch);
CREATE INDEX epoch_anchor_hash_idx ON epoch_anchor (hash);

DO $$
DECLARE
  target  text;
  granted text;
BEGIN
  FOR target, granted IN VALUES
    ('chain_writer', 'SELECT, INSERT,
       UPDATE (token, held_until, height, balance_wei, seen_at, problem_code, problem, problem_at)'),
    ('chain_transaction', 'SELECT, INSERT,
       UPDATE (state, hash, block_number, block_hash, succeeded, reason, problem_code, problem, problem_at, changed_at)'),
    ('chain_nonce', 'SELECT, INSERT, UPDATE (taken_by)'), ('chain_attempt', 'SELECT, INSERT'),
    ('anchor_contract', 'SELECT, INSERT, UPDATE (first_epoch, problem_code, problem, problem_at)'),
    ('epoch_anchor', 'SELECT, INSERT, UPDATE (orders, state, hash, block_number, block_hash)')
  LOOP
    EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', target);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', target);
    EXECUTE format('CREATE POLICY system_access ON %I TO patchbay_system USING (true) WITH CHECK (true)', target);
    EXECUTE format('GRANT %s ON %I TO patchbay_system', granted, target);
  END LOOP;
END
$$;
SELECT patchbay.make_append_only('chain_attempt');

-- States move forward, but for two steps back: a block that is not on the chain any more, before it was final, and a nonce that
-- somebody else's transaction has for good.
CREATE FUNCTION patchbay.guard_chain_transaction() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  changing text[];
  open     public.chain_nonce;
BEGIN
  IF TG_OP = 'DELETE' THEN
    RAISE EXCEPTION 'chain_transaction: DELETE refused' USING ERRCODE = '42501';
  END IF;
  IF TG_OP = 'INSERT' THEN
    IF NEW.state <> 'QUEUED' THEN
      RAISE EXCEPTION 'chain_transaction: it begins as QUEUED' USING ERRCODE = '42501';
    END IF;
    RETURN NEW;
  END IF;
  changing := CASE OLD.state || '>' || NEW.state
    WHEN 'QUEUED>QUEUED' THEN '{}'::text[]
    WHEN 'SIGNED>SIGNED' THEN '{}'::text[]
    WHEN 'INCLUDED>INCLUDED' THEN '{}'::text[]
    WHEN 'QUEUED>SIGNED' THEN ARRAY['state']
    WHEN 'SIGNED>QUEUED' THEN ARRAY['state']
    WHEN 'SIGNED>INCLUDED' THEN ARRAY['state', 'hash', 'block_number', 'block_hash', 'succeeded', 'reason']
    WHEN 'INCLUDED>SIGNED' THEN ARRAY['state', 'hash', 'block_number', 'block_hash', 'succeeded', 'reason']
    WHEN 'INCLUDED>FINAL' THEN ARRAY['state']
    WHEN 'INCLUDED>REVERTED' THEN ARRAY['state'] END;
  IF changing IS NULL THEN
    RAISE EXCEPTION 'chain_transaction: % cannot become %', OLD.state, NEW.state USING ERRCODE = '42501';
  END IF;
  changing := changing || ARRAY['problem_code', 'problem', 'problem_at', 'changed_at'];
  IF to_jsonb(NEW) - changing IS DISTINCT FROM to_jsonb(OLD) - changing THEN
    RAISE EXCEPTION 'chain_transaction: what is sent is immutable' USING ERRCODE = '42501';
  END IF;
  SELECT * INTO open FROM public.chain_nonce n WHERE n.transaction_id = NEW.id AND n.taken_by IS NULL;
  IF (NEW.state = 'QUEUED') = (open.nonce IS NOT NULL) THEN
    RAISE EXCEPTION 'chain_transaction: it has a nonce if, and only if, it was signed' USING ERRCODE = '42501';
  END IF;
  IF NOT EXISTS (
    SELECT FROM public.chain_attempt a
    WHERE a.chain_id = open.chain_id AND a.account = open.account AND a.nonce = open.nonce
      AND (NEW.hash IS NULL OR a.hash = NEW.hash)) AND NEW.state <> 'QUEUED'
  THEN
    RAISE EXCEPTION 'chain_transaction: only what was signed for it is sent or included' USING ERRCODE = '42501';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON chain_transaction
  FOR EACH ROW EXECUTE FUNCTION patchbay.guard_chain_transaction();
CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON chain_transaction EXECUTE FUNCTION patchbay.refuse_change();

-- A nonce is given out once, and given up once: for a transaction that was signed, is in no block, and is not the one that took it.
CREATE FUNCTION patchbay.guard_chain_nonce() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    RAISE EXCEPTION 'chain_nonce: DELETE refused' USING ERRCODE = '42501';
  END IF;
  IF TG_OP = 'INSERT' THEN
    IF NEW.taken_by IS NOT NULL OR NOT EXISTS (
      SELECT FROM public.chain_transaction t
      WHERE t.id = NEW.transaction_id AND t.chain_id = NEW.chain_id AND t.state = 'QUEUED')
    THEN
      RAISE EXCEPTION 'chain_nonce: a nonce is given to what is queued for its chain' USING ERRCODE = '42501';
    END IF;
    RETURN NEW;
  END IF;
  IF OLD.taken_by IS NOT NULL OR NEW.taken_by IS NULL
    OR to_jsonb(NEW) - 'taken_by' IS DISTINCT FROM to_jsonb(OLD) - 'taken_by'
    OR EXISTS (SELECT FROM public.chain_attempt a WHERE a.hash = NEW.taken_by)
    OR NOT EXISTS (SELECT FROM public.chain_transaction t WHERE t.id = NEW.transaction_id AND t.state = 'SIGNED')
  THEN
    RAISE EXCEPTION 'chain_nonce: a nonce is given up once, when it was taken by another' USING ERRCODE = '42501';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON chain_nonce
  FOR EACH ROW EXECUTE FUNCTION patchbay.guard_chain_nonce();
CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON chain_nonce EXECUTE FUNCTION patchbay.refuse_change();

-- What the contract said once, it says for ever; and nothing goes on in a contract that has other epochs than these.
CREATE FUNCTION patchbay.guard_anchor_contract() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP = 'DELETE' OR (OLD.chain_id, OLD.address) IS DISTINCT FROM (NEW.chain_id, NEW.address)
    OR NEW.first_epoch IS DISTINCT FROM coalesce(OLD.first_epoch, NEW.first_epoch)
    OR (OLD.problem_code = 'CHAIN_ANCHOR_DIFFERS' AND OLD IS DISTINCT FROM NEW)
  THEN
    RAISE EXCEPTION 'anchor_contract: what is known of a contract is immutable' USING ERRCODE = '42501';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER guard BEFORE UPDATE OR DELETE ON anchor_contract
  FOR EACH ROW EXECUTE FUNCTION patchbay.guard_anchor_contract();
CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON anchor_contract EXECUTE FUNCTION patchbay.refuse_change();

CREATE FUNCTION patchbay.guard_epoch_anchor() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP = 'DELETE' OR OLD.state <> 'ORDERED' OR NEW.orders < OLD.orders
    OR (OLD.chain_id, OLD.contract, OLD.epoch) IS DISTINCT FROM (NEW.chain_id, NEW.contract, NEW.epoch)
  THEN
    RAISE EXCEPTION 'epoch_anchor: an anchor that is final is immutable' USING ERRCODE = '42501';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER guard BEFORE UPDATE OR DELETE ON epoch_anchor
  FOR EACH ROW EXECUTE FUNCTION patchbay.guard_epoch_anchor();
CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON epoch_anchor EXECUTE FUNCTION patchbay.refuse_change();

-- The double-entry ledger: accounts, transfers, postings, limits, balances, and the chain of hashes over them.
-- Why it is built this way: docs/decisions/0017-ledger.md. How it is used: docs/concepts/ledger.md.
--
-- Amounts are whole nano-units of the account's asset, in bigint. One amount is at most 10^18, a billion units; with
-- the bounds on balances below, no sum of three of them can leave the range of a bigint.
--
-- Only the functions at the end write. They belong to patchbay_definer, which alone has the rights; the triggers make
-- the rules hold for whoever else may write one day.
--
-- Facts refer to other facts by value, without foreign keys: nothing is ever deleted, so that it is enough that
-- triggers check once, for a whole statement, that what is named exists.

-- Facts -----------------------------------------------------------------------------------------------------------

CREATE TABLE ledger_account (
  id         uuid PRIMARY KEY,
  tenant_id  uuid        NOT NULL REFERENCES tenant (id) ON DELETE RESTRICT ON UPDATE RESTRICT,
  -- CUSTOMER has a limit and therefore a balance that every transfer updates; the others take any number of credits at
  -- once, and their sums are folded later.
  kind       text        NOT NULL
    CHECK (kind IN ('CUSTOMER', 'EARNINGS', 'PLATFORM_FEE', 'PLATFORM_BASE', 'CASH', 'ADJUSTMENT')),
  asset      text        NOT NULL CHECK (asset ~ '^[A-Z][A-Z0-9]{2,7}$'),
  created_at timestamptz NOT NULL CHECK (isfinite(created_at)),
  CONSTRAINT ledger_account_of_platform
    CHECK (kind IN ('CUSTOMER', 'EARNINGS') OR tenant_id = '00000000-0000-7000-8000-000000000000')
);
CREATE UNIQUE INDEX ledger_account_tenant_id_kind_asset_key ON ledger_account (tenant_id, kind, asset);

-- Every limit that an account ever had; the one with the highest number holds.
CREATE TABLE ledger_limit (
  id           uuid PRIMARY KEY,
  tenant_id    uuid        NOT NULL,
  account_id   uuid        NOT NULL,
  number       integer     NOT NULL CHECK (number > 0),
  credit_limit bigint      NOT NULL CHECK (credit_limit BETWEEN 0 AND 1000000000000000000),
  business_key text        NOT NULL CHECK (char_length(business_key) BETWEEN 1 AND 200),
  created_at   timestamptz NOT NULL CHECK (isfinite(created_at))
);
CREATE UNIQUE INDEX ledger_limit_account_id_number_key ON ledger_limit (account_id, number);
CREATE UNIQUE INDEX ledger_limit_tenant_id_business_key_key ON ledger_limit (tenant_id, business_key);

-- SINGLE moves money at once. PENDING holds `held` of an account and moves nothing. POST, VOID and EXPIRE resolve a
-- pending transfer: POST moves `amount` of what was held, and all three release the rest.
CREATE TABLE ledger_transfer (
  id             uuid PRIMARY KEY,
  -- The tenant on whose behalf it is made, and who may read it.
  tenant_id      uuid        NOT NULL,
  kind           text        NOT NULL CHECK (kind IN ('SINGLE', 'PENDING', 'POST', 'VOID', 'EXPIRE')),
  asset          text        NOT NULL,
  -- What the postings move: the sum of the positive ones.
  amount         bigint      NOT NULL CHECK (amount BETWEEN 0 AND 1000000000000000000),
  -- How many postings there are. Their keys are (transfer, 1 to lines), so none can be added later.
  lines          smallint    NOT NULL CHECK (lines >= 0),
  -- Of a pending transfer and of its resolution, which repeats it: whose money is held, and how much.
  account_id     uuid,
  held           bigint      NOT NULL CHECK (held BETWEEN 0 AND 1000000000000000000),
  pending_id     uuid,
  -- What makes it unique: the caller's key of a transfer that starts something, the pending transfer of a resolution.
  business_key   text        CHECK (char_length(business_key) BETWEEN 1 AND 200),
  reference_type text        NOT NULL CHECK (reference_type ~ '^[a-z][a-z_]{0,31}$'),
  reference_id   uuid,
  expires_at     timestamptz,
  created_at     timestamptz NOT NULL,
  CONSTRAINT ledger_transfer_lines_of_amount CHECK ((lines >= 2) = (amount > 0) AND (lines = 0) = (amount = 0)),
  CONSTRAINT ledger_transfer_key
    CHECK ((pending_id IS NOT NULL) = (kind IN ('POST', 'VOID', 'EXPIRE')) AND (pending_id IS NULL) = (business_key IS NOT NULL)),
  CONSTRAINT ledger_transfer_holds CHECK ((account_id IS NULL) = (kind = 'SINGLE') AND (kind <> 'SINGLE' OR held = 0)),
  CONSTRAINT ledger_transfer_moves
    CHECK (CASE kind WHEN 'SINGLE' THEN amount > 0 WHEN 'POST' THEN amount <= held ELSE amount = 0 END),
  CONSTRAINT ledger_transfer_expires CHECK ((expires_at IS NULL OR kind = 'PENDING') AND isfinite(expires_at)),
  CONSTRAINT ledger_transfer_created CHECK (isfinite(created_at))
);
-- Over a hash of tenant and key, and not over the two: a lookup by this expression has no other index to go by. Given
-- tenant and key, a plan that was made while the table was small may go through all transfers of the tenant instead.
-- Who finds two keys with one MD5 gets their own second transfer refused.
CREATE UNIQUE INDEX ledger_transfer_business_key_key
  ON ledger_transfer ((md5(tenant_id::text || business_key)::uuid)) WHERE business_key IS NOT NULL;
-- A pending transfer resolves at most once.
CREATE UNIQUE INDEX ledger_transfer_pending_id_key ON ledger_transfer (pending_id) WHERE pending_id IS NOT NULL;
CREATE INDEX ledger_transfer_tenant_id_id_idx ON ledger_transfer (tenant_id, id);

CREATE TABLE ledger_posting (
  transfer_id uuid        NOT NULL,
  line        smallint    NOT NULL CHECK (line > 0),
  account_id  uuid        NOT NULL,
  -- Whose account it is, and who may read the line. A beneficiary sees their line and not the payer's.
  tenant_id   uuid        NOT NULL,
  amount      bigint      NOT NULL
    CHECK (amount <> 0 AND amount BETWEEN -1000000000000000000 AND 1000000000000000000),
  -- What the line is for: the adapter version of an earning, for instance.
  subject_id  uuid,
  created_at  timestamptz NOT NULL,
  PRIMARY KEY (transfer_id, line)
);
CREATE INDEX ledger_posting_account_id_transfer_id_idx ON ledger_posting (account_id, transfer_id);

-- Derived from the facts -------------------------------------------------------------------------------------------

-- What an account may still spend. `posted` is kept for limited accounts alone: the row is the lock that decides who
-- gets the last of a balance, and accounts that only receive need no such decision.
CREATE TABLE ledger_balance (
  account_id   uuid PRIMARY KEY,
  tenant_id    uuid    NOT NULL,
  limited      boolean NOT NULL,
  posted       bigint  NOT NULL DEFAULT 0 CHECK (posted BETWEEN -4000000000000000000 AND 4000000000000000000),
  held         bigint  NOT NULL DEFAULT 0 CHECK (held BETWEEN 0 AND 4000000000000000000),
  credit_limit bigint  NOT NULL DEFAULT 0 CHECK (credit_limit >= 0),
  CONSTRAINT ledger_balance_within_limit CHECK (NOT limited OR credit_limit + posted - held >= 0),
  CONSTRAINT ledger_balance_posted_is_limited CHECK (limited OR (posted = 0 AND credit_limit = 0))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX ledger_balance_tenant_id_idx ON ledger_balance (tenant_id);

-- Sums of all sealed postings of accounts without a limit. One writer, the sealer, adds a batch at a time.
CREATE TABLE ledger_fold (
  account_id uuid PRIMARY KEY,
  tenant_id  uuid           NOT NULL,
  posted     numeric(38, 0) NOT NULL,
  postings   bigint         NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX ledger_fold_tenant_id_idx ON ledger_fold (tenant_id);

-- Pending transfers that nothing has resolved yet: as small as what is running.
CREATE TABLE ledger_open_hold (
  transfer_id uuid PRIMARY KEY,
  tenant_id   uuid NOT NULL,
  expires_at  timestamptz
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX ledger_open_hold_expires_at_idx ON ledger_open_hold (expires_at) WHERE expires_at IS NOT NULL;

-- The chain --------------------------------------------------------------------------------------------------------

-- Facts that no batch holds yet, one row for each statement that wrote some. A queue and not a range of numbers:
-- numbers become visible out of order, and a sealer that goes by them would pass over what commits late.
CREATE TABLE ledger_unsealed (
  what text   NOT NULL CHECK (what IN ('account', 'limit', 'transfer')),
  ids  uuid[] NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- hash = SHA-256 over the batch's header and the hashes of its rows, in the order of the members: accounts, limits,
-- then each transfer followed by its postings. Marks are the first 8 bytes of each row's hash; they prove nothing, and
-- tell which row of a batch is wrong.
CREATE TABLE ledger_batch (
  sequence      bigint      PRIMARY KEY CHECK (sequence > 0),
  previous_hash bytea       NOT NULL CHECK (octet_length(previous_hash) = 32),
  sealed_at     timestamptz NOT NULL CHECK (isfinite(sealed_at)),
  account_ids   uuid[]      NOT NULL,
  limit_ids     uuid[]      NOT NULL,
  transfer_ids  uuid[]      NOT NULL,
  row_count     integer     NOT NULL CHECK (row_count > 0),
  marks         bytea       NOT NULL,
  hash          bytea       NOT NULL CHECK (octet_length(hash) = 32),
  CONSTRAINT ledger_batch_marks_of_rows CHECK (octet_length(marks) = 8 * row_count)
);
-- Two batches cannot follow the same one.
CREATE UNIQUE INDEX ledger_batch_previous_hash_key ON ledger_batch (previous_hash);

-- Rights -----------------------------------------------------------------------------------------------------------

DO $$
DECLARE
  target   text;
  writable text;
BEGIN
  FOR target, writable IN VALUES
    ('ledger_account', 'SELECT, INSERT'), ('ledger_limit', 'SELECT, INSERT'), ('ledger_transfer', 'SELECT, INSERT'),
    ('ledger_posting', 'SELECT, INSERT'), ('ledger_balance', 'SELECT, INSERT, UPDATE (posted, held, credit_limit)'),
    ('ledger_fold', 'SELECT, INSERT, UPDATE (posted, postings)'), ('ledger_open_hold', 'SELECT, INSERT, DELETE')
  LOOP
    PERFORM patchbay.protect_tenant_table(target::regclass, 'SELECT', 'SELECT');
    EXECUTE format('GRANT %s ON %I TO patchbay_definer', writable, target);
    EXECUTE format('CREATE POLICY ledger_writer ON %I TO patchbay_definer USING (true) WITH CHECK (true)', target);
  END LOOP;
  -- These belong to no tenant.
  FOR target, writable IN VALUES ('ledger_unsealed', 'SELECT, INSERT, DELETE'), ('ledger_batch', 'SELECT, INSERT') LOOP
    EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', target);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', target);
    EXECUTE format('CREATE POLICY system_access ON %I FOR SELECT TO patchbay_system USING (true)', target);
    EXECUTE format('GRANT SELECT ON %I TO patchbay_system', target);
    EXECUTE format('GRANT %s ON %I TO patchbay_definer', writable, target);
    EXECUTE format('CREATE POLICY ledger_writer ON %I TO patchbay_definer USING (true) WITH CHECK (true)', target);
  END LOOP;
END
$$;
SELECT patchbay.make_append_only('ledger_account');
SELECT patchbay.make_append_only('ledger_limit');
SELECT patchbay.make_append_only('ledger_transfer');
SELECT patchbay.make_append_only('ledger_posting');
SELECT patchbay.make_append_only('ledger_batch');

-- Rules ------------------------------------------------------------------------------------------------------------

-- Triggers and functions run on plans that are kept for the life of a connection. A plan that was made while a table
-- was empty would read all of it later, so these functions may use indexes only. What Postgres adds to the cost of a
-- plan that it was told to avoid would also make it compile each one, hence no JIT.

CREATE FUNCTION patchbay.ledger_after_accounts() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO public.ledger_balance (account_id, tenant_id, limited)
  SELECT id, tenant_id, kind = 'CUSTOMER' FROM added;
  INSERT INTO public.ledger_unsealed (what, ids) SELECT 'account', array_agg(id) FROM added HAVING count(*) > 0;
  RETURN NULL;
END
$$;
CREATE TRIGGER ledger_account_added AFTER INSERT ON ledger_account REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION patchbay.ledger_after_accounts();

CREATE FUNCTION patchbay.ledger_after_limit() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NEW.number > 1 AND NOT EXISTS (
    SELECT FROM public.ledger_limit WHERE account_id = NEW.account_id AND number = NEW.number - 1)
  THEN
    RAISE EXCEPTION 'limit % of account % skips a number', NEW.number, NEW.account_id USING ERRCODE = '23514';
  END IF;
  UPDATE public.ledger_balance SET credit_limit = NEW.credit_limit
  WHERE account_id = NEW.account_id AND tenant_id = NEW.tenant_id AND limited;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'account % has no limit to set', NEW.account_id USING ERRCODE = '23503';
  END IF;
  INSERT INTO public.ledger_unsealed (what, ids) VALUES ('limit', ARRAY[NEW.id]);
  RETURN NULL;
END
$$;
CREATE TRIGGER ledger_limit_added AFTER INSERT ON ledger_limit
  FOR EACH ROW EXECUTE FUNCTION patchbay.ledger_after_limit();

-- A POST debits the held account by its whole amount (checked at commit), so its part of the balance is updated here
-- together with what was held, and not a second time with the postings.
CREATE FUNCTION patchbay.ledger_after_transfers() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off
  SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
  IF EXISTS (
    SELECT FROM added r LEFT JOIN public.ledger_transfer p ON p.id = r.pending_id
    WHERE r.pending_id IS NOT NULL
      AND (p.kind, p.tenant_id, p.asset, p.account_id, p.held)
          IS DISTINCT FROM ('PENDING', r.tenant_id, r.asset, r.account_id, r.held))
  THEN
    RAISE EXCEPTION 'a resolution does not fit its pending transfer' USING ERRCODE = '23514',
      CONSTRAINT = 'ledger_transfer_fits_pending';
  END IF;
  IF EXISTS (
    SELECT FROM added r LEFT JOIN public.ledger_account a ON a.id = r.account_id
    WHERE r.kind = 'PENDING' AND (a.tenant_id, a.asset) IS DISTINCT FROM (r.tenant_id, r.asset))
  THEN
    RAISE EXCEPTION 'a pending transfer does not fit its account' USING ERRCODE = '23514',
      CONSTRAINT = 'ledger_transfer_fits_account';
  END IF;
  UPDATE public.ledger_balance b
  SET held = b.held + d.held, posted = b.posted - CASE WHEN b.limited THEN d.amount ELSE 0 END
  FROM (
    SELECT account_id, sum(CASE kind WHEN 'PENDING' THEN held ELSE -held END)::bigint AS held,
           sum(amount)::bigint AS amount
    FROM added WHERE account_id IS NOT NULL GROUP BY account_id
  ) d
  WHERE b.account_id = d.account_id;
  INSERT INTO public.ledger_open_hold (transfer_id, tenant_id, expires_at)
  SELECT id, tenant_id, expires_at FROM added WHERE kind = 'PENDING';
  DELETE FROM public.ledger_open_hold o USING added r WHERE o.transfer_id = r.pending_id;
  INSERT INTO public.ledger_unsealed (what, ids) SELECT 'transfer', array_agg(id) FROM added HAVING count(*) > 0;
  RETURN NULL;
END
$$;
CREATE TRIGGER ledger_transfer_added AFTER INSERT ON ledger_transfer REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION patchbay.ledger_after_transfers();

-- One pass over the lines, because there are more of them than of anything else.
CREATE FUNCTION patchbay.ledger_after_postings() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off
  SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
  fits    boolean;
  changed uuid[];
  amounts bigint[];
BEGIN
  WITH line AS MATERIALIZED (
    SELECT p.account_id, p.amount,
           (p.line <= t.lines AND p.created_at = t.created_at AND a.asset = t.asset AND a.tenant_id = p.tenant_id)
             IS TRUE AS fits,
           a.kind = 'CUSTOMER' AND (t.kind = 'SINGLE' OR t.account_id <> p.account_id) AS counts
    FROM added p
    LEFT JOIN public.ledger_transfer t ON t.id = p.transfer_id
    LEFT JOIN public.ledger_account a ON a.id = p.account_id
  ), summed AS (
    SELECT l.account_id, sum(l.amount)::bigint AS amount FROM line l WHERE l.counts GROUP BY l.account_id
  )
  SELECT (SELECT bool_and(l.fits) FROM line l), array_agg(s.account_id), array_agg(s.amount)
  INTO fits, changed, amounts FROM summed s;
  IF NOT fits THEN
    RAISE EXCEPTION 'a posting does not fit its transfer or its account' USING ERRCODE = '23514',
      CONSTRAINT = 'ledger_posting_fits';
  END IF;
  IF changed IS NOT NULL THEN
    UPDATE public.ledger_balance b SET posted = b.posted + d.amount
    FROM unnest(changed, amounts) AS d(account_id, amount) WHERE b.account_id = d.account_id;
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER ledger_posting_added AFTER INSERT ON ledger_posting REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION patchbay.ledger_after_postings();

-- Parts equal wholes, at commit: all lines are there, they sum to zero, what they move is the amount, and a POST takes
-- all of it from the account that was held.
CREATE FUNCTION patchbay.ledger_check_transfer() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  found record;
BEGIN
  SELECT count(*) AS lines, sum(p.amount) AS net, sum(p.amount) FILTER (WHERE p.amount > 0) AS moved,
         sum(p.amount) FILTER (WHERE p.account_id = NEW.account_id) AS payer
  INTO found FROM public.ledger_posting p WHERE p.transfer_id = NEW.id;
  IF found.lines <> NEW.lines OR found.net <> 0 OR found.moved <> NEW.amount
     OR (NEW.kind = 'POST' AND found.payer IS DISTINCT FROM -NEW.amount)
  THEN
    RAISE EXCEPTION 'transfer % is out of balance: % of % lines, net %, moved % of %',
      NEW.id, found.lines, NEW.lines, found.net, found.moved, NEW.amount
      USING ERRCODE = '23514', CONSTRAINT = 'ledger_transfer_balanced';
  END IF;
  RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER ledger_transfer_balanced AFTER INSERT ON ledger_transfer
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.lines > 0)
  EXECUTE FUNCTION patchbay.ledger_check_transfer();

-- Writing ----------------------------------------------------------------------------------------------------------
--
-- All of these take arrays and run a fixed number of statements whatever their length, so that a group commit writes
-- everything of a round at once. Outcomes are returned for each item, in any order, and not raised: one refused hold
-- must not undo the others of its round. What is raised is a bug of the caller (23514).
--
-- Plans are made once and without knowledge of the arrays. What is looked up in a table is therefore LATERAL with a
-- LIMIT, which only a loop over an index can answer, and what is joined with each other within a batch is hashed.
--
-- Lock order: the balance rows of a statement by account id, and nothing before them. A transaction that calls several
-- of these calls ledger_lock first, with the accounts of all.

CREATE FUNCTION patchbay.ledger_lock(account_ids uuid[]) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
  PERFORM FROM public.ledger_balance b WHERE b.account_id = ANY (account_ids)
  ORDER BY b.account_id FOR NO KEY UPDATE;
END
$$;
SELECT patchbay.make_definer('patchbay.ledger_lock(uuid[])', 'patchbay_system');

-- Opens the account, or finds it.
CREATE FUNCTION patchbay.ledger_open_account(
  new_id uuid, of_tenant uuid, of_kind text, of_asset text, at timestamptz
) RETURNS uuid
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found uuid;
BEGIN
  INSERT INTO public.ledger_account (id, tenant_id, kind, asset, created_at)
  VALUES (new_id, of_tenant, of_kind, of_asset, at)
  ON CONFLICT (tenant_id, kind, asset) DO NOTHING;
  SELECT id INTO found FROM public.ledger_account
  WHERE tenant_id = of_tenant AND kind = of_kind AND asset = of_asset;
  RETURN found;
END
$$;
SELECT patchbay.make_definer(
  'patchbay.ledger_open_account(uuid, uuid, text, text, timestamptz)', 'patchbay_system');

-- Sets how far a customer's balance may go below zero. WRITTEN, REPLAYED, CONFLICT or UNKNOWN; a limit below what is
-- used already breaks ledger_balance_within_limit.
CREATE FUNCTION patchbay.ledger_set_limit(
  new_id uuid, of_account uuid, new_limit bigint, key text, at timestamptz
) RETURNS text
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  owner uuid;
  known public.ledger_limit;
BEGIN
  -- The lock numbers the limits of an account one after the other.
  SELECT tenant_id INTO owner FROM public.ledger_balance WHERE account_id = of_account AND limited
  FOR NO KEY UPDATE;
  IF owner IS NULL THEN
    RETURN 'UNKNOWN';
  END IF;
  SELECT * INTO known FROM public.ledger_limit WHERE tenant_id = owner AND business_key = key;
  IF known.id IS NOT NULL THEN
    RETURN CASE WHEN known.account_id = of_account AND known.credit_limit = new_limit THEN 'REPLAYED'
                ELSE 'CONFLICT' END;
  END IF;
  INSERT INTO public.ledger_limit (id, tenant_id, account_id, number, credit_limit, business_key, created_at)
  SELECT new_id, owner, of_account, coalesce(max(number), 0) + 1, new_limit, key, at
  FROM public.ledger_limit WHERE account_id = of_account;
  RETURN 'WRITTEN';
END
$$;
SELECT patchbay.make_definer('patchbay.ledger_set_limit(uuid, uuid, bigint, text, timestamptz)', 'patchbay_system');

-- Balances as of the statement. Of an account without a limit: what is folded, and what waits to be sealed.
CREATE FUNCTION patchbay.ledger_balances(account_ids uuid[]) RETURNS TABLE (
    account_id uuid, tenant_id uuid, kind text, asset text, posted numeric, held bigint, credit_limit bigint,
    available numeric)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
  SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
  WITH wanted AS (
    SELECT b.*, a.kind, a.asset, coalesce(f.posted, 0) AS folded
    FROM public.ledger_balance b
    JOIN public.ledger_account a ON a.id = b.account_id
    LEFT JOIN public.ledger_fold f ON f.account_id = b.account_id
    WHERE b.account_id = ANY (account_ids)
  ), waiting AS (
    SELECT p.account_id, sum(p.amount) AS amount
    FROM public.ledger_unsealed u CROSS JOIN LATERAL unnest(u.ids) AS w(id)
    JOIN public.ledger_posting p ON p.transfer_id = w.id
    WHERE u.what = 'transfer' AND EXISTS (SELECT FROM wanted w WHERE NOT w.limited)
      AND p.account_id IN (SELECT w.account_id FROM wanted w WHERE NOT w.limited)
    GROUP BY p.account_id
  ), summed AS (
    SELECT w.*, CASE WHEN w.limited THEN w.posted ELSE w.folded + coalesce(n.amount, 0) END AS total
    FROM wanted w LEFT JOIN waiting n ON n.account_id = w.account_id
  )
  SELECT account_id, tenant_id, kind, asset, total, held, credit_limit, credit_limit + total - held FROM summed
$$;
SELECT patchbay.make_definer('patchbay.ledger_balances(uuid[])', 'patchbay_system');

-- The same for all accounts of the current tenant, who cannot see what waits to be sealed.
CREATE FUNCTION patchbay.ledger_own_balances() RETURNS TABLE (
    account_id uuid, tenant_id uuid, kind text, asset text, posted numeric, held bigint, credit_limit bigint,
    available numeric)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT b.* FROM patchbay.ledger_balances(ARRAY(
    SELECT a.id FROM public.ledger_account a WHERE a.tenant_id = patchbay.current_tenant())) b
$$;
SELECT patchbay.make_definer('patchbay.ledger_own_balances()', 'patchbay_app');

-- Adds an amount to what is used of a room, if it fits: as a window aggregate it lets each hold of a batch in that fits
-- behind those let in before it.
CREATE FUNCTION patchbay.ledger_fit(used bigint, amount bigint, room bigint) RETURNS bigint
  LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN CASE WHEN amount <= room - used THEN used + amount ELSE used END;
END
$$;
CREATE AGGREGATE patchbay.ledger_fitted (bigint, bigint) (
  SFUNC = patchbay.ledger_fit, STYPE = bigint, INITCOND = '0', PARALLEL = SAFE);
REVOKE ALL ON FUNCTION patchbay.ledger_fitted(bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION patchbay.ledger_fit(bigint, bigint, bigint), patchbay.ledger_fitted(bigint, bigint)
  TO patchbay_definer;

-- Reserves amounts. HELD; REFUSED: more than is available; REPLAYED: held before under the same key, `id` says as what;
-- CONFLICT: the key stands for something else; UNKNOWN: no such account. `available` is what the account had left
-- before this batch.
CREATE FUNCTION patchbay.ledger_hold(
  ids uuid[], account_ids uuid[], amounts bigint[], keys text[], reference text, reference_ids uuid[],
  expiries timestamptz[], at timestamptz
) RETURNS TABLE (ord integer, id uuid, outcome text, available numeric)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
  SET enable_seqscan = off SET enable_nestloop = off SET enable_mergejoin = off AS $$
BEGIN
  PERFORM FROM public.ledger_balance b WHERE b.account_id = ANY (account_ids)
  ORDER BY b.account_id FOR NO KEY UPDATE;
  -- A new statement, hence a new snapshot: it sees what whoever had the locks before has done.
  RETURN QUERY
  WITH input AS (
    SELECT i.ord::integer AS ord, i.id, i.account_id, i.amount, i.key, i.reference_id, i.expires_at, b.tenant_id,
           a.asset, CASE WHEN b.limited THEN b.credit_limit + b.posted - b.held END AS room,
           row_number() OVER (PARTITION BY i.account_id, i.key ORDER BY i.ord) AS nth,
           first_value(i.id) OVER (PARTITION BY i.account_id, i.key ORDER BY i.ord) AS first_id,
           first_value(i.amount) OVER (PARTITION BY i.account_id, i.key ORDER BY i.ord) AS first_amount
    FROM unnest(ids, account_ids, amounts, keys, reference_ids, expiries)
      WITH ORDINALITY AS i(id, account_id, amount, key, reference_id, expires_at, ord)
    LEFT JOIN LATERAL (
      SELECT o.* FROM public.ledger_balance o WHERE o.account_id = i.account_id LIMIT 1) b ON true
    LEFT JOIN LATERAL (SELECT o.asset FROM public.ledger_account o WHERE o.id = i.account_id LIMIT 1) a ON true
  ), known AS (
    SELECT i.ord, t.id, t.kind = 'PENDING' AND t.account_id = i.account_id AND t.held = i.amount
           AND t.reference_type = reference AND t.reference_id IS NOT DISTINCT FROM i.reference_id AS same
    FROM input i
    CROSS JOIN LATERAL (
      SELECT o.* FROM public.ledger_transfer o
      WHERE md5(o.tenant_id::text || o.business_key)::uuid = md5(i.tenant_id::text || i.key)::uuid
        AND o.business_key IS NOT NULL AND o.business_key = i.key LIMIT 1) t
  ), fresh AS (
    SELECT i.ord, i.id, i.account_id, i.amount, i.key, i.reference_id, i.expires_at, i.tenant_id, i.asset,
           coalesce(i.room, (
             SELECT greatest(least(o.available, 4000000000000000000), -4000000000000000000)::bigint
             FROM patchbay.ledger_balances(ARRAY[i.account_id]) o)) AS room
    FROM input i
    WHERE i.tenant_id IS NOT NULL AND i.nth = 1 AND NOT EXISTS (SELECT FROM known k WHERE k.ord = i.ord)
  ), fitted AS (
    SELECT f.*, patchbay.ledger_fitted(f.amount, f.room) OVER (PARTITION BY f.account_id ORDER BY f.ord) AS used
    FROM fresh f
  ), decided AS (
    SELECT f.*,
           f.amount <= f.room - coalesce(lag(f.used) OVER (PARTITION BY f.account_id ORDER BY f.ord), 0) AS fits
    FROM fitted f
  ), written AS (
    INSERT INTO public.ledger_transfer (
      id, tenant_id, kind, asset, amount, lines, account_id, held, business_key, reference_type, reference_id,
      expires_at, created_at)
    SELECT d.id, d.tenant_id, 'PENDING', d.asset, 0, 0, d.account_id, d.amount, d.key, reference, d.reference_id,
           d.expires_at, coalesce(at, now())
    FROM decided d WHERE d.fits
  )
  SELECT i.ord, coalesce(k.id, i.first_id),
         CASE WHEN i.tenant_id IS NULL THEN 'UNKNOWN'
              WHEN k.ord IS NOT NULL THEN CASE WHEN k.same THEN 'REPLAYED' ELSE 'CONFLICT' END
              WHEN i.amount <> i.first_amount THEN 'CONFLICT'
              WHEN NOT d.fits THEN 'REFUSED'
              WHEN i.nth > 1 THEN 'REPLAYED'
              ELSE 'HELD' END,
         d.room::numeric
  FROM input i
  LEFT JOIN known k ON k.ord = i.ord
  LEFT JOIN decided d ON d.id = i.first_id;
END
$$;
SELECT patchbay.make_definer(
  'patchbay.ledger_hold(uuid[], uuid[], bigint[], text[], text, uuid[], timestamptz[], timestamptz)',
  'patchbay_system');

-- Posts amounts of holds and releases the rest. Credits name their capture by its place (from 1); they add up to its
-- amount, and the held account is debited by as much. POSTED; REPLAYED: resolved so before; RESOLVED: resolved
-- otherwise before; EXCEEDS: more than was held; UNKNOWN: no such hold.
CREATE FUNCTION patchbay.ledger_capture(
  ids uuid[], pending_ids uuid[], amounts bigint[], credit_of integer[], credit_accounts uuid[],
  credit_amounts bigint[], credit_subjects uuid[], at timestamptz
) RETURNS TABLE (ord integer, id uuid, outcome text)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
  SET enable_seqscan = off SET enable_nestloop = off SET enable_mergejoin = off AS $$
BEGIN
  PERFORM FROM public.ledger_balance b
  WHERE b.account_id = ANY (ARRAY(SELECT t.account_id FROM public.ledger_transfer t WHERE t.id = ANY (pending_ids)))
  ORDER BY b.account_id FOR NO KEY UPDATE;
  RETURN QUERY
  WITH credit AS (
    SELECT c.capture, c.account_id, c.amount, c.subject_id,
           1 + row_number() OVER (PARTITION BY c.capture ORDER BY c.ord) AS line
    FROM unnest(credit_of, credit_accounts, credit_amounts, credit_subjects)
      WITH ORDINALITY AS c(capture, account_id, amount, subject_id, ord)
  ), counted AS (
    SELECT c.capture, count(*) AS credits FROM credit c GROUP BY c.capture
  ), found AS (
    SELECT i.ord::integer AS ord, i.id, i.amount, p.id AS pending_id, p.tenant_id, p.asset, p.account_id, p.held,
           p.reference_type, p.reference_id, r.id AS resolved_id, r.kind AS resolved_kind,
           r.amount AS resolved_amount, coalesce(at, now()) AS created_at,
           p.id IS NOT NULL AND r.id IS NULL AND i.amount <= p.held AS valid
    FROM unnest(ids, pending_ids, amounts) WITH ORDINALITY AS i(id, pending_id, amount, ord)
    LEFT JOIN LATERAL (
      SELECT o.* FROM public.ledger_transfer o WHERE o.id = i.pending_id AND o.kind = 'PENDING' LIMIT 1) p ON true
    LEFT JOIN LATERAL (
      SELECT o.* FROM public.ledger_transfer o WHERE o.pending_id = i.pending_id LIMIT 1) r ON true
  ), input AS (
    -- The first of a batch that fits a hold is made; others of the same hold are compared with it.
    SELECT f.*, first_value(f.ord) OVER same AS first_ord, first_value(f.id) OVER same AS first_id,
           first_value(f.amount) OVER same AS first_amount
    FROM found f WINDOW same AS (PARTITION BY f.pending_id, f.valid ORDER BY f.ord)
  ), fresh AS (
    SELECT i.* FROM input i WHERE i.valid AND i.ord = i.first_ord
  ), written AS (
    INSERT INTO public.ledger_transfer (
      id, tenant_id, kind, asset, amount, lines, account_id, held, pending_id, reference_type, reference_id,
      created_at)
    SELECT f.id, f.tenant_id, 'POST', f.asset, f.amount,
           coalesce(n.credits, 0) + CASE WHEN f.amount > 0 THEN 1 ELSE 0 END, f.account_id, f.held, f.pending_id,
           f.reference_type, f.reference_id, f.created_at
    FROM fresh f LEFT JOIN counted n ON n.capture = f.ord
  ), posted AS (
    INSERT INTO public.ledger_posting (transfer_id, line, account_id, tenant_id, amount, subject_id, created_at)
    SELECT f.id, 1, f.account_id, f.tenant_id, -f.amount, NULL, f.created_at FROM fresh f WHERE f.amount > 0
    UNION ALL
    SELECT f.id, c.line, c.account_id, a.tenant_id, c.amount, c.subject_id, f.created_at
    FROM fresh f JOIN credit c ON c.capture = f.ord
    LEFT JOIN LATERAL (SELECT o.tenant_id FROM public.ledger_account o WHERE o.id = c.account_id LIMIT 1) a ON true
  )
  SELECT i.ord, coalesce(i.resolved_id, i.first_id),
         CASE WHEN i.pending_id IS NULL THEN 'UNKNOWN'
              WHEN i.amount > i.held THEN 'EXCEEDS'
              WHEN i.valid AND i.ord = i.first_ord THEN 'POSTED'
              WHEN i.valid AND i.amount = i.first_amount AND NOT EXISTS (
                SELECT c.account_id, c.amount, c.subject_id FROM credit c WHERE c.capture = i.ord
                EXCEPT ALL
                SELECT c.account_id, c.amount, c.subject_id FROM credit c WHERE c.capture = i.first_ord)
                THEN 'REPLAYED'
              WHEN i.resolved_kind = 'POST' AND i.resolved_amount = i.amount AND NOT EXISTS (
                SELECT c.account_id, c.amount, c.subject_id FROM credit c WHERE c.capture = i.ord
                EXCEPT ALL
                SELECT p.account_id, p.amount, p.subject_id FROM public.ledger_posting p
                WHERE p.transfer_id = i.resolved_id AND p.line > 1) THEN 'REPLAYED'
              ELSE 'RESOLVED' END
  FROM input i;
END
$$;
SELECT patchbay.make_definer(
  'patchbay.ledger_capture(uuid[], uuid[], bigint[], integer[], uuid[], bigint[], uuid[], timestamptz)',
  'patchbay_system');

-- Releases holds whole. RELEASED; REPLAYED: released so before; RESOLVED: resolved otherwise; UNKNOWN: no such hold.
CREATE FUNCTION patchbay.ledger_release(as_kind text, ids uuid[], pending_ids uuid[], at timestamptz)
  RETURNS TABLE (ord integer, id uuid, outcome text)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
  SET enable_seqscan = off SET enable_nestloop = off SET enable_mergejoin = off AS $$
BEGIN
  PERFORM FROM public.ledger_balance b
  WHERE b.account_id = ANY (ARRAY(SELECT t.account_id FROM public.ledger_transfer t WHERE t.id = ANY (pending_ids)))
  ORDER BY b.account_id FOR NO KEY UPDATE;
  RETURN QUERY
  WITH input AS (
    SELECT i.ord::integer AS ord, i.id, p.id AS pending_id, p.tenant_id, p.asset, p.account_id, p.held,
           p.reference_type, p.reference_id, r.id AS resolved_id, r.kind AS resolved_kind,
           first_value(i.id) OVER (PARTITION BY i.pending_id ORDER BY i.ord) AS first_id,
           row_number() OVER (PARTITION BY i.pending_id ORDER BY i.ord) AS nth
    FROM unnest(ids, pending_ids) WITH ORDINALITY AS i(id, pending_id, ord)
    LEFT JOIN LATERAL (
      SELECT o.* FROM public.ledger_transfer o WHERE o.id = i.pending_id AND o.kind = 'PENDING' LIMIT 1) p ON true
    LEFT JOIN LATERAL (
      SELECT o.* FROM public.ledger_transfer o WHERE o.pending_id = i.pending_id LIMIT 1) r ON true
  ), written AS (
    INSERT INTO public.ledger_transfer (
      id, tenant_id, kind, asset, amount, lines, account_id, held, pending_id, reference_type, reference_id,
      created_at)
    SELECT i.id, i.tenant_id, as_kind, i.asset, 0, 0, i.account_id, i.held, i.pending_id, i.reference_type,
           i.reference_id, coalesce(at, now())
    FROM input i WHERE i.pending_id IS NOT NULL AND i.resolved_id IS NULL AND i.nth = 1
  )
  SELECT i.ord, coalesce(i.resolved_id, i.first_id),
         CASE WHEN i.pending_id IS NULL THEN 'UNKNOWN'
              WHEN i.resolved_id IS NULL AND i.nth = 1 THEN 'RELEASED'
              WHEN i.resolved_id IS NULL OR i.resolved_kind = as_kind THEN 'REPLAYED'
              ELSE 'RESOLVED' END
  FROM input i;
END
$$;
SELECT patchbay.make_definer('patchbay.ledger_release(text, uuid[], uuid[], timestamptz)', 'patchbay_definer');

CREATE FUNCTION patchbay.ledger_void(ids uuid[], pending_ids uuid[], at timestamptz)
  RETURNS TABLE (ord integer, id uuid, outcome text)
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT * FROM patchbay.ledger_release('VOID', ids, pending_ids, at)
$$;
SELECT patchbay.make_definer('patchbay.ledger_void(uuid[], uuid[], timestamptz)', 'patchbay_system');

-- Releases holds that have run out, the oldest first, at most as many as there are ids; returns which. Which have run
-- out is asked before the locks are taken, in their one order; what was resolved meanwhile is left alone.
CREATE FUNCTION patchbay.ledger_expire(ids uuid[], at timestamptz) RETURNS TABLE (pending_id uuid, tenant_id uuid)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  due uuid[];
BEGIN
  due := ARRAY(
    SELECT o.transfer_id FROM public.ledger_open_hold o WHERE o.expires_at <= coalesce(at, now())
    ORDER BY o.expires_at, o.transfer_id LIMIT cardinality(ids));
  RETURN QUERY
  SELECT t.id, t.tenant_id
  FROM patchbay.ledger_release('EXPIRE', ids[1:cardinality(due)], due, at) r
  JOIN public.ledger_transfer t ON t.id = due[r.ord]
  WHERE r.outcome = 'RELEASED';
END
$$;
SELECT patchbay.make_definer('patchbay.ledger_expire(uuid[], timestamptz)', 'patchbay_system');

-- Moves money at once: top-ups, refunds, adjustments, payments. Lines name their transfer by its place (from 1), and
-- have signs. POSTED; REPLAYED; CONFLICT: the key stands for something else; UNKNOWN: a line's account does not exist.
-- A debit that does not fit breaks ledger_balance_within_limit and undoes the whole call.
CREATE FUNCTION patchbay.ledger_post(
  ids uuid[], tenant_ids uuid[], assets text[], keys text[], reference_types text[], reference_ids uuid[],
  line_of integer[], line_accounts uuid[], line_amounts bigint[], line_subjects uuid[], at timestamptz
) RETURNS TABLE (ord integer, id uuid, outcome text)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
  SET enable_seqscan = off SET enable_nestloop = off SET enable_mergejoin = off AS $$
BEGIN
  PERFORM FROM public.ledger_balance b WHERE b.account_id = ANY (line_accounts) AND b.limited
  ORDER BY b.account_id FOR NO KEY UPDATE;
  RETURN QUERY
  WITH line AS (
    SELECT l.transfer, l.account_id, l.amount, l.subject_id, a.tenant_id,
           row_number() OVER (PARTITION BY l.transfer ORDER BY l.ord) AS line
    FROM unnest(line_of, line_accounts, line_amounts, line_subjects)
      WITH ORDINALITY AS l(transfer, account_id, amount, subject_id, ord)
    LEFT JOIN LATERAL (SELECT o.tenant_id FROM public.ledger_account o WHERE o.id = l.account_id LIMIT 1) a ON true
  ), summed AS (
    SELECT l.transfer, count(*) AS lines, sum(l.amount) FILTER (WHERE l.amount > 0) AS amount,
           count(*) = count(l.tenant_id) AS known
    FROM line l GROUP BY l.transfer
  ), input AS (
    SELECT i.ord::integer AS ord, i.id, i.tenant_id, i.asset, i.key, i.reference_type, i.reference_id,
           t.id AS known_id, s.lines, s.amount, coalesce(s.known, false) AS accounts_known,
           coalesce(at, now()) AS created_at,
           first_value(i.ord) OVER same AS first_ord, first_value(i.id) OVER same AS first_id,
           CASE WHEN t.id IS NULL
                THEN ROW (i.asset, i.reference_type, i.reference_id, s.lines) IS NOT DISTINCT FROM
                     ROW (first_value(i.asset) OVER same, first_value(i.reference_type) OVER same,
                          first_value(i.reference_id) OVER same, first_value(s.lines) OVER same)
                ELSE ROW ('SINGLE', i.asset, i.reference_type, i.reference_id, s.lines) IS NOT DISTINCT FROM
                     ROW (t.kind, t.asset, t.reference_type, t.reference_id, t.lines::bigint) END AS similar
    FROM unnest(ids, tenant_ids, assets, keys, reference_types, reference_ids)
      WITH ORDINALITY AS i(id, tenant_id, asset, key, reference_type, reference_id, ord)
    LEFT JOIN LATERAL (
      SELECT o.* FROM public.ledger_transfer o
      WHERE md5(o.tenant_id::text || o.business_key)::uuid = md5(i.tenant_id::text || i.key)::uuid
        AND o.business_key IS NOT NULL AND o.business_key = i.key LIMIT 1) t ON true
    LEFT JOIN summed s ON s.transfer = i.ord
    WINDOW same AS (PARTITION BY i.tenant_id, i.key, coalesce(s.known, false) ORDER BY i.ord)
  ), fresh AS (
    SELECT i.* FROM input i WHERE i.known_id IS NULL AND i.accounts_known AND i.ord = i.first_ord
  ), written AS (
    INSERT INTO public.ledger_transfer (
      id, tenant_id, kind, asset, amount, lines, held, business_key, reference_type, reference_id, created_at)
    SELECT f.id, f.tenant_id, 'SINGLE', f.asset, coalesce(f.amount, 0), f.lines, 0, f.key, f.reference_type,
           f.reference_id, f.created_at
    FROM fresh f
  ), posted AS (
    INSERT INTO public.ledger_posting (transfer_id, line, account_id, tenant_id, amount, subject_id, created_at)
    SELECT f.id, l.line, l.account_id, l.tenant_id, l.amount, l.subject_id, f.created_at
    FROM fresh f JOIN line l ON l.transfer = f.ord
  )
  SELECT i.ord, coalesce(i.known_id, i.first_id),
         CASE WHEN NOT i.accounts_known THEN 'UNKNOWN'
              WHEN i.known_id IS NULL AND i.ord = i.first_ord THEN 'POSTED'
              WHEN i.similar AND NOT EXISTS (
                SELECT l.account_id, l.amount, l.subject_id FROM line l WHERE l.transfer = i.ord
                EXCEPT ALL (
                  SELECT p.account_id, p.amount, p.subject_id FROM public.ledger_posting p
                  WHERE p.transfer_id = i.known_id
                  UNION ALL
                  SELECT l.account_id, l.amount, l.subject_id FROM line l
                  WHERE i.known_id IS NULL AND l.transfer = i.first_ord)) THEN 'REPLAYED'
              ELSE 'CONFLICT' END
  FROM input i;
END
$$;
SELECT patchbay.make_definer(
  'patchbay.ledger_post(uuid[], uuid[], text[], text[], text[], uuid[], integer[], uuid[], bigint[], uuid[], '
  'timestamptz)', 'patchbay_system');

-- Sealing ----------------------------------------------------------------------------------------------------------
--
-- The canonical bytes of a row, as docs/concepts/ledger.md specifies them: a domain, then every column in its order.
-- src/ledger/encoding.ts computes the same from what it reads, so that `ledger verify` need not trust these functions.

CREATE FUNCTION patchbay.ledger_bytes(value text) RETURNS bytea
  LANGUAGE sql STABLE PARALLEL SAFE
  RETURN coalesce('\x01'::bytea || int4send(octet_length(value)) || convert_to(value, 'UTF8'), '\x00'::bytea);
CREATE FUNCTION patchbay.ledger_bytes(value uuid) RETURNS bytea
  LANGUAGE sql STABLE PARALLEL SAFE RETURN coalesce('\x01'::bytea || uuid_send(value), '\x00'::bytea);
CREATE FUNCTION patchbay.ledger_bytes(value bigint) RETURNS bytea
  LANGUAGE sql STABLE PARALLEL SAFE RETURN coalesce('\x01'::bytea || int8send(value), '\x00'::bytea);
-- Microseconds since 2000-01-01T00:00:00Z.
CREATE FUNCTION patchbay.ledger_bytes(value timestamptz) RETURNS bytea
  LANGUAGE sql STABLE PARALLEL SAFE RETURN coalesce('\x01'::bytea || timestamptz_send(value), '\x00'::bytea);

CREATE FUNCTION patchbay.ledger_row_hash(r ledger_account) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
  RETURN sha256('patchbay:ledger:account:v1'::bytea || patchbay.ledger_bytes(r.id) || patchbay.ledger_bytes(r.tenant_id)
    || patchbay.ledger_bytes(r.kind) || patchbay.ledger_bytes(r.asset) || patchbay.ledger_bytes(r.created_at));
CREATE FUNCTION patchbay.ledger_row_hash(r ledger_limit) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
  RETURN sha256('patchbay:ledger:limit:v1'::bytea || patchbay.ledger_bytes(r.id) || patchbay.ledger_bytes(r.tenant_id)
    || patchbay.ledger_bytes(r.account_id) || patchbay.ledger_bytes(r.number::bigint)
    || patchbay.ledger_bytes(r.credit_limit) || patchbay.ledger_bytes(r.business_key)
    || patchbay.ledger_bytes(r.created_at));
CREATE FUNCTION patchbay.ledger_row_hash(r ledger_transfer) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
  RETURN sha256('patchbay:ledger:transfer:v1'::bytea || patchbay.ledger_bytes(r.id)
    || patchbay.ledger_bytes(r.tenant_id) || patchbay.ledger_bytes(r.kind) || patchbay.ledger_bytes(r.asset)
    || patchbay.ledger_bytes(r.amount) || patchbay.ledger_bytes(r.lines::bigint)
    || patchbay.ledger_bytes(r.account_id) || patchbay.ledger_bytes(r.held) || patchbay.ledger_bytes(r.pending_id)
    || patchbay.ledger_bytes(r.business_key) || patchbay.ledger_bytes(r.reference_type)
    || patchbay.ledger_bytes(r.reference_id) || patchbay.ledger_bytes(r.expires_at)
    || patchbay.ledger_bytes(r.created_at));
CREATE FUNCTION patchbay.ledger_row_hash(r ledger_posting) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
  RETURN sha256('patchbay:ledger:posting:v1'::bytea || patchbay.ledger_bytes(r.transfer_id)
    || patchbay.ledger_bytes(r.line::bigint) || patchbay.ledger_bytes(r.account_id)
    || patchbay.ledger_bytes(r.tenant_id) || patchbay.ledger_bytes(r.amount) || patchbay.ledger_bytes(r.subject_id)
    || patchbay.ledger_bytes(r.created_at));
DO $$
DECLARE
  f regprocedure;
BEGIN
  FOR f IN SELECT oid::regprocedure FROM pg_proc
           WHERE pronamespace = 'patchbay'::regnamespace AND proname IN ('ledger_bytes', 'ledger_row_hash')
  LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO patchbay_definer', f);
  END LOOP;
END
$$;

-- Seals what waits, at most so many statements' worth, into the next batch, and folds its postings into the sums of
-- accounts without a limit. No row: nothing waits, or another sealer is at work.
CREATE FUNCTION patchbay.ledger_seal(at timestamptz, statements_max integer)
  RETURNS TABLE (sequence bigint, row_count integer, hash bytea)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
  SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
  accounts  uuid[];
  limits    uuid[];
  transfers uuid[];
  head      record;
  chained   bytea;
  new_marks bytea;
  counted   integer;
  new_hash  bytea;
  sealed    timestamptz := coalesce(at, now());
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtextextended('patchbay.ledger_seal', 0)) THEN
    RETURN;
  END IF;
  WITH taken AS (
    DELETE FROM public.ledger_unsealed
    WHERE ctid = ANY (ARRAY(SELECT u.ctid FROM public.ledger_unsealed u LIMIT statements_max))
    RETURNING what, ids
  )
  SELECT coalesce(array_agg(i.id ORDER BY i.id) FILTER (WHERE t.what = 'account'), '{}'),
         coalesce(array_agg(i.id ORDER BY i.id) FILTER (WHERE t.what = 'limit'), '{}'),
         coalesce(array_agg(i.id ORDER BY i.id) FILTER (WHERE t.what = 'transfer'), '{}')
  INTO accounts, limits, transfers
  FROM taken t CROSS JOIN LATERAL unnest(t.ids) AS i(id);
  IF cardinality(accounts) + cardinality(limits) + cardinality(transfers) = 0 THEN
    RETURN;
  END IF;

  SELECT coalesce(max(b.sequence), 0) AS sequence,
         coalesce((array_agg(b.hash ORDER BY b.sequence DESC))[1], decode(repeat('00', 32), 'hex')) AS hash
  INTO head FROM (SELECT l.sequence, l.hash FROM public.ledger_batch l ORDER BY l.sequence DESC LIMIT 1) b;

  SELECT string_agg(r.hash, ''::bytea ORDER BY r.part, r.id, r.line),
         string_agg(substr(r.hash, 1, 8), ''::bytea ORDER BY r.part, r.id, r.line), count(*)
  INTO chained, new_marks, counted
  FROM (
    SELECT 1 AS part, a.id, 0 AS line, patchbay.ledger_row_hash(a) AS hash
    FROM unnest(accounts) AS w(id) JOIN public.ledger_account a ON a.id = w.id
    UNION ALL
    SELECT 2, l.id, 0, patchbay.ledger_row_hash(l)
    FROM unnest(limits) AS w(id) JOIN public.ledger_limit l ON l.id = w.id
    UNION ALL
    SELECT 3, t.id, 0, patchbay.ledger_row_hash(t)
    FROM unnest(transfers) AS w(id) JOIN public.ledger_transfer t ON t.id = w.id
    UNION ALL
    SELECT 3, p.transfer_id, p.line, patchbay.ledger_row_hash(p)
    FROM unnest(transfers) AS w(id) JOIN public.ledger_posting p ON p.transfer_id = w.id
  ) r;

  new_hash := sha256('patchbay:ledger:batch:v1'::bytea || int8send(head.sequence + 1) || head.hash
    || timestamptz_send(sealed) || int4send(cardinality(accounts)) || int4send(cardinality(limits))
    || int4send(cardinality(transfers)) || int4send(counted) || chained);
  INSERT INTO public.ledger_batch (
    sequence, previous_hash, sealed_at, account_ids, limit_ids, transfer_ids, row_count, marks, hash)
  VALUES (head.sequence + 1, head.hash, sealed, accounts, limits, transfers, counted, new_marks, new_hash);

  INSERT INTO public.ledger_fold AS f (account_id, tenant_id, posted, postings)
  SELECT p.account_id, p.tenant_id, sum(p.amount), count(*)
  FROM unnest(transfers) AS w(id)
  JOIN public.ledger_posting p ON p.transfer_id = w.id
  JOIN public.ledger_balance b ON b.account_id = p.account_id
  WHERE NOT b.limited
  GROUP BY p.account_id, p.tenant_id
  ON CONFLICT (account_id) DO UPDATE SET
    posted = f.posted + excluded.posted, postings = f.postings + excluded.postings;
  RETURN QUERY SELECT head.sequence + 1, counted, new_hash;
END
$$;
SELECT patchbay.make_definer('patchbay.ledger_seal(timestamptz, integer)', 'patchbay_system');

-- Epochs: ranges of the log over which the engine's counts, usage records, captures and leaves were compared. What they are
-- made of is in docs/reference/proofs.md, how they come about in docs/concepts/proofs.md, and why they are built this way in
-- docs/decisions/0026-epochs.md.
--
-- Epochs are public, ids of requests and accounts are not: the system role alone reads these tables, and services say which is
-- which. A party reads its own accounts.

CREATE TABLE epoch (
  number     bigint         PRIMARY KEY CHECK (number > 0),
  -- The leaves of the epoch are those from here up to and without the size.
  first_size bigint         NOT NULL CHECK (first_size >= 0),
  size       bigint         NOT NULL UNIQUE,
  -- Of the log at that size.
  root       bytea          NOT NULL CHECK (octet_length(root) = 32),
  digest     bytea          NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
  -- The digest of the epoch before; 32 zeros for the first.
  previous   bytea          NOT NULL CHECK (octet_length(previous) = 32),
  closed_at  timestamptz(3) NOT NULL CHECK (isfinite(closed_at)),
  -- `patchbay-epoch/1`, as it is served.
  document   text           NOT NULL,
  CONSTRAINT epoch_has_leaves CHECK (size > first_size)
);
CREATE INDEX epoch_closed_at_idx ON epoch USING brin (closed_at);

-- The leaves of the tree of an epoch's accounts, which ascend by their keys. They say of nobody what is in an account.
CREATE TABLE epoch_account (
  epoch      bigint  NOT NULL REFERENCES epoch (number) ON DELETE RESTRICT ON UPDATE RESTRICT,
  position   integer NOT NULL CHECK (position >= 0),
  key        bytea   NOT NULL CHECK (octet_length(key) = 32),
  commitment bytea   NOT NULL CHECK (octet_length(commitment) = 32),
  PRIMARY KEY (epoch, position)
);
CREATE UNIQUE INDEX epoch_account_epoch_key_key ON epoch_account (epoch, key);

-- The hashes of that tree in tiles, those that are not full among them.
CREATE TABLE epoch_tile (
  epoch  bigint   NOT NULL REFERENCES epoch (number) ON DELETE RESTRICT ON UPDATE RESTRICT,
  level  smallint NOT NULL CHECK (level BETWEEN 0 AND 6),
  index  bigint   NOT NULL CHECK (index >= 0),
  hashes bytea    NOT NULL CHECK (octet_length(hashes) <= 8192 AND octet_length(hashes) % 32 = 0),
  PRIMARY KEY (epoch, level, index)
);
ALTER TABLE epoch_tile ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- What opens an account: a tenant's own, and for the versions of its adapters their owner's. Whoever erases the row leaves the
-- epoch as it is, and nobody who could show what the account says.
CREATE TABLE epoch_statement (
  tenant_id  uuid    NOT NULL REFERENCES tenant (id) ON DELETE RESTRICT ON UPDATE RESTRICT,
  epoch      bigint  NOT NULL,
  kind       text    NOT NULL CHECK (kind IN ('tenant', 'version')),
  subject_id uuid    NOT NULL,
  position   integer NOT NULL,
  salt       bytea   NOT NULL CHECK (octet_length(salt) = 32),
  -- Canonical JSON.
  account    text    NOT NULL,
  PRIMARY KEY (tenant_id, epoch, kind, subject_id),
  FOREIGN KEY (epoch, position) REFERENCES epoch_account (epoch, position) ON DELETE RESTRICT ON UPDATE RESTRICT
);
SELECT patchbay.protect_tenant_table('epoch_statement', 'SELECT', 'SELECT, INSERT, DELETE');
CREATE TRIGGER append_only BEFORE UPDATE ON epoch_statement FOR EACH ROW EXECUTE FUNCTION patchbay.refuse_change();

-- What did not match when an epoch was closed, and which later epoch found that it does.
CREATE TABLE epoch_quarantined (
  epoch      bigint NOT NULL REFERENCES epoch (number) ON DELETE RESTRICT ON UPDATE RESTRICT,
  request_id uuid   NOT NULL,
  reason     text   NOT NULL
    CHECK (reason IN ('ENGINE_DIFFERS', 'CAPTURE_DIFFERS', 'LEAF_DIFFERS', 'RECORD_MISSING', 'LEAF_MISSING')),
  leaf       bytea  CHECK (octet_length(leaf) = 32),
  PRIMARY KEY (epoch, request_id),
  CHECK ((leaf IS NULL) = (reason = 'LEAF_MISSING'))
);
CREATE INDEX epoch_quarantined_request_id_idx ON epoch_quarantined (request_id);

CREATE TABLE epoch_released (
  epoch          bigint NOT NULL REFERENCES epoch (number) ON DELETE RESTRICT ON UPDATE RESTRICT,
  request_id     uuid   NOT NULL,
  quarantined_in bigint NOT NULL,
  -- Each is released once.
  PRIMARY KEY (quarantined_in, request_id),
  FOREIGN KEY (quarantined_in, request_id) REFERENCES epoch_quarantined (epoch, request_id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CHECK (epoch > quarantined_in)
);
CREATE INDEX epoch_released_epoch_idx ON epoch_released (epoch);

-- How far looking has come; one row.
CREATE TABLE epoch_scan (
  id             smallint    PRIMARY KEY DEFAULT 1 CHECK (id = 1),
  -- Up to when usage records were looked at for a leaf that they lack.
  records_until  timestamptz NOT NULL,
  -- Up to which request what is quarantined was compared again.
  compared_until uuid        NOT NULL
);
INSERT INTO epoch_scan (records_until, compared_until) VALUES ('-infinity', '00000000-0000-0000-0000-000000000000');

DO $$
DECLARE
  target text;
BEGIN
  FOREACH target IN ARRAY ARRAY['epoch', 'epoch_account', 'epoch_tile', 'epoch_quarantined', 'epoch_released', 'epoch_scan'] LOOP
    EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', target);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', target);
    EXECUTE format('CREATE POLICY system_access ON %I TO patchbay_system USING (true) WITH CHECK (true)', target);
    IF target = 'epoch_scan' THEN
      EXECUTE format('GRANT SELECT, UPDATE (records_until, compared_until) ON %I TO patchbay_system', target);
    ELSE
      EXECUTE format('GRANT SELECT, INSERT ON %I TO patchbay_system', target);
      PERFORM patchbay.make_append_only(target);
    END IF;
  END LOOP;
END
$$;

-- Epochs have no gaps, and each goes on where the one before ended.
CREATE FUNCTION patchbay.check_epoch() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  before record;
BEGIN
  SELECT e.number, e.size, e.digest, e.closed_at INTO before
  FROM public.epoch e WHERE e.number <> NEW.number ORDER BY e.number DESC LIMIT 1;
  IF (NEW.number, NEW.first_size, NEW.previous)
       IS DISTINCT FROM (coalesce(before.number, 0) + 1, coalesce(before.size, 0),
                         coalesce(before.digest, decode(repeat('00', 32), 'hex')))
     OR NEW.closed_at < before.closed_at
  THEN
    RAISE EXCEPTION 'the epoch % does not come after the epochs so far', NEW.number USING ERRCODE = '23514';
  END IF;
  RETURN NULL;
END
$$;
GRANT EXECUTE ON FUNCTION patchbay.check_epoch() TO patchbay_system;
CREATE TRIGGER check_epoch AFTER INSERT ON epoch FOR EACH ROW EXECUTE FUNCTION patchbay.check_epoch();

-- Receipts: the platform's signed statements of usage records. What they are made of is in docs/reference/proofs.md, how they
-- come about in docs/concepts/proofs.md. Nothing of this is written while proofs are off.

-- ---------------------------------------------------------------------------------------------------------------
-- What the log of this deployment is called, and the keys that have signed for it.
-- ---------------------------------------------------------------------------------------------------------------
CREATE TABLE proof_log (
  id   smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
  uuid uuid     NOT NULL
);
INSERT INTO proof_log (uuid) VALUES (gen_random_uuid());
SELECT patchbay.make_append_only('proof_log');

-- Times are milliseconds since 1970, as they are signed.
CREATE TABLE proof_key (
  position    integer PRIMARY KEY CHECK (position >= 0),
  address     text    NOT NULL UNIQUE CHECK (address ~ '^0x[0-9a-fA-F]{40}$'),
  valid_from  bigint  NOT NULL CHECK (valid_from >= 0),
  -- By the key before; null for the first, and for one whose predecessor was lost.
  endorsement text    CHECK (endorsement ~ '^0x[0-9a-f]{130}$')
);
SELECT patchbay.make_append_only('proof_key');

-- ---------------------------------------------------------------------------------------------------------------
-- Counters without gaps, by lane so that servers side by side do not wait for each other.
-- ---------------------------------------------------------------------------------------------------------------
CREATE TABLE receipt_counter (
  kind       text     NOT NULL CHECK (kind IN ('tenant', 'version')),
  subject_id uuid     NOT NULL,
  lane       smallint NOT NULL,
  last       bigint   NOT NULL CHECK (last > 0),
  PRIMARY KEY (kind, subject_id, lane)
) WITH (fillfactor = 50);

-- Settled requests that have no receipt yet. Versions are in the ascending order of their ids.
CREATE TABLE receipt_pending (
  request_id      uuid        PRIMARY KEY,
  lane            smallint    NOT NULL,
  tenant_number   bigint      NOT NULL,
  version_ids     uuid[]      NOT NULL,
  version_numbers bigint[]    NOT NULL CHECK (cardinality(version_numbers) = cardinality(version_ids)),
  -- Digests and weights as the engine executed them; null where nobody was left to say.
  executed        jsonb,
  created_at      timestamptz NOT NULL DEFAULT now()
);

-- Versions of prices, royalties and splits as receipts name them: by the digest of their canonical JSON. Who may open the
-- field that names one may see it.
CREATE TABLE proof_document (
  digest   bytea PRIMARY KEY CHECK (digest = sha256(convert_to(document, 'UTF8'))),
  document text  NOT NULL
);
SELECT patchbay.make_append_only('proof_document');

-- ---------------------------------------------------------------------------------------------------------------
-- Receipts.
-- ---------------------------------------------------------------------------------------------------------------
CREATE TABLE receipt_batch (
  id        uuid    PRIMARY KEY,
  root      bytea   NOT NULL CHECK (octet_length(root) = 32),
  size      integer NOT NULL CHECK (size > 0),
  signed_at bigint  NOT NULL,
  signer    text    NOT NULL REFERENCES proof_key (address) ON DELETE RESTRICT ON UPDATE RESTRICT,
  signature text    NOT NULL CHECK (signature ~ '^0x[0-9a-f]{130}$')
);
SELECT patchbay.make_append_only('receipt_batch');

-- A server that goes on after its key was replaced signs nothing that nobody would accept.
CREATE FUNCTION patchbay.check_batch_signer() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT EXISTS (
    SELECT FROM public.proof_key k
    WHERE k.address = NEW.signer AND k.valid_from <= NEW.signed_at
      AND NOT EXISTS (SELECT FROM public.proof_key n WHERE n.position > k.position AND n.valid_from <= NEW.signed_at)
  ) THEN
    RAISE EXCEPTION 'the key % is not the one in use', NEW.signer USING ERRCODE = '42501';
  END IF;
  RETURN NULL;
END
$$;
GRANT EXECUTE ON FUNCTION patchbay.check_batch_signer() TO patchbay_system;
CREATE TRIGGER check_signer AFTER INSERT ON receipt_batch
  FOR EACH ROW EXECUTE FUNCTION patchbay.check_batch_signer();

-- Says nothing of whose request it is: its commitments are all that it has of it.
CREATE TABLE receipt (
  request_id  uuid    PRIMARY KEY,
  batch_id    uuid    NOT NULL REFERENCES receipt_batch (id) ON DELETE RESTRICT ON UPDATE RESTRICT,
  batch_index integer NOT NULL CHECK (batch_index >= 0),
  path        bytea   NOT NULL CHECK (octet_length(path) % 32 = 0),
  commitments bytea   NOT NULL CHECK (octet_length(commitments) % 32 = 0),
  leaf        bytea   NOT NULL CHECK (octet_length(leaf) = 32),
  UNIQUE (batch_id, batch_index)
);
SELECT patchbay.make_append_only('receipt');

-- The fields that one party may open, with their salts. Whoever erases these rows leaves every proof as it is, and nobody
-- who could show what it is about.
CREATE TABLE receipt_view (
  request_id uuid       NOT NULL,
  tenant_id  uuid       NOT NULL REFERENCES tenant (id) ON DELETE RESTRICT ON UPDATE RESTRICT,
  fields     smallint[] NOT NULL,
  salts      bytea      NOT NULL,
  texts      text[]     NOT NULL CHECK (cardinality(texts) = cardinality(fields)),
  PRIMARY KEY (request_id, tenant_id),
  CHECK (octet_length(salts) = 32 * cardinality(fields))
);
SELECT patchbay.protect_tenant_table('receipt_view', 'SELECT', 'SELECT, INSERT, DELETE');

-- Which number is which receipt: a tenant's own, and those of the adapter versions that it owns.
CREATE TABLE receipt_number (
  tenant_id  uuid     NOT NULL REFERENCES tenant (id) ON DELETE RESTRICT ON UPDATE RESTRICT,
  kind       text     NOT NULL CHECK (kind IN ('tenant', 'version')),
  subject_id uuid     NOT NULL,
  lane       smallint NOT NULL,
  number     bigint   NOT NULL CHECK (number > 0),
  request_id uuid     NOT NULL REFERENCES receipt (request_id) ON DELETE RESTRICT ON UPDATE RESTRICT,
  PRIMARY KEY (kind, subject_id, lane, number)
);
CREATE INDEX receipt_number_tenant_id_kind_request_id_idx ON receipt_number (tenant_id, kind, request_id);
SELECT patchbay.protect_tenant_table('receipt_number', 'SELECT', 'SELECT, INSERT');
SELECT patchbay.make_append_only('receipt_number');

DO $$
DECLARE
  each text;
BEGIN
  FOREACH each IN ARRAY ARRAY['proof_log', 'proof_key', 'proof_document', 'receipt_counter', 'receipt_pending', 'receipt_batch', 'receipt'] LOOP
    EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', each);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', each);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', each);
    EXECUTE format('CREATE POLICY system_access ON %I TO patchbay_system USING (true) WITH CHECK (true)', each);
  END LOOP;
END
$$;
GRANT SELECT ON proof_log TO patchbay_system;
GRANT SELECT, INSERT ON proof_key, proof_document, receipt_batch, receipt TO patchbay_system;
GRANT SELECT, INSERT, UPDATE (last) ON receipt_counter TO patchbay_system;
-- Locking rows to take them needs a right to change them.
GRANT SELECT, INSERT, DELETE, UPDATE (created_at) ON receipt_pending TO patchbay_system;
-- Public: a batch says how many requests a server settled in one go, as the size of the log does.
CREATE POLICY everybody_reads ON receipt_batch FOR SELECT TO patchbay_app USING (true);
GRANT SELECT ON receipt_batch TO patchbay_app;
-- A receipt is its parties'.
CREATE POLICY parties_read ON receipt FOR SELECT TO patchbay_app USING (EXISTS (
  SELECT FROM receipt_view v
  WHERE v.request_id = receipt.request_id AND v.tenant_id = (SELECT patchbay.current_tenant())));
GRANT SELECT ON receipt TO patchbay_app;

-- The transparency log: one Merkle tree over the receipts of the whole deployment, in tiles, and its signed heads. How it
-- works: docs/concepts/proofs.md. Why it is built this way: docs/decisions/0023-tiles.md.
--
-- The log belongs to no tenant. Only the system role reads and writes it: hashes and heads are for everybody, ids of entries
-- are not, and services say which is which.

-- Leaves that are not in the log yet. A queue and not a range of numbers: what commits late is not passed over.
CREATE TABLE log_queue (
  entry_id  uuid  PRIMARY KEY,
  leaf_hash bytea NOT NULL CHECK (octet_length(leaf_hash) = 32)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE TABLE log_leaf (
  position  bigint PRIMARY KEY CHECK (position >= 0),
  entry_id  uuid   NOT NULL,
  leaf_hash bytea  NOT NULL CHECK (octet_length(leaf_hash) = 32)
);
-- An entry is in the log at most once.
CREATE UNIQUE INDEX log_leaf_entry_id_key ON log_leaf (entry_id);
-- Hashes come in no order, so that each new one goes to another page of an index. This kind keeps four bytes of each.
CREATE INDEX log_leaf_leaf_hash_idx ON log_leaf USING hash (leaf_hash);

-- Full tiles: 256 neighbouring hashes of a level, of which 0 has the leaves and each other one the roots of the tiles below.
CREATE TABLE log_tile (
  level  smallint NOT NULL CHECK (level BETWEEN 0 AND 6),
  index  bigint   NOT NULL CHECK (index >= 0),
  hashes bytea    NOT NULL CHECK (octet_length(hashes) = 8192),
  root   bytea    NOT NULL CHECK (octet_length(root) = 32),
  PRIMARY KEY (level, index)
);
-- Hashes cannot be compressed, so it is not tried. They are kept beside the row, which leaves the roots close together.
ALTER TABLE log_tile ALTER COLUMN hashes SET STORAGE EXTERNAL;

CREATE TABLE log_head (
  size      bigint         PRIMARY KEY CHECK (size > 0),
  root      bytea          NOT NULL CHECK (octet_length(root) = 32),
  signed_at timestamptz(3) NOT NULL CHECK (isfinite(signed_at)),
  -- Of the key that signed.
  address   text           NOT NULL CHECK (address ~ '^0x[0-9a-fA-F]{40}$'),
  signature text           NOT NULL CHECK (signature ~ '^0x[0-9a-f]{130}$')
);

DO $$
DECLARE
  target  text;
  granted text;
BEGIN
  FOR target, granted IN VALUES
    ('log_queue', 'SELECT, INSERT, DELETE'), ('log_leaf', 'SELECT, INSERT'), ('log_tile', 'SELECT, INSERT'),
    ('log_head', 'SELECT, INSERT')
  LOOP
    EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', target);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', target);
    EXECUTE format('CREATE POLICY system_access ON %I TO patchbay_system USING (true) WITH CHECK (true)', target);
    EXECUTE format('GRANT %s ON %I TO patchbay_system', granted, target);
  END LOOP;
END
$$;
SELECT patchbay.make_append_only('log_leaf');
SELECT patchbay.make_append_only('log_tile');
SELECT patchbay.make_append_only('log_head');

-- Leaves have no gaps: what is added begins where the log ends.
CREATE FUNCTION patchbay.log_after_leaves() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
  first bigint;
  last  bigint;
  many  bigint;
BEGIN
  SELECT min(a.position), max(a.position), count(*) INTO first, last, many FROM added a;
  IF many > 0 AND (last - first + 1 <> many
    OR (first > 0 AND NOT EXISTS (SELECT FROM public.log_leaf l WHERE l.position = first - 1)))
  THEN
    RAISE EXCEPTION 'the log would have a gap before or among its leaves % to %', first, last USING ERRCODE = '23514';
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER log_leaf_added AFTER INSERT ON log_leaf REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION patchbay.log_after_leaves();

-- A head is of all leaves that there are, and later than every other. So no size can be signed afterwards.
CREATE FUNCTION patchbay.log_after_head() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
BEGIN
  IF NEW.size IS DISTINCT FROM (SELECT l.position + 1 FROM public.log_leaf l ORDER BY l.position DESC LIMIT 1)
    OR EXISTS (SELECT FROM public.log_head h WHERE h.size > NEW.size)
    OR NEW.signed_at < (
      SELECT h.signed_at FROM public.log_head h WHERE h.size < NEW.size ORDER BY h.size DESC LIMIT 1)
  THEN
    RAISE EXCEPTION 'a head of size % does not come after the log so far', NEW.size USING ERRCODE = '23514';
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER log_head_added AFTER INSERT ON log_head
  FOR EACH ROW EXECUTE FUNCTION patchbay.log_after_head();

-- The hashes of tiles, so far as wide as is said, in the order in which they are asked for; null for none. What is not full is
-- made of leaves, or of the roots of full tiles below, which are there for every earlier size of the log too. Planning takes
-- longer than reading, so one plan is kept for the life of a connection; made while the log was small, it must not read all of
-- it later.
CREATE FUNCTION patchbay.log_tiles(levels integer[], indexes bigint[], widths integer[]) RETURNS TABLE (hashes bytea)
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
  SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
  RETURN QUERY
  SELECT CASE
      WHEN w.width = 256 THEN (
        SELECT t.hashes FROM public.log_tile t WHERE t.level = w.level AND t.index = w.index)
      WHEN w.level = 0 THEN (
        SELECT string_agg(l.leaf_hash, ''::bytea ORDER BY l.position) FROM public.log_leaf l
        WHERE l.position >= w.index * 256 AND l.position < w.index * 256 + w.width)
      ELSE (
        SELECT string_agg(t.root, ''::bytea ORDER BY t.index) FROM public.log_tile t
        WHERE t.level = w.level - 1 AND t.index >= w.index * 256 AND t.index < w.index * 256 + w.width)
    END
  FROM unnest(levels, indexes, widths) WITH ORDINALITY AS w(level, index, width, place)
  ORDER BY w.place;
END
$$;
GRANT EXECUTE ON FUNCTION patchbay.log_tiles(integer[], bigint[], integer[]) TO patchbay_system;

-- Backbones, adapters, their immutable versions, and uploads. Conventions are in src/db/README.md.
-- Digests are lower-case hex SHA-256 in text columns: they are names that people and programs pass around.

CREATE TYPE backbone_state AS ENUM ('ACTIVE', 'RETIRED');
CREATE TYPE adapter_visibility AS ENUM ('PRIVATE', 'PUBLIC');
-- UPLOADING has no row here: a version exists from the moment its upload is finalised.
CREATE TYPE adapter_version_state AS ENUM ('VALIDATING', 'READY', 'REJECTED', 'RETIRED');
GRANT USAGE ON TYPE backbone_state, adapter_visibility, adapter_version_state
  TO patchbay_app, patchbay_system, patchbay_definer;

-- ---------------------------------------------------------------------------------------------------------------
-- Backbones belong to no tenant: everybody reads them, background work and operators write them.
-- ---------------------------------------------------------------------------------------------------------------
CREATE TABLE backbone (
  id uuid NOT NULL,
  name text NOT NULL,
  digest text NOT NULL,
  family text NOT NULL,
  shape jsonb NOT NULL,
  state backbone_state NOT NULL DEFAULT 'ACTIVE',
  created_at timestamptz(3) NOT NULL,
  CONSTRAINT backbone_pkey PRIMARY KEY (id),
  CONSTRAINT backbone_name_length CHECK (char_length(name) BETWEEN 1 AND 200),
  CONSTRAINT backbone_digest_form CHECK (digest ~ '^[0-9a-f]{64}$')
);
CREATE UNIQUE INDEX backbone_digest_key ON backbone (digest);
REVOKE ALL ON backbone FROM PUBLIC;
GRANT SELECT ON backbone TO patchbay_app;
GRANT SELECT, INSERT, UPDATE (name, state) ON backbone TO patchbay_system;

-- ---------------------------------------------------------------------------------------------------------------
-- Adapters: a name under a tenant.
-- ---------------------------------------------------------------------------------------------------------------
CREATE TABLE adapter (
  id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  name text NOT NULL,
  visibility adapter_visibility NOT NULL DEFAULT 'PRIVATE',
  -- Number of the newest version. Taking the next one locks this row, so numbers have no gaps and no doubles.
  last_number integer NOT NULL DEFAULT 0,
  created_at timestamptz(3) NOT NULL,
  CONSTRAINT adapter_pkey PRIMARY KEY (id),
  CONSTRAINT adapter_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  -- Names are parts of `owner/name@number`, of paths and of metrics.
  CONSTRAINT adapter_name_form CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,99}$'),
  CONSTRAINT adapter_last_number_natural CHECK (last_number >= 0)
);
CREATE UNIQUE INDEX adapter_tenant_id_id_key ON adapter (tenant_id, id);
CREATE UNIQUE INDEX adapter_tenant_id_name_key ON adapter (tenant_id, name);
CREATE INDEX adapter_versionless_idx ON adapter (created_at) WHERE last_number = 0;
CREATE INDEX adapter_public_idx ON adapter (name, id) WHERE visibility = 'PUBLIC';
SELECT patchbay.protect_tenant_table(
  'adapter', 'SELECT, INSERT, UPDATE (visibility, last_number)', 'SELECT, DELETE');

-- ---------------------------------------------------------------------------------------------------------------
-- Versions: what one finalised upload became. Identity is (owner, adapter, digest).
-- ---------------------------------------------------------------------------------------------------------------
CREATE TABLE adapter_version (
  id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  adapter_id uuid NOT NULL,
  number integer NOT NULL,
  backbone_id uuid NOT NULL,
  state adapter_version_state NOT NULL DEFAULT 'VALIDATING',
  -- SHA-256 of the two files as received: they recognise the same bytes before validation knows the digest.
  config_sha256 text NOT NULL,
  tensors_sha256 text NOT NULL,
  -- What follows is null until validation knows it.
  digest text,
  rank_max integer,
  module_count integer,
  targets text[],
  parameters bigint,
  bytes bigint,
  rejection jsonb,
  created_at timestamptz(3) NOT NULL,
  ready_at timestamptz(3),
  retired_at timestamptz(3),
  -- The process that validates, and until when the others leave it alone; by the database's clock.
  lease_owner uuid,
  lease_until timestamptz,
  attempts integer NOT NULL DEFAULT 0,
  CONSTRAINT adapter_version_pkey PRIMARY KEY (id),
  CONSTRAINT adapter_version_tenant_id_adapter_id_fkey FOREIGN KEY (tenant_id, adapter_id)
    REFERENCES adapter (tenant_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT adapter_version_backbone_id_fkey FOREIGN KEY (backbone_id) REFERENCES backbone (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT adapter_version_number_positive CHECK (number > 0),
  CONSTRAINT adapter_version_hash_form
    CHECK (config_sha256 ~ '^[0-9a-f]{64}$' AND tensors_sha256 ~ '^[0-9a-f]{64}$'),
  CONSTRAINT adapter_version_digest_form CHECK (digest ~ '^[0-9a-f]{64}$'),
  CONSTRAINT adapter_version_facts_positive
    CHECK (rank_max > 0 AND module_count > 0 AND parameters > 0 AND bytes > 0),
  CONSTRAINT adapter_version_rejection_when_rejected CHECK ((state = 'REJECTED') = (rejection IS NOT NULL)),
  CONSTRAINT adapter_version_ready_is_complete CHECK (
    state NOT IN ('READY', 'RETIRED')
    OR num_nulls(digest, rank_max, module_count, targets, parameters, bytes, ready_at) = 0),
  CONSTRAINT adapter_version_retired_at CHECK ((state = 'RETIRED') = (retired_at IS NOT NULL))
);
CREATE UNIQUE INDEX adapter_version_tenant_id_id_key ON adapter_version (tenant_id, id);
CREATE UNIQUE INDEX adapter_version_adapter_id_number_key ON adapter_version (adapter_id, number);
-- One live version per content. A rejected or retired one may be uploaded again.
CREATE UNIQUE INDEX adapter_version_identity_key ON adapter_version (tenant_id, adapter_id, digest)
  WHERE state IN ('VALIDATING', 'READY') AND digest IS NOT NULL;
CREATE UNIQUE INDEX adapter_version_files_key
  ON adapter_version (tenant_id, adapter_id, backbone_id, config_sha256, tensors_sha256)
  WHERE state IN ('VALIDATING', 'READY');
CREATE INDEX adapter_version_tenant_id_digest_idx ON adapter_version (tenant_id, digest);
CREATE INDEX adapter_version_latest_idx ON adapter_version (adapter_id, backbone_id, number DESC) WHERE state = 'READY';
CREATE INDEX adapter_version_validating_idx ON adapter_version (id) WHERE state = 'VALIDATING';
SELECT patchbay.protect_tenant_table(
  'adapter_version',
  'SELECT, INSERT (id, tenant_id, adapter_id, number, backbone_id, config_sha256, tensors_sha256, created_at), '
    'UPDATE (state, retired_at)',
  'SELECT, UPDATE (state, digest, rank_max, module_count, targets, parameters, bytes, rejection, ready_at, '
    'lease_owner, lease_until, attempts)');

-- A version never changes its content, whoever asks; and it only moves forward.
CREATE FUNCTION patchbay.guard_adapter_version() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP <> 'UPDATE' THEN
    RAISE EXCEPTION 'adapter_version: % refused', TG_OP USING ERRCODE = '42501';
  END IF;
  IF (NEW.id, NEW.tenant_id, NEW.adapter_id, NEW.number, NEW.backbone_id, NEW.config_sha256, NEW.tensors_sha256,
      NEW.created_at)
     IS DISTINCT FROM
     (OLD.id, OLD.tenant_id, OLD.adapter_id, OLD.number, OLD.backbone_id, OLD.config_sha256, OLD.tensors_sha256,
      OLD.created_at)
  THEN
    RAISE EXCEPTION 'adapter_version: the identity of a version is immutable' USING ERRCODE = '42501';
  END IF;
  IF OLD.state <> 'VALIDATING'
     AND (NEW.digest, NEW.rank_max, NEW.module_count, NEW.targets, NEW.parameters, NEW.bytes, NEW.rejection,
          NEW.ready_at)
         IS DISTINCT FROM
         (OLD.digest, OLD.rank_max, OLD.module_count, OLD.targets, OLD.parameters, OLD.bytes, OLD.rejection,
          OLD.ready_at)
  THEN
    RAISE EXCEPTION 'adapter_version: the content of a version is immutable' USING ERRCODE = '42501';
  END IF;
  IF NEW.state <> OLD.state
     AND NOT (OLD.state = 'VALIDATING' AND NEW.state IN ('READY', 'REJECTED'))
     AND NOT (OLD.state = 'READY' AND NEW.state = 'RETIRED')
  THEN
    RAISE EXCEPTION 'adapter_version: % cannot become %', OLD.state, NEW.state USING ERRCODE = '42501';
  END IF;
  -- Only what validates may say that something is valid.
  IF NEW.state IN ('READY', 'REJECTED') AND OLD.state = 'VALIDATING' AND NEW.lease_owner IS NULL THEN
    RAISE EXCEPTION 'adapter_version: validation ends under a lease' USING ERRCODE = '42501';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER guard BEFORE UPDATE OR DELETE ON adapter_version
  FOR EACH ROW EXECUTE FUNCTION patchbay.guard_adapter_version();

-- Whoever changes a state tells every process; the payload holds ids only.
CREATE FUNCTION patchbay.notify_adapter_state() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP = 'INSERT' OR NEW.state <> OLD.state THEN
    PERFORM pg_notify('patchbay_adapter_state',
      json_build_object('tenantId', NEW.tenant_id, 'versionId', NEW.id)::text);
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER notify_state AFTER INSERT OR UPDATE ON adapter_version
  FOR EACH ROW EXECUTE FUNCTION patchbay.notify_adapter_state();

-- ---------------------------------------------------------------------------------------------------------------
-- Uploads. Tokens are derived from the server's secret, so there is nothing to store that would open one.
-- ---------------------------------------------------------------------------------------------------------------
CREATE TABLE upload (
  id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  adapter_id uuid NOT NULL,
  backbone_id uuid NOT NULL,
  created_at timestamptz(3) NOT NULL,
  expires_at timestamptz(3) NOT NULL,
  -- The version that came of it, set by finalising.
  version_id uuid,
  -- When its received files were removed, after validation or expiry. The row of an expired one goes later.
  swept_at timestamptz(3),
  CONSTRAINT upload_pkey PRIMARY KEY (id),
  CONSTRAINT upload_tenant_id_adapter_id_fkey FOREIGN KEY (tenant_id, adapter_id)
    REFERENCES adapter (tenant_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT upload_backbone_id_fkey FOREIGN KEY (backbone_id) REFERENCES backbone (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT upload_tenant_id_version_id_fkey FOREIGN KEY (tenant_id, version_id)
    REFERENCES adapter_version (tenant_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT
);
CREATE UNIQUE INDEX upload_tenant_id_id_key ON upload (tenant_id, id);
CREATE INDEX upload_version_id_idx ON upload (version_id);
CREATE INDEX upload_unswept_idx ON upload (expires_at) WHERE swept_at IS NULL;
CREATE INDEX upload_open_idx ON upload (tenant_id, expires_at) WHERE version_id IS NULL;
SELECT patchbay.protect_tenant_table(
  'upload', 'SELECT, INSERT, UPDATE (version_id)', 'SELECT, UPDATE (swept_at), DELETE');

CREATE TABLE upload_file (
  id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  upload_id uuid NOT NULL,
  name text NOT NULL,
  size bigint NOT NULL,
  sha256 text NOT NULL,
  received bigint NOT NULL DEFAULT 0,
  -- All bytes are there and their SHA-256 is the declared one.
  complete boolean NOT NULL DEFAULT false,
  CONSTRAINT upload_file_pkey PRIMARY KEY (id),
  CONSTRAINT upload_file_tenant_id_upload_id_fkey FOREIGN KEY (tenant_id, upload_id)
    REFERENCES upload (tenant_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT upload_file_name CHECK (name IN ('adapter_config.json', 'adapter_model.safetensors')),
  CONSTRAINT upload_file_sha256_form CHECK (sha256 ~ '^[0-9a-f]{64}$'),
  CONSTRAINT upload_file_received CHECK (size > 0 AND received BETWEEN 0 AND size),
  CONSTRAINT upload_file_complete CHECK (NOT complete OR received = size)
);
CREATE UNIQUE INDEX upload_file_upload_id_name_key ON upload_file (upload_id, name);
SELECT patchbay.protect_tenant_table(
  'upload_file', 'SELECT, INSERT', 'SELECT, UPDATE (received, complete), DELETE');

-- ---------------------------------------------------------------------------------------------------------------
-- What a tenant sees of adapters: its own, and of others only the public ones with their ready versions, without
-- anything about their files. One query answers for what is hidden and for what does not exist, with the same work.
-- ---------------------------------------------------------------------------------------------------------------
CREATE POLICY definer_lookup ON adapter FOR SELECT TO patchbay_definer USING (true);
CREATE POLICY definer_lookup ON adapter_version FOR SELECT TO patchbay_definer USING (true);
GRANT SELECT (id, tenant_id, name, visibility, created_at) ON adapter TO patchbay_definer;
GRANT SELECT (id, tenant_id, adapter_id, number, backbone_id, state, digest, rank_max, module_count, targets,
  parameters, bytes, rejection, created_at, ready_at, retired_at) ON adapter_version TO patchbay_definer;
GRANT SELECT (id, digest) ON backbone TO patchbay_definer;
GRANT SELECT (slug) ON tenant TO patchbay_definer;

CREATE TYPE patchbay.visible_adapter AS (
  id uuid, tenant_id uuid, owner text, name text, visibility text, created_at timestamptz
);
CREATE TYPE patchbay.visible_version AS (
  id uuid, tenant_id uuid, adapter_id uuid, number integer, backbone_digest text, state text, digest text,
  rank_max integer, module_count integer, targets text[], parameters bigint, bytes bigint, rejection jsonb,
  created_at timestamptz, ready_at timestamptz, retired_at timestamptz
);
GRANT USAGE ON TYPE patchbay.visible_adapter, patchbay.visible_version TO patchbay_app, patchbay_definer;

-- The rule of who sees what stands here once; each function adds only how it looks things up.
DO $do$
DECLARE
  f record;
BEGIN
  FOR f IN SELECT * FROM (VALUES
    ('find_adapter', 'wanted uuid', 'uuid', 'a.id = wanted'),
    ('find_adapters', 'wanted uuid[]', 'uuid[]', 'a.id = ANY (wanted)'),
    -- No owner means the caller's own adapter.
    ('find_adapter_named', 'wanted_owner text, wanted_name text', 'text, text',
     'a.name = wanted_name AND CASE WHEN wanted_owner IS NULL THEN a.tenant_id = patchbay.current_tenant() '
     'ELSE t.slug = wanted_owner END'),
    ('list_adapters', 'include_public boolean, after_name text, after_id uuid, most integer',
     'boolean, text, uuid, integer',
     '(include_public OR a.tenant_id = patchbay.current_tenant()) '
     'AND (after_name IS NULL OR (a.name, a.id) > (after_name, after_id)) ORDER BY a.name, a.id LIMIT most')
  ) AS functions (name, arguments, types, condition) LOOP
    EXECUTE format($sql$
      CREATE FUNCTION patchbay.%I(%s) RETURNS SETOF patchbay.visible_adapter
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        SELECT a.id, a.tenant_id, t.slug, a.name, a.visibility::text, a.created_at
        FROM public.adapter a JOIN public.tenant t ON t.id = a.tenant_id
        WHERE (a.tenant_id = patchbay.current_tenant()
               OR (a.visibility = 'PUBLIC' AND t.state = 'ACTIVE' AND patchbay.current_tenant() IS NOT NULL))
          AND %s
      $$ $sql$, f.name, f.arguments, f.condition);
    PERFORM patchbay.make_definer(format('patchbay.%I(%s)', f.name, f.types)::regprocedure, 'patchbay_app');
  END LOOP;

  FOR f IN SELECT * FROM (VALUES
    ('find_version', 'wanted uuid', 'uuid', 'v.id = wanted'),
    ('find_versions', 'wanted uuid[]', 'uuid[]', 'v.id = ANY (wanted)'),
    ('find_version_numbered', 'wanted_adapter uuid, wanted_number integer', 'uuid, integer',
     'v.adapter_id = wanted_adapter AND v.number = wanted_number'),
    -- No backbone means any.
    ('find_version_latest', 'wanted_adapter uuid, wanted_backbone text', 'uuid, text',
     'v.adapter_id = wanted_adapter AND v.state = ''READY'' '
     'AND (wanted_backbone IS NULL OR b.digest = wanted_backbone) ORDER BY v.number DESC LIMIT 1'),
    -- Who sees one ready version of an adapter sees all of them, so the newest is the same for everybody.
    ('find_versions_latest', 'wanted_adapters uuid[]', 'uuid[]',
     'v.adapter_id = ANY (wanted_adapters) AND v.number = (SELECT max(n.number) FROM public.adapter_version n '
     'WHERE n.adapter_id = v.adapter_id AND n.state = ''READY'')'),
    ('list_versions', 'wanted_adapter uuid, before_number integer, most integer', 'uuid, integer, integer',
     'v.adapter_id = wanted_adapter AND (before_number IS NULL OR v.number < before_number) '
     'ORDER BY v.number DESC LIMIT most')
  ) AS functions (name, arguments, types, condition) LOOP
    EXECUTE format($sql$
      CREATE FUNCTION patchbay.%I(%s) RETURNS SETOF patchbay.visible_version
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        SELECT v.id, v.tenant_id, v.adapter_id, v.number, b.digest, v.state::text, v.digest, v.rank_max,
               v.module_count, v.targets, v.parameters, v.bytes, v.rejection, v.created_at, v.ready_at, v.retired_at
        FROM public.adapter_version v
        JOIN public.adapter a ON a.id = v.adapter_id
        JOIN public.tenant t ON t.id = v.tenant_id
        JOIN public.backbone b ON b.id = v.backbone_id
        WHERE (v.tenant_id = patchbay.current_tenant()
               OR (v.state = 'READY' AND a.visibility = 'PUBLIC' AND t.state = 'ACTIVE'
                   AND patchbay.current_tenant() IS NOT NULL))
          AND %s
      $$ $sql$, f.name, f.arguments, f.condition);
    PERFORM patchbay.make_definer(format('patchbay.%I(%s)', f.name, f.types)::regprocedure, 'patchbay_app');
  END LOOP;
END
$do$;

-- Roles, the row-level security helpers that every later migration uses, and the tables of tenancy.
-- A migration runs in one transaction. Conventions are in src/db/README.md.

-- ---------------------------------------------------------------------------------------------------------------
-- Roles. They belong to the whole server, so they may exist already; passwords are set by src/db/roles.ts.
--   patchbay_app      what requests run as: sees only the rows of the tenant set for its transaction
--   patchbay_system   background work and operators: sees across tenants, but only where a policy names it
--   patchbay_definer  owns the SECURITY DEFINER functions, cannot log in, sees only the columns granted to it
-- ---------------------------------------------------------------------------------------------------------------
DO $$
DECLARE
  wanted record;
  found pg_roles;
BEGIN
  FOR wanted IN
    SELECT * FROM (VALUES
      ('patchbay_app', 'LOGIN'), ('patchbay_system', 'LOGIN'), ('patchbay_definer', 'NOLOGIN')
    ) AS roles (name, login)
  LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.name) THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I %s NOINHERIT NOCREATEDB NOCREATEROLE', wanted.name, wanted.login);
      EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL; -- A migration of another database on this server was faster.
      END;
    END IF;
    SELECT * INTO found FROM pg_roles WHERE rolname = wanted.name;
    IF found.rolsuper OR found.rolbypassrls OR found.rolcreaterole OR found.rolcreatedb OR found.rolreplication THEN
      RAISE EXCEPTION 'Role % exists with rights that defeat tenant isolation; remove them', wanted.name;
    END IF;
  END LOOP;
END
$$;

-- ---------------------------------------------------------------------------------------------------------------
-- Schemas. Tables live in public, functions in patchbay. Nothing is granted to PUBLIC, now or by default.
-- ---------------------------------------------------------------------------------------------------------------
CREATE SCHEMA patchbay;
REVOKE ALL ON SCHEMA public, patchbay FROM PUBLIC;
GRANT USAGE ON SCHEMA public, patchbay TO patchbay_app, patchbay_system, patchbay_definer;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC;

-- The tenant of the current transaction, or null when none is set: then no policy matches any row.
CREATE FUNCTION patchbay.current_tenant() RETURNS uuid
  LANGUAGE sql STABLE PARALLEL SAFE
  RETURN nullif(pg_catalog.current_setting('app.tenant_id', true), '')::uuid;
GRANT EXECUTE ON FUNCTION patchbay.current_tenant() TO patchbay_app, patchbay_system, patchbay_definer;

-- Puts a table that has tenant_id behind row-level security and grants exactly the named privileges.
-- Privileges are written as in GRANT, columns included: 'SELECT, INSERT, UPDATE (name)'. Null grants nothing.
CREATE FUNCTION patchbay.protect_tenant_table(
  target regclass, app_privileges text, system_privileges text DEFAULT NULL
) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_attribute
    WHERE attrelid = target AND attname = 'tenant_id' AND attnotnull AND atttypid = 'uuid'::regtype
  ) THEN
    RAISE EXCEPTION '% needs a column: tenant_id uuid NOT NULL', target;
  END IF;
  EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, patchbay_app, patchbay_system', target);
  EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
  EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target);
  -- The sub-select makes the planner evaluate the tenant once a query, not once a row.
  EXECUTE format(
    'CREATE POLICY tenant_isolation ON %s TO patchbay_app '
    'USING (tenant_id = (SELECT patchbay.current_tenant())) '
    'WITH CHECK (tenant_id = (SELECT patchbay.current_tenant()))', target);
  IF app_privileges IS NOT NULL THEN
    EXECUTE format('GRANT %s ON %s TO patchbay_app', app_privileges, target);
  END IF;
  IF system_privileges IS NOT NULL THEN
    EXECUTE format('CREATE POLICY system_access ON %s TO patchbay_system USING (true) WITH CHECK (true)', target);
    EXECUTE format('GRANT %s ON %s TO patchbay_system', system_privileges, target);
  END IF;
END
$$;

-- Locks a partition itself: roles reach its rows through the partitioned table, whose policies then apply.
CREATE FUNCTION patchbay.protect_partition(target regclass) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, patchbay_app, patchbay_system', target);
  EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
  EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target);
END
$$;

CREATE FUNCTION patchbay.refuse_change() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION '%.% is append-only: % refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP USING ERRCODE = '42501';
END
$$;

-- Makes a table append-only for everybody, its owner included. Works on a partitioned table and its partitions.
CREATE FUNCTION patchbay.make_append_only(target regclass) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format(
    'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION patchbay.refuse_change()',
    target);
  EXECUTE format(
    'CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON %s EXECUTE FUNCTION patchbay.refuse_change()', target);
END
$$;

-- Hands a SECURITY DEFINER function to patchbay_definer, so that it can do only what that role was granted, and
-- lets the named roles call it. Refuses a function whose search_path is not pinned.
CREATE FUNCTION patchbay.make_definer(target regprocedure, VARIADIC callers text[]) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  caller text;
BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_proc
    WHERE oid = target AND prosecdef AND EXISTS (SELECT FROM unnest(proconfig) c WHERE c LIKE 'search\_path=%')
  ) THEN
    RAISE EXCEPTION '% must be SECURITY DEFINER with SET search_path', target;
  END IF;
  EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', target);
  FOREACH caller IN ARRAY callers LOOP
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', target, caller);
  END LOOP;
  -- Only a member of the new owner may hand an object to it, and the new owner must be able to create in the schema.
  IF NOT pg_has_role(current_user, 'patchbay_definer', 'SET') THEN
    EXECUTE format('GRANT patchbay_definer TO %I WITH INHERIT FALSE, SET TRUE', current_user);
  END IF;
  GRANT CREATE ON SCHEMA patchbay TO patchbay_definer;
  EXECUTE format('ALTER FUNCTION %s OWNER TO patchbay_definer', target);
  REVOKE CREATE ON SCHEMA patchbay FROM patchbay_definer;
END
$$;

-- ---------------------------------------------------------------------------------------------------------------
-- Tables
-- ---------------------------------------------------------------------------------------------------------------
CREATE TYPE tenant_state AS ENUM ('ACTIVE', 'SUSPENDED', 'CLOSED');
CREATE TYPE api_key_kind AS ENUM ('OPERATOR', 'TENANT');
CREATE TYPE idempotency_state AS ENUM ('PENDING', 'DONE');
CREATE TYPE audit_outcome AS ENUM ('DONE', 'DENIED');
GRANT USAGE ON TYPE tenant_state, api_key_kind, idempotency_state, audit_outcome
  TO patchbay_app, patchbay_system, patchbay_definer;

CREATE TABLE tenant (
  id uuid NOT NULL,
  name text NOT NULL,
  slug text NOT NULL,
  state tenant_state NOT NULL DEFAULT 'ACTIVE',
  created_at timestamptz(3) NOT NULL,
  CONSTRAINT tenant_pkey PRIMARY KEY (id),
  CONSTRAINT tenant_name_length CHECK (char_length(name) BETWEEN 1 AND 200),
  CONSTRAINT tenant_slug_form CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')
);
CREATE UNIQUE INDEX tenant_slug_key ON tenant (slug);

-- The operator's own tenant: what concerns no customer (operator keys, their audit records) belongs to it, so that
-- tenant_id is never null anywhere.
INSERT INTO tenant (id, name, slug, created_at)
VALUES ('00000000-0000-7000-8000-000000000000', 'Platform', 'platform', '1970-01-01T00:00:00Z');

-- The tenant table has no tenant_id: a tenant's own row is the one with its id. Only the system role writes it.
REVOKE ALL ON tenant FROM PUBLIC;
ALTER TABLE tenant ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON tenant FOR SELECT TO patchbay_app
  USING (id = (SELECT patchbay.current_tenant()));
CREATE POLICY system_access ON tenant TO patchbay_system USING (true) WITH CHECK (true);
GRANT SELECT ON tenant TO patchbay_app;
GRANT SELECT, INSERT, UPDATE (name, state) ON tenant TO patchbay_system;

CREATE TABLE api_key (
  id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  kind api_key_kind NOT NULL,
  name text NOT NULL,
  prefix text NOT NULL,
  key_hash bytea NOT NULL,
  scopes text[] NOT NULL,
  created_at timestamptz(3) NOT NULL,
  expires_at timestamptz(3),
  last_used_at timestamptz(3),
  revoked_at timestamptz(3),
  rotated_from uuid,
  CONSTRAINT api_key_pkey PRIMARY KEY (id),
  CONSTRAINT api_key_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT api_key_name_length CHECK (char_length(name) BETWEEN 1 AND 200),
  CONSTRAINT api_key_hash_length CHECK (octet_length(key_hash) = 32),
  -- Whatever the program does, a tenant cannot come to hold an operator's key.
  CONSTRAINT api_key_operator_is_platform
    CHECK ((kind = 'OPERATOR') = (tenant_id = '00000000-0000-7000-8000-000000000000'))
);
CREATE UNIQUE INDEX api_key_key_hash_key ON api_key (key_hash);
-- References carry the tenant, because a foreign key's own check is not subject to row-level security.
CREATE UNIQUE INDEX api_key_tenant_id_id_key ON api_key (tenant_id, id);
-- A key is rotated at most once: the second of two racing rotations fails here.
CREATE UNIQUE INDEX api_key_tenant_id_rotated_from_key ON api_key (tenant_id, rotated_from);
ALTER TABLE api_key ADD CONSTRAINT api_key_tenant_id_rotated_from_fkey
  FOREIGN KEY (tenant_id, rotated_from) REFERENCES api_key (tenant_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT;
SELECT patchbay.protect_tenant_table(
  'api_key', 'SELECT, INSERT, UPDATE (expires_at, revoked_at)',
  'SELECT, INSERT, UPDATE (expires_at, revoked_at, last_used_at)');
-- Operators' keys are out of the app role's reach altogether: only the system role makes or sees them.
CREATE POLICY no_operator_keys ON api_key AS RESTRICTIVE TO patchbay_app
  USING (kind = 'TENANT') WITH CHECK (kind = 'TENANT');

CREATE TABLE idempotency_key (
  tenant_id uuid NOT NULL,
  scope text NOT NULL,
  operation text NOT NULL,
  key_hash bytea NOT NULL,
  request_hash bytea NOT NULL,
  state idempotency_state NOT NULL DEFAULT 'PENDING',
  response jsonb,
  created_at timestamptz(3) NOT NULL,
  CONSTRAINT idempotency_key_pkey PRIMARY KEY (tenant_id, scope, operation, key_hash),
  CONSTRAINT idempotency_key_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT
);
CREATE INDEX idempotency_key_created_at_idx ON idempotency_key (created_at);
SELECT patchbay.protect_tenant_table(
  'idempotency_key', 'SELECT, INSERT, UPDATE (state, response)',
  'SELECT, INSERT, UPDATE (state, response), DELETE');

-- No foreign key: the record outlives whatever it is about.
CREATE TABLE audit_log (
  id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  at timestamptz(3) NOT NULL,
  actor_kind text NOT NULL,
  actor_key_id uuid,
  action text NOT NULL,
  target_type text NOT NULL,
  target_id text,
  before jsonb,
  after jsonb,
  request_id text,
  outcome audit_outcome NOT NULL,
  CONSTRAINT audit_log_pkey PRIMARY KEY (id),
  CONSTRAINT audit_log_actor CHECK (
    (actor_kind = 'SYSTEM' AND actor_key_id IS NULL)
    OR (actor_kind IN ('OPERATOR', 'TENANT') AND actor_key_id IS NOT NULL)
  )
);
CREATE INDEX audit_log_tenant_id_id_idx ON audit_log (tenant_id, id);
SELECT patchbay.protect_tenant_table('audit_log', 'SELECT, INSERT', 'SELECT, INSERT');
SELECT patchbay.make_append_only('audit_log');

-- ---------------------------------------------------------------------------------------------------------------
-- Authentication happens before a tenant is known. This function is the only way across tenants for the app role,
-- and it answers only to somebody who already has the key's keyed hash.
-- ---------------------------------------------------------------------------------------------------------------
CREATE POLICY definer_lookup ON api_key FOR SELECT TO patchbay_definer USING (true);
CREATE POLICY definer_lookup ON tenant FOR SELECT TO patchbay_definer USING (true);
GRANT SELECT (id, tenant_id, kind, key_hash, scopes, expires_at, revoked_at) ON api_key TO patchbay_definer;
GRANT SELECT (id, state) ON tenant TO patchbay_definer;

CREATE FUNCTION patchbay.find_api_key(wanted_hash bytea)
  RETURNS TABLE (
    key_id uuid, tenant_id uuid, kind text, scopes text[], tenant_state text,
    expires_at timestamptz, revoked_at timestamptz
  )
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT k.id, k.tenant_id, k.kind::text, k.scopes, t.state::text, k.expires_at, k.revoked_at
  FROM public.api_key k JOIN public.tenant t ON t.id = k.tenant_id
  WHERE k.key_hash = wanted_hash
$$;
SELECT patchbay.make_definer('patchbay.find_api_key(bytea)', 'patchbay_app');

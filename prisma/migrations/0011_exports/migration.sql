-- Exports: files of what a tenant used, was charged and has in the ledger. How they are made is in
-- docs/reference/exports.md and src/exports. Conventions are in src/db/README.md.

-- One file that was asked for. `tenant_id` is whoever asked for it and may read it: an operator's belong to the
-- platform's tenant.
CREATE TABLE data_export (
  id            uuid PRIMARY KEY,
  tenant_id     uuid           NOT NULL REFERENCES tenant (id) ON DELETE RESTRICT ON UPDATE RESTRICT,
  -- Whose rows it holds; null for those of all tenants.
  of_tenant_id  uuid,
  -- A name of src/exports/sources.ts, where more may come.
  source        text           NOT NULL CHECK (source ~ '^[a-z][a-z_]{0,31}$'),
  format        text           NOT NULL CHECK (format IN ('csv', 'jsonl', 'parquet')),
  range_from    timestamptz(3) NOT NULL,
  -- Exclusive, and never later than what was closed when the export was asked for: that is what makes its bytes the
  -- same however often it is written.
  range_until   timestamptz(3) NOT NULL,
  state         text           NOT NULL DEFAULT 'QUEUED'
    CHECK (state IN ('QUEUED', 'RUNNING', 'READY', 'FAILED', 'EXPIRED', 'DELETED')),
  rows_done     bigint         NOT NULL DEFAULT 0 CHECK (rows_done >= 0),
  -- What the database counted when the writing began.
  rows_expected bigint         CHECK (rows_expected >= 0),
  byte_count    bigint         CHECK (byte_count >= 0),
  sha256        text           CHECK (sha256 ~ '^[0-9a-f]{64}$'),
  failure       jsonb          CHECK (jsonb_typeof(failure) = 'object'),
  attempts      integer        NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  lease_owner   uuid,
  -- The database's time, like those of all leases.
  lease_until   timestamptz,
  created_at    timestamptz(3) NOT NULL,
  finished_at   timestamptz(3),
  expires_at    timestamptz(3),
  CONSTRAINT data_export_range CHECK (range_from < range_until),
  -- Whatever the program does, a tenant's export is of the tenant itself.
  CONSTRAINT data_export_of_itself
    CHECK (tenant_id = '00000000-0000-7000-8000-000000000000' OR of_tenant_id IS NOT DISTINCT FROM tenant_id),
  CONSTRAINT data_export_ready_is_whole
    CHECK (state <> 'READY' OR num_nulls(byte_count, sha256, finished_at, expires_at) = 0),
  CONSTRAINT data_export_failed_says_why CHECK ((state = 'FAILED') = (failure IS NOT NULL))
);
CREATE INDEX data_export_tenant_id_id_idx ON data_export (tenant_id, id);
CREATE INDEX data_export_waiting_idx ON data_export (id) WHERE state IN ('QUEUED', 'RUNNING');
CREATE INDEX data_export_expires_at_idx ON data_export (expires_at) WHERE state = 'READY';

SELECT patchbay.protect_tenant_table(
  'data_export',
  'SELECT, INSERT, UPDATE (state)',
  'SELECT, INSERT, UPDATE (state, rows_done, rows_expected, byte_count, sha256, failure, attempts, lease_owner, '
  'lease_until, finished_at, expires_at), DELETE');

-- Before this time nothing can be added any more: facts carry the time at which the transaction that writes them began,
-- and every such transaction that began earlier has ended. All facts are written by patchbay_system, whose sessions
-- that role may see. The margin covers a session that has begun and has not yet said so.
CREATE FUNCTION patchbay.export_horizon(margin interval) RETURNS timestamptz
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT date_trunc('milliseconds', least(statement_timestamp() - margin, (
    SELECT min(a.xact_start) FROM pg_stat_activity a
    WHERE a.datname = current_database() AND a.usename = 'patchbay_system' AND a.pid <> pg_backend_pid())))
$$;
GRANT EXECUTE ON FUNCTION patchbay.export_horizon(interval) TO patchbay_system;

-- Ranges of time over facts whose keys do not follow it exactly. Rows are written in the order of time, so that these
-- tell which blocks can hold some of a range, and cost an insert next to nothing.
CREATE INDEX usage_charge_ended_at_idx ON usage_charge USING brin (ended_at);
CREATE INDEX ledger_transfer_created_at_idx ON ledger_transfer USING brin (created_at);
-- That of postings is 0010's.

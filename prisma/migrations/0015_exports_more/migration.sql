-- Exports that are gone on with: how far the file of a claim is on the disk, so that who takes over need not begin anew.

ALTER TABLE data_export
  -- How often it was claimed. Unlike attempts it never goes back, so that every claim has files of its own.
  ADD COLUMN claims              integer NOT NULL DEFAULT 0 CHECK (claims >= 0),
  -- The claim whose file it is about.
  ADD COLUMN checkpoint_claim    integer CHECK (checkpoint_claim BETWEEN 1 AND claims),
  -- The key of the last row in that part of the file, and what the part comes to.
  ADD COLUMN checkpoint_row_id   uuid,
  ADD COLUMN checkpoint_row_line integer,
  ADD COLUMN checkpoint_rows     bigint CHECK (checkpoint_rows > 0),
  ADD COLUMN checkpoint_bytes    bigint CHECK (checkpoint_bytes > 0),
  ADD COLUMN checkpoint_sha256   text CHECK (checkpoint_sha256 ~ '^[0-9a-f]{64}$'),
  -- Names what rows are made into, so that a program that makes something else begins anew.
  ADD COLUMN checkpoint_layout   text CHECK (checkpoint_layout ~ '^[0-9a-f]{64}$'),
  -- What the format goes on from; for Parquet, what its end will say of the row groups so far.
  ADD COLUMN checkpoint_encoder  bytea,
  ADD CONSTRAINT data_export_checkpoint_is_whole CHECK (
    num_nulls(checkpoint_claim, checkpoint_row_id, checkpoint_row_line, checkpoint_rows, checkpoint_bytes,
      checkpoint_sha256, checkpoint_layout, checkpoint_encoder) IN (0, 8));
GRANT UPDATE (claims, checkpoint_claim, checkpoint_row_id, checkpoint_row_line, checkpoint_rows, checkpoint_bytes,
  checkpoint_sha256, checkpoint_layout, checkpoint_encoder) ON data_export TO patchbay_system;

-- Files that are there already are named by the attempt that wrote them. Who owns the table need not be a superuser, and
-- then changes no row while row-level security is forced.
ALTER TABLE data_export NO FORCE ROW LEVEL SECURITY;
UPDATE data_export SET claims = attempts;
ALTER TABLE data_export FORCE ROW LEVEL SECURITY;

-- Credit notes of a tenant are read in the order of their ids, as invoices and payouts are.
CREATE UNIQUE INDEX credit_note_tenant_id_id_key ON credit_note (tenant_id, id);

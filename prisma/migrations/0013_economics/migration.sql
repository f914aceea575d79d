-- Economics: what adapters take of a machine, and what of a request's price and compute is whose.

-- Rollups ---------------------------------------------------------------------------------------------------------

ALTER TABLE usage_rollup
  -- The compute of the requests, a blend's split over its adapters by share: unlike compute_us, it adds up over versions
  -- to what was computed.
  ADD COLUMN attributed_us bigint  NOT NULL DEFAULT 0,
  -- What of amount_nano beneficiaries earn: the royalties without the platform's fee on them.
  ADD COLUMN earned_nano   numeric NOT NULL DEFAULT 0 CHECK (scale(earned_nano) = 0);
GRANT UPDATE (attributed_us, earned_nano) ON usage_rollup TO patchbay_system;

-- Sums over all tenants read a stretch of time; rows come in the order of time, so a few pages of index find it.
CREATE INDEX usage_rollup_bucket_idx ON usage_rollup USING brin (bucket);

-- What was settled before. A record does not say on which shard it was counted, so the sums of an hour go to one of its
-- rows. The owner of the tables steps over the guards that bind it too, for this statement alone.
ALTER TABLE usage_rollup NO FORCE ROW LEVEL SECURITY;
ALTER TABLE usage_record NO FORCE ROW LEVEL SECURITY;
ALTER TABLE usage_share NO FORCE ROW LEVEL SECURITY;
ALTER TABLE usage_charge NO FORCE ROW LEVEL SECURITY;
WITH share AS (
  SELECT r.id, r.tenant_id, r.compute_us, date_trunc('hour', r.ended_at, 'UTC') AS bucket, s.adapter_version_id,
         s.owner_tenant_id, s.share_numerator, s.share_denominator,
         sum(s.share_numerator) OVER (PARTITION BY r.id ORDER BY s.adapter_version_id) AS upto
  FROM usage_record r JOIN usage_share s ON s.request_id = r.id
), part AS (
  SELECT s.tenant_id, s.owner_tenant_id, s.adapter_version_id, s.bucket, c.royalty_nano - c.fee_nano AS earned,
         div(s.compute_us * s.upto, s.share_denominator)
           - div(s.compute_us * (s.upto - s.share_numerator), s.share_denominator) AS attributed
  FROM share s LEFT JOIN usage_charge c ON c.request_id = s.id AND c.adapter_version_id = s.adapter_version_id
), counted AS (
  SELECT 'caller' AS kind, tenant_id, adapter_version_id, bucket, attributed, earned FROM part
  UNION ALL
  SELECT 'owner', owner_tenant_id, adapter_version_id, bucket, attributed, earned FROM part
  UNION ALL
  SELECT 'caller', r.tenant_id, '00000000-0000-0000-0000-000000000000'::uuid,
         date_trunc('hour', r.ended_at, 'UTC'), r.compute_us, 0
  FROM usage_record r WHERE NOT EXISTS (SELECT FROM usage_share s WHERE s.request_id = r.id)
  UNION ALL
  SELECT 'tenant', r.tenant_id, '00000000-0000-0000-0000-000000000000'::uuid,
         date_trunc('hour', r.ended_at, 'UTC'), r.compute_us,
         (SELECT sum(c.royalty_nano - c.fee_nano) FROM usage_charge c WHERE c.request_id = r.id)
  FROM usage_record r
), summed AS (
  SELECT kind, tenant_id, adapter_version_id, bucket, coalesce(sum(attributed), 0) AS attributed,
         coalesce(sum(earned), 0) AS earned
  FROM counted GROUP BY 1, 2, 3, 4
)
UPDATE usage_rollup r SET attributed_us = s.attributed, earned_nano = s.earned
FROM summed s
WHERE r.kind = s.kind AND r.tenant_id = s.tenant_id AND r.adapter_version_id = s.adapter_version_id
  AND r.bucket = s.bucket
  AND r.shard = (
    SELECT min(o.shard) FROM usage_rollup o
    WHERE o.kind = r.kind AND o.tenant_id = r.tenant_id AND o.adapter_version_id = r.adapter_version_id
      AND o.bucket = r.bucket);
ALTER TABLE usage_rollup FORCE ROW LEVEL SECURITY;
ALTER TABLE usage_record FORCE ROW LEVEL SECURITY;
ALTER TABLE usage_share FORCE ROW LEVEL SECURITY;
ALTER TABLE usage_charge FORCE ROW LEVEL SECURITY;

-- Residency -------------------------------------------------------------------------------------------------------

-- How long an engine was there in an hour, and how many bytes of adapters it could have held in that time. A run is
-- one start of an engine. Rows hold what the run has told of the hour so far and only grow: writing one twice, or an
-- older one late, changes nothing.
CREATE TABLE engine_hour (
  run_id           uuid        NOT NULL,
  bucket           timestamptz NOT NULL CHECK (bucket = date_trunc('hour', bucket, 'UTC')),
  alive_us         bigint      NOT NULL CHECK (alive_us >= 0),
  capacity_byte_us numeric     NOT NULL CHECK (capacity_byte_us >= 0 AND scale(capacity_byte_us) = 0),
  PRIMARY KEY (run_id, bucket)
) WITH (fillfactor = 50);
CREATE INDEX engine_hour_bucket_idx ON engine_hour (bucket);

-- What an adapter took of an engine's memory in an hour: bytes times microseconds, and what loading it cost. By digest,
-- because that is what is in memory: several tenants may have uploaded the same content.
CREATE TABLE adapter_residency (
  run_id       uuid        NOT NULL,
  bucket       timestamptz NOT NULL CHECK (bucket = date_trunc('hour', bucket, 'UTC')),
  digest       text        NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
  host_byte_us numeric     NOT NULL CHECK (host_byte_us >= 0 AND scale(host_byte_us) = 0),
  bank_byte_us numeric     NOT NULL CHECK (bank_byte_us >= 0 AND scale(bank_byte_us) = 0),
  loads        bigint      NOT NULL CHECK (loads >= 0),
  bytes_loaded bigint      NOT NULL CHECK (bytes_loaded >= 0),
  load_us      bigint      NOT NULL CHECK (load_us >= 0),
  PRIMARY KEY (run_id, bucket, digest)
) WITH (fillfactor = 50);
CREATE INDEX adapter_residency_bucket_digest_idx ON adapter_residency (bucket, digest);

-- They belong to no tenant: only the system role sees them.
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['engine_hour', 'adapter_residency'] LOOP
    EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', name);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY system_access ON %I TO patchbay_system USING (true) WITH CHECK (true)', name);
  END LOOP;
END
$$;
GRANT SELECT, INSERT, UPDATE (alive_us, capacity_byte_us) ON engine_hour TO patchbay_system;
GRANT SELECT, INSERT, UPDATE (host_byte_us, bank_byte_us, loads, bytes_loaded, load_us)
  ON adapter_residency TO patchbay_system;

-- Which versions carry a digest, whoever uploaded them.
CREATE INDEX adapter_version_digest_idx ON adapter_version (digest);

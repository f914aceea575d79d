-- Who made which key, so that nobody is two people; and functions that answer for the tenant that is set and for no other.

-- The key that made each key -----------------------------------------------------------------------------------------

-- Null for what the program made by itself: the first keys, and an operator's key that was made on the machine. No foreign
-- key: an operator makes keys of tenants, and a reference without the tenant would tell a tenant which ids exist.
ALTER TABLE api_key ADD COLUMN created_by uuid;
CREATE INDEX api_key_created_by_idx ON api_key (created_by) WHERE created_by IS NOT NULL;
GRANT SELECT (created_by) ON api_key TO patchbay_definer;

-- The audit log knows it of the keys that exist. Whoever migrates owns the tables, and FORCE binds an owner too.
ALTER TABLE api_key NO FORCE ROW LEVEL SECURITY;
ALTER TABLE audit_log NO FORCE ROW LEVEL SECURITY;
UPDATE api_key k SET created_by = l.actor_key_id FROM audit_log l
WHERE l.outcome = 'DONE' AND l.actor_key_id IS NOT NULL
  AND ((l.action = 'apiKey.create' AND l.target_id = k.id::text)
    OR (l.action = 'apiKey.rotate' AND l.after ->> 'successor' = k.id::text));
-- A scope that did not exist when an operator's key got all of them.
UPDATE api_key SET scopes = array_append(scopes, 'tenants:write')
WHERE kind = 'OPERATOR' AND scopes @> ARRAY['infer', 'adapters:read', 'adapters:write', 'usage:read', 'keys:write',
  'billing:read', 'billing:write', 'payouts:write', 'members:write', 'audit:read'];
ALTER TABLE api_key FORCE ROW LEVEL SECURITY;
ALTER TABLE audit_log FORCE ROW LEVEL SECURITY;

-- The second person --------------------------------------------------------------------------------------------------

-- The key itself and every key that it comes from: those it was rotated from, those that made it, and theirs.
CREATE FUNCTION patchbay.key_lineage(key uuid) RETURNS SETOF uuid
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE lineage AS (
    SELECT k.id, k.rotated_from, k.created_by FROM public.api_key k WHERE k.id = key
    UNION
    SELECT k.id, k.rotated_from, k.created_by
    FROM lineage l JOIN public.api_key k ON k.id IN (l.rotated_from, l.created_by)
  )
  SELECT l.id FROM lineage l
$$;
GRANT EXECUTE ON FUNCTION patchbay.key_lineage(uuid) TO patchbay_system;

-- Whether two keys may be one person's: they come from one key, or both belong to one member. Whoever makes a key sees its
-- secret, so the maker could use both. A key that nobody knows is taken for the same.
CREATE OR REPLACE FUNCTION patchbay.is_same_person(one uuid, other uuid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT (SELECT count(*) FROM public.api_key k WHERE k.id IN (one, other)) < 2
    OR EXISTS (SELECT patchbay.key_lineage(one) INTERSECT SELECT patchbay.key_lineage(other))
    OR EXISTS (SELECT FROM public.api_key a JOIN public.api_key b ON b.member_id = a.member_id
               WHERE a.id = one AND b.id = other)
$$;
DROP FUNCTION patchbay.key_origin(uuid);

-- The tenant that is set ---------------------------------------------------------------------------------------------

-- As before, but that it answers to nobody unless the tenant that it is told is the one that is set: a statement that sets
-- none must not read what any tenant's private adapters cost.
DROP FUNCTION patchbay.resolve_prices(uuid, text, uuid[], timestamptz);
CREATE FUNCTION patchbay.resolve_prices(of_tenant uuid, of_backbone text, of_versions uuid[], at timestamptz)
  RETURNS TABLE (
    ordinal integer, version_id uuid, adapter_id uuid, owner_tenant_id uuid, rank integer,
    price_id uuid, currency text, input_nano bigint, cached_input_nano bigint, output_nano bigint, rank_nano bigint,
    interactive_ppm bigint, standard_ppm bigint, batch_ppm bigint, platform_fee_ppm bigint,
    royalty_id uuid, royalty_kind text, royalty_input_nano bigint, royalty_output_nano bigint, royalty_ppm bigint,
    split_id uuid, valid_until timestamptz)
  LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  -- Planned anew for each call it took five times as long (4.7 ms against 0.9), and no argument makes another plan better.
  SET plan_cache_mode = force_generic_plan SET jit = off AS $$
#variable_conflict use_column
BEGIN
  IF of_tenant IS NULL OR of_tenant IS DISTINCT FROM patchbay.current_tenant() THEN
    RAISE EXCEPTION 'resolve_prices: the tenant is not the one that is set' USING ERRCODE = '42501';
  END IF;
  RETURN QUERY
  WITH subject AS (
    SELECT w.n::integer AS n, v.id, v.adapter_id, v.tenant_id, v.rank_max
    FROM unnest(of_versions) WITH ORDINALITY AS w (id, n)
    JOIN public.adapter_version v ON v.id = w.id
    JOIN public.adapter a ON a.id = v.adapter_id
    JOIN public.tenant t ON t.id = v.tenant_id
    WHERE v.state = 'READY'
      AND (v.tenant_id = of_tenant OR (a.visibility = 'PUBLIC' AND t.state = 'ACTIVE'))
    UNION ALL
    SELECT 1, NULL, NULL, NULL, NULL WHERE cardinality(of_versions) = 0
  )
  SELECT s.n, s.id, s.adapter_id, s.tenant_id, s.rank_max,
    p.id, p.currency, p.input_nano_per_million, p.cached_input_nano_per_million, p.output_nano_per_million,
    p.rank_nano_per_million, p.interactive_ppm, p.standard_ppm, p.batch_ppm, p.platform_fee_ppm,
    r.id, r.kind, r.input_nano_per_million, r.output_nano_per_million, r.share_ppm,
    c.id, u.at
  FROM subject s
  LEFT JOIN LATERAL (
    SELECT CASE WHEN o.inherits THEN NULL ELSE o.id END AS id FROM public.price_version o
    WHERE o.adapter_id = s.adapter_id AND o.effective_from <= at ORDER BY o.effective_from DESC LIMIT 1
  ) own ON true
  LEFT JOIN LATERAL (
    SELECT b.id FROM public.price_version b
    WHERE b.backbone_digest = of_backbone AND b.effective_from <= at ORDER BY b.effective_from DESC LIMIT 1
  ) base ON true
  LEFT JOIN public.price_version p ON p.id = coalesce(own.id, base.id)
  LEFT JOIN LATERAL (
    SELECT x.* FROM public.royalty_version x
    WHERE x.adapter_id = s.adapter_id AND x.effective_from <= at ORDER BY x.effective_from DESC LIMIT 1
  ) r ON true
  LEFT JOIN LATERAL (
    SELECT x.id FROM public.split_version x
    WHERE x.adapter_id = s.adapter_id AND (x.adapter_version_id IS NULL OR x.adapter_version_id = s.id)
      AND x.effective_from <= at
    ORDER BY (x.adapter_version_id IS NOT NULL) DESC, x.effective_from DESC LIMIT 1
  ) c ON true
  LEFT JOIN LATERAL (
    SELECT min(next.at) AS at FROM (
      SELECT x.effective_from FROM public.price_version x
      WHERE x.effective_from > at AND x.adapter_id = s.adapter_id
      UNION ALL
      SELECT x.effective_from FROM public.price_version x
      WHERE x.effective_from > at AND x.backbone_digest = of_backbone
      UNION ALL
      SELECT x.effective_from FROM public.royalty_version x
      WHERE x.effective_from > at AND x.adapter_id = s.adapter_id
      UNION ALL
      SELECT x.effective_from FROM public.split_version x
      WHERE x.effective_from > at AND x.adapter_id = s.adapter_id
        AND (x.adapter_version_id IS NULL OR x.adapter_version_id = s.id)
    ) next (at)
  ) u ON true
  ORDER BY s.n;
END
$$;
SELECT patchbay.make_definer('patchbay.resolve_prices(uuid, text, uuid[], timestamptz)', 'patchbay_app');

-- As before, with the tenant that its caller's statement sets rather than one of its own choice.
CREATE OR REPLACE FUNCTION patchbay.find_inference(of_tenant uuid, of_key bytea) RETURNS TABLE (
    request_id uuid, salt bytea, request_hash bytea, prompt_tokens integer, cached_prompt_tokens integer,
    completion_tokens integer, finish_reason text, error_code text, settled_by text)
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF of_tenant IS NULL OR of_tenant IS DISTINCT FROM patchbay.current_tenant() THEN
    RAISE EXCEPTION 'find_inference: the tenant is not the one that is set' USING ERRCODE = '42501';
  END IF;
  RETURN QUERY
    SELECT i.request_id, i.salt, i.request_hash, u.prompt_tokens, u.cached_prompt_tokens, u.completion_tokens,
           u.finish_reason, u.error_code, u.settled_by
    FROM public.inference_idempotency i
    LEFT JOIN public.usage_record u ON u.id = i.request_id AND u.tenant_id = i.tenant_id
    WHERE i.tenant_id = of_tenant AND i.key_hash = of_key;
END
$$;

-- Who can earn -------------------------------------------------------------------------------------------------------

-- As before, but that whoever is added to a split is a tenant that may work, and not the platform; the answer is the one
-- for an id that nobody has. Who shares already may stay whatever became of them, or their share could never change.
DROP FUNCTION patchbay.propose_split(
  uuid, uuid, uuid, uuid, uuid[], bigint[], timestamptz, timestamptz, timestamptz);
CREATE FUNCTION patchbay.propose_split(
  new_id uuid, new_split_id uuid, of_adapter uuid, of_version uuid, to_tenants uuid[], in_parts bigint[],
  wanted_from timestamptz, at timestamptz, earliest timestamptz
) RETURNS text
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  me       uuid := patchbay.current_tenant();
  base     public.split_version;
  proposal public.split_proposal;
  total    bigint := patchbay.sum_parts(in_parts);
  losers   uuid[];
BEGIN
  -- A version first: without one an adapter may still be swept away.
  IF NOT EXISTS (
    SELECT FROM public.adapter_version v
    WHERE v.tenant_id = me AND v.adapter_id = of_adapter AND (of_version IS NULL OR v.id = of_version)
  ) THEN
    RETURN 'UNKNOWN_ADAPTER';
  END IF;
  PERFORM patchbay.lock_splits(of_adapter);
  base := patchbay.newest_split(of_adapter, of_version);
  IF EXISTS (
    SELECT FROM unnest(to_tenants) b
    WHERE b <> me AND b <> ALL (coalesce(base.beneficiaries, '{}')) AND NOT EXISTS (
      SELECT FROM public.tenant t
      WHERE t.id = b AND t.state = 'ACTIVE' AND t.id <> '00000000-0000-7000-8000-000000000000')
  ) THEN
    RETURN 'UNKNOWN_BENEFICIARY';
  END IF;
  IF base.effective_from >= wanted_from THEN
    RETURN 'TOO_EARLY';
  END IF;
  -- Shares are compared as fractions, a / b < c / d as a * d < c * b, in numeric so that nothing overflows.
  SELECT coalesce(array_agg(old.tenant ORDER BY old.tenant), '{}') INTO losers
  FROM unnest(base.beneficiaries, base.parts) AS old (tenant, part)
  LEFT JOIN unnest(to_tenants, in_parts) AS new (tenant, part) ON new.tenant = old.tenant
  WHERE old.tenant <> me AND coalesce(new.part, 0)::numeric * base.whole < old.part::numeric * total;
  INSERT INTO public.split_proposal (id, tenant_id, adapter_id, adapter_version_id, beneficiaries, parts, whole,
    consents_needed, base_id, effective_from, created_at)
  VALUES (new_id, me, of_adapter, of_version, to_tenants, in_parts, total, losers, base.id, wanted_from, at)
  RETURNING * INTO proposal;
  RETURN patchbay.activate_split(proposal, new_split_id, at, earliest);
END
$$;
SELECT patchbay.make_definer(
  'patchbay.propose_split(uuid, uuid, uuid, uuid, uuid[], bigint[], timestamptz, timestamptz, timestamptz)',
  'patchbay_app');

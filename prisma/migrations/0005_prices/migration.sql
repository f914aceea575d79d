-- Prices, royalties and splits: append-only, effective-dated versions. Conventions are in src/db/README.md, the
-- arithmetic that reads these rows in docs/concepts/pricing.md.
--
-- A version is in effect from effective_from until the effective_from of the next version of the same subject. No end is
-- stored: periods of one subject touch and can neither overlap nor leave a gap, and no row has to change when another
-- follows. Two versions of a subject cannot begin at the same time. None begins before it was made, so what was in
-- effect at a time that has passed never changes.
--
-- Amounts are nano-units of the currency for a million tokens, rates are parts per million: integers that multiply
-- exactly. The bounds keep what one request can cost below 2^63 for contexts of up to a million tokens.

-- ---------------------------------------------------------------------------------------------------------------
-- The price book, written by operators. A version is about a backbone, or about an adapter, whose prices then replace
-- the backbone's for that adapter's share of a request.
-- ---------------------------------------------------------------------------------------------------------------
CREATE TABLE price_version (
  id                            uuid           NOT NULL,
  -- The platform for a backbone; the owner for an adapter, who may read it.
  tenant_id                     uuid           NOT NULL,
  backbone_digest               text,
  adapter_id                    uuid,
  -- From here on the adapter has no prices of its own and the backbone's apply again.
  inherits                      boolean        NOT NULL DEFAULT false,
  currency                      text           NOT NULL,
  input_nano_per_million        bigint,
  cached_input_nano_per_million bigint,
  output_nano_per_million       bigint,
  -- For each rank of an adapter and a million tokens that were computed with it.
  rank_nano_per_million         bigint,
  -- Multipliers of the priority classes.
  interactive_ppm               bigint,
  standard_ppm                  bigint,
  batch_ppm                     bigint,
  -- The platform's part of royalties.
  platform_fee_ppm              bigint,
  effective_from                timestamptz(3) NOT NULL,
  created_at                    timestamptz(3) NOT NULL,
  CONSTRAINT price_version_pkey PRIMARY KEY (id),
  CONSTRAINT price_version_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT price_version_backbone_digest_fkey FOREIGN KEY (backbone_digest) REFERENCES backbone (digest)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT price_version_tenant_id_adapter_id_fkey FOREIGN KEY (tenant_id, adapter_id)
    REFERENCES adapter (tenant_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT price_version_one_subject CHECK (num_nonnulls(backbone_digest, adapter_id) = 1),
  CONSTRAINT price_version_backbone_is_platforms
    CHECK (backbone_digest IS NULL OR tenant_id = '00000000-0000-7000-8000-000000000000'),
  CONSTRAINT price_version_adapters_inherit CHECK (NOT inherits OR adapter_id IS NOT NULL),
  -- Zero is a price that somebody has set; a null would be none, and a request without a price is refused.
  CONSTRAINT price_version_complete CHECK (
    num_nulls(input_nano_per_million, cached_input_nano_per_million, output_nano_per_million, rank_nano_per_million,
      interactive_ppm, standard_ppm, batch_ppm, platform_fee_ppm) = CASE WHEN inherits THEN 8 ELSE 0 END),
  CONSTRAINT price_version_price_range CHECK (
    input_nano_per_million BETWEEN 0 AND 1000000000000000
    AND cached_input_nano_per_million BETWEEN 0 AND 1000000000000000
    AND output_nano_per_million BETWEEN 0 AND 1000000000000000
    AND rank_nano_per_million BETWEEN 0 AND 1000000000000),
  CONSTRAINT price_version_class_range CHECK (
    interactive_ppm BETWEEN 0 AND 100000000 AND standard_ppm BETWEEN 0 AND 100000000
    AND batch_ppm BETWEEN 0 AND 100000000),
  -- The platform's part of a royalty and the owner's are parts of one whole.
  CONSTRAINT price_version_fee_range CHECK (platform_fee_ppm BETWEEN 0 AND 1000000),
  CONSTRAINT price_version_currency_form CHECK (currency ~ '^[A-Z]{3,8}$'),
  CONSTRAINT price_version_not_backdated CHECK (effective_from >= created_at AND isfinite(effective_from))
);
CREATE UNIQUE INDEX price_version_backbone_digest_effective_from_key
  ON price_version (backbone_digest, effective_from);
CREATE UNIQUE INDEX price_version_adapter_id_effective_from_key ON price_version (adapter_id, effective_from);
SELECT patchbay.protect_tenant_table('price_version', 'SELECT', 'SELECT, INSERT');
SELECT patchbay.make_append_only('price_version');
-- What a backbone costs is known to every tenant, what a public adapter costs to whoever may run it.
CREATE POLICY backbone_prices ON price_version FOR SELECT TO patchbay_app
  USING (backbone_digest IS NOT NULL AND (SELECT patchbay.current_tenant()) IS NOT NULL);
CREATE POLICY visible_adapters ON price_version FOR SELECT TO patchbay_app
  USING ((SELECT patchbay.current_tenant()) IS NOT NULL AND adapter_id IS NOT NULL
    AND EXISTS (SELECT FROM patchbay.find_adapter(adapter_id)));

-- An installation has one currency: amounts of two could not be added up. The lock makes the first of two racing
-- versions decide.
CREATE FUNCTION patchbay.guard_currency() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  known text;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('patchbay.currency', 0));
  SELECT p.currency INTO known FROM public.price_version p LIMIT 1;
  IF known <> NEW.currency THEN
    RAISE EXCEPTION 'price_version: the currency of this installation is %', known USING ERRCODE = '22023';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER guard_currency BEFORE INSERT ON price_version
  FOR EACH ROW EXECUTE FUNCTION patchbay.guard_currency();

-- ---------------------------------------------------------------------------------------------------------------
-- Royalties, written by the owners of adapters. An adapter without one in effect asks for none.
-- ---------------------------------------------------------------------------------------------------------------
CREATE TABLE royalty_version (
  id                      uuid           NOT NULL,
  -- The owner.
  tenant_id               uuid           NOT NULL,
  adapter_id              uuid           NOT NULL,
  kind                    text           NOT NULL,
  input_nano_per_million  bigint,
  output_nano_per_million bigint,
  -- Of what the adapter's share of the request costs without the royalty, on top of it.
  share_ppm               bigint,
  effective_from          timestamptz(3) NOT NULL,
  created_at              timestamptz(3) NOT NULL,
  CONSTRAINT royalty_version_pkey PRIMARY KEY (id),
  CONSTRAINT royalty_version_tenant_id_adapter_id_fkey FOREIGN KEY (tenant_id, adapter_id)
    REFERENCES adapter (tenant_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT royalty_version_kind CHECK (CASE kind
    WHEN 'PER_TOKEN' THEN num_nonnulls(input_nano_per_million, output_nano_per_million) = 2 AND share_ppm IS NULL
    WHEN 'SHARE' THEN num_nonnulls(input_nano_per_million, output_nano_per_million) = 0 AND share_ppm IS NOT NULL
    ELSE false END),
  CONSTRAINT royalty_version_range CHECK (
    input_nano_per_million BETWEEN 0 AND 1000000000000000
    AND output_nano_per_million BETWEEN 0 AND 1000000000000000
    AND share_ppm BETWEEN 0 AND 10000000),
  CONSTRAINT royalty_version_not_backdated CHECK (effective_from >= created_at AND isfinite(effective_from))
);
CREATE UNIQUE INDEX royalty_version_adapter_id_effective_from_key ON royalty_version (adapter_id, effective_from);
SELECT patchbay.protect_tenant_table('royalty_version', 'SELECT, INSERT', 'SELECT');
SELECT patchbay.make_append_only('royalty_version');
-- Whoever may run an adapter may know what its owner asks for it.
CREATE POLICY visible_adapters ON royalty_version FOR SELECT TO patchbay_app
  USING ((SELECT patchbay.current_tenant()) IS NOT NULL AND EXISTS (SELECT FROM patchbay.find_adapter(adapter_id)));

-- ---------------------------------------------------------------------------------------------------------------
-- Splits: who earns an adapter's royalty. A proposal becomes a split when everyone whose share falls has agreed; the
-- owner agrees by proposing. Without a split the owner earns all of it.
--
-- A split of a version stands before the one of its adapter. No role of the program writes these tables: only the two
-- functions below do, so that no bug of the program can skip somebody's consent.
-- ---------------------------------------------------------------------------------------------------------------
CREATE FUNCTION patchbay.sum_parts(parts bigint[]) RETURNS numeric
  LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
  AS $$ SELECT sum(part) FROM unnest(parts) part $$;
CREATE FUNCTION patchbay.are_distinct(ids uuid[]) RETURNS boolean
  LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
  AS $$ SELECT count(DISTINCT id) = cardinality(ids) FROM unnest(ids) id $$;
GRANT EXECUTE ON FUNCTION patchbay.sum_parts(bigint[]), patchbay.are_distinct(uuid[]) TO patchbay_definer;

CREATE TABLE split_proposal (
  id                 uuid           NOT NULL,
  -- The owner of the adapter, who proposes.
  tenant_id          uuid           NOT NULL,
  adapter_id         uuid           NOT NULL,
  -- Null for all versions that have no split of their own.
  adapter_version_id uuid,
  -- In the order that breaks ties of rounding.
  beneficiaries      uuid[]         NOT NULL,
  parts              bigint[]       NOT NULL,
  whole              bigint         NOT NULL,
  -- Whose share falls against the split that this one was compared with; the owner is left out.
  consents_needed    uuid[]         NOT NULL,
  -- That split; null when it was the owner's own whole.
  base_id            uuid,
  -- The earliest time at which it may begin.
  effective_from     timestamptz(3) NOT NULL,
  created_at         timestamptz(3) NOT NULL,
  CONSTRAINT split_proposal_pkey PRIMARY KEY (id),
  CONSTRAINT split_proposal_tenant_id_adapter_id_fkey FOREIGN KEY (tenant_id, adapter_id)
    REFERENCES adapter (tenant_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT split_proposal_tenant_id_adapter_version_id_fkey FOREIGN KEY (tenant_id, adapter_version_id)
    REFERENCES adapter_version (tenant_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT split_proposal_one_part_each
    CHECK (cardinality(beneficiaries) BETWEEN 1 AND 64 AND cardinality(parts) = cardinality(beneficiaries)),
  CONSTRAINT split_proposal_distinct CHECK (patchbay.are_distinct(beneficiaries)),
  CONSTRAINT split_proposal_positive CHECK (0 < ALL (parts) AND array_position(parts, NULL) IS NULL),
  CONSTRAINT split_proposal_parts_equal_whole CHECK (patchbay.sum_parts(parts) = whole),
  CONSTRAINT split_proposal_not_backdated CHECK (effective_from >= created_at AND isfinite(effective_from))
);
CREATE INDEX split_proposal_tenant_id_id_idx ON split_proposal (tenant_id, id);
CREATE INDEX split_proposal_beneficiaries_idx ON split_proposal USING gin (beneficiaries);
CREATE INDEX split_proposal_consents_needed_idx ON split_proposal USING gin (consents_needed);
SELECT patchbay.protect_tenant_table('split_proposal', 'SELECT', 'SELECT');
SELECT patchbay.make_append_only('split_proposal');
-- Who shares in it or is asked sees all of it: nobody can agree to what they cannot read.
CREATE POLICY parties ON split_proposal FOR SELECT TO patchbay_app
  USING ((SELECT patchbay.current_tenant()) = ANY (beneficiaries)
    OR (SELECT patchbay.current_tenant()) = ANY (consents_needed));

CREATE TABLE split_consent (
  proposal_id uuid           NOT NULL,
  -- Who decided.
  tenant_id   uuid           NOT NULL,
  agrees      boolean        NOT NULL,
  decided_at  timestamptz(3) NOT NULL,
  -- The first decision stands.
  CONSTRAINT split_consent_pkey PRIMARY KEY (proposal_id, tenant_id),
  CONSTRAINT split_consent_proposal_id_fkey FOREIGN KEY (proposal_id) REFERENCES split_proposal (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT
);
CREATE INDEX split_consent_tenant_id_idx ON split_consent (tenant_id);
SELECT patchbay.protect_tenant_table('split_consent', 'SELECT', 'SELECT');
SELECT patchbay.make_append_only('split_consent');
CREATE POLICY parties ON split_consent FOR SELECT TO patchbay_app
  USING ((SELECT patchbay.current_tenant()) IS NOT NULL
    AND EXISTS (SELECT FROM split_proposal p WHERE p.id = proposal_id));

CREATE TABLE split_version (
  id                 uuid           NOT NULL,
  tenant_id          uuid           NOT NULL,
  adapter_id         uuid           NOT NULL,
  adapter_version_id uuid,
  beneficiaries      uuid[]         NOT NULL,
  parts              bigint[]       NOT NULL,
  whole              bigint         NOT NULL,
  proposal_id        uuid           NOT NULL,
  effective_from     timestamptz(3) NOT NULL,
  created_at         timestamptz(3) NOT NULL,
  CONSTRAINT split_version_pkey PRIMARY KEY (id),
  CONSTRAINT split_version_proposal_id_fkey FOREIGN KEY (proposal_id) REFERENCES split_proposal (id)
    ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT split_version_tenant_id_adapter_id_fkey FOREIGN KEY (tenant_id, adapter_id)
    REFERENCES adapter (tenant_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT split_version_one_part_each
    CHECK (cardinality(beneficiaries) BETWEEN 1 AND 64 AND cardinality(parts) = cardinality(beneficiaries)),
  CONSTRAINT split_version_distinct CHECK (patchbay.are_distinct(beneficiaries)),
  CONSTRAINT split_version_positive CHECK (0 < ALL (parts) AND array_position(parts, NULL) IS NULL),
  CONSTRAINT split_version_parts_equal_whole CHECK (patchbay.sum_parts(parts) = whole),
  CONSTRAINT split_version_not_backdated CHECK (effective_from >= created_at AND isfinite(effective_from))
);
CREATE UNIQUE INDEX split_version_proposal_id_key ON split_version (proposal_id);
-- One chain for each adapter and one for each version with a split of its own.
CREATE UNIQUE INDEX split_version_chain_key ON split_version (adapter_id, adapter_version_id, effective_from)
  NULLS NOT DISTINCT;
SELECT patchbay.protect_tenant_table('split_version', 'SELECT', 'SELECT');
SELECT patchbay.make_append_only('split_version');
CREATE POLICY parties ON split_version FOR SELECT TO patchbay_app
  USING ((SELECT patchbay.current_tenant()) IS NOT NULL
    AND EXISTS (SELECT FROM split_proposal p WHERE p.id = proposal_id));

-- What the functions below may do.
CREATE POLICY definer_lookup ON price_version FOR SELECT TO patchbay_definer USING (true);
CREATE POLICY definer_lookup ON royalty_version FOR SELECT TO patchbay_definer USING (true);
CREATE POLICY definer_access ON split_proposal TO patchbay_definer USING (true) WITH CHECK (true);
CREATE POLICY definer_access ON split_consent TO patchbay_definer USING (true) WITH CHECK (true);
CREATE POLICY definer_access ON split_version TO patchbay_definer USING (true) WITH CHECK (true);
GRANT SELECT ON price_version, royalty_version TO patchbay_definer;
GRANT SELECT, INSERT ON split_proposal, split_consent, split_version TO patchbay_definer;

-- The newest split that a new one of this scope follows, scheduled ones included; all nulls when there is none.
CREATE FUNCTION patchbay.newest_split(of_adapter uuid, of_version uuid) RETURNS public.split_version
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT s.* FROM public.split_version s
  WHERE s.adapter_id = of_adapter AND (s.adapter_version_id IS NULL OR s.adapter_version_id = of_version)
  ORDER BY (s.adapter_version_id IS NOT NULL) DESC, s.effective_from DESC LIMIT 1
$$;
GRANT EXECUTE ON FUNCTION patchbay.newest_split(uuid, uuid) TO patchbay_definer;

-- One after the other for each adapter: what a proposal is compared with cannot change under it.
CREATE FUNCTION patchbay.lock_splits(of_adapter uuid) RETURNS void
  LANGUAGE sql SET search_path = pg_catalog, pg_temp
  AS $$ SELECT pg_advisory_xact_lock(hashtextextended('patchbay.split.' || of_adapter::text, 0)) $$;
GRANT EXECUTE ON FUNCTION patchbay.lock_splits(uuid) TO patchbay_definer;

-- Where a proposal stands: ACTIVE has become a split (which may begin later), REFUSED was refused by somebody or
-- withdrawn by its owner, STALE was compared with a split that another has followed since, PENDING waits for consents.
CREATE FUNCTION patchbay.state_of_split(p public.split_proposal) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN EXISTS (SELECT FROM public.split_version s WHERE s.proposal_id = p.id) THEN 'ACTIVE'
    WHEN EXISTS (SELECT FROM public.split_consent c WHERE c.proposal_id = p.id AND NOT c.agrees) THEN 'REFUSED'
    WHEN (patchbay.newest_split(p.adapter_id, p.adapter_version_id)).id IS DISTINCT FROM p.base_id THEN 'STALE'
    ELSE 'PENDING' END
$$;
GRANT EXECUTE ON FUNCTION patchbay.state_of_split(public.split_proposal) TO patchbay_definer;

-- Makes a pending proposal a split when nobody's consent is missing, and says where it then stands. It begins when it
-- was to begin, or at `earliest` when the last consent came later than that.
CREATE FUNCTION patchbay.activate_split(p public.split_proposal, new_id uuid, at timestamptz, earliest timestamptz)
  RETURNS text
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF EXISTS (
    SELECT FROM unnest(p.consents_needed) needed
    WHERE NOT EXISTS (
      SELECT FROM public.split_consent c WHERE c.proposal_id = p.id AND c.tenant_id = needed AND c.agrees)
  ) THEN
    RETURN 'PENDING';
  END IF;
  INSERT INTO public.split_version (id, tenant_id, adapter_id, adapter_version_id, beneficiaries, parts, whole,
    proposal_id, effective_from, created_at)
  VALUES (new_id, p.tenant_id, p.adapter_id, p.adapter_version_id, p.beneficiaries, p.parts, p.whole, p.id,
    greatest(p.effective_from, earliest), at);
  RETURN 'ACTIVE';
END
$$;
GRANT EXECUTE ON FUNCTION patchbay.activate_split(public.split_proposal, uuid, timestamptz, timestamptz)
  TO patchbay_definer;

-- Proposes a split of an adapter of the current tenant, and makes it one at once when nobody else's share falls.
-- Answers ACTIVE or PENDING, or why nothing was proposed: UNKNOWN_ADAPTER, UNKNOWN_BENEFICIARY, or TOO_EARLY when the
-- newest split begins at the wanted time or later.
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
  IF EXISTS (SELECT FROM unnest(to_tenants) b WHERE NOT EXISTS (SELECT FROM public.tenant t WHERE t.id = b)) THEN
    RETURN 'UNKNOWN_BENEFICIARY';
  END IF;
  PERFORM patchbay.lock_splits(of_adapter);
  base := patchbay.newest_split(of_adapter, of_version);
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

-- Records what the current tenant says to a proposal, and makes it a split with the last consent. Answers where it then
-- stands, NOT_ASKED for a party whose consent is not needed, or null for what the tenant is no party of, which looks
-- the same as what does not exist. The owner's refusal withdraws. What is decided stays: repeating changes nothing.
CREATE FUNCTION patchbay.decide_split(
  wanted uuid, says_yes boolean, new_split_id uuid, at timestamptz, earliest timestamptz
) RETURNS text
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  me       uuid := patchbay.current_tenant();
  proposal public.split_proposal;
  state    text;
BEGIN
  SELECT * INTO proposal FROM public.split_proposal p
  WHERE p.id = wanted AND (p.tenant_id = me OR me = ANY (p.beneficiaries) OR me = ANY (p.consents_needed));
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  IF NOT (me = ANY (proposal.consents_needed) OR (me = proposal.tenant_id AND NOT says_yes)) THEN
    RETURN 'NOT_ASKED';
  END IF;
  PERFORM patchbay.lock_splits(proposal.adapter_id);
  state := patchbay.state_of_split(proposal);
  IF state <> 'PENDING' THEN
    RETURN state;
  END IF;
  INSERT INTO public.split_consent (proposal_id, tenant_id, agrees, decided_at)
  VALUES (wanted, me, says_yes, at) ON CONFLICT DO NOTHING;
  state := patchbay.state_of_split(proposal);
  IF state <> 'PENDING' THEN
    RETURN state;
  END IF;
  RETURN patchbay.activate_split(proposal, new_split_id, at, earliest);
END
$$;
SELECT patchbay.make_definer('patchbay.decide_split(uuid, boolean, uuid, timestamptz, timestamptz)', 'patchbay_app');

-- Where those of the proposals stand that the current tenant is a party of. A party may not see the split that made
-- its proposal stale, so this is answered for it.
CREATE FUNCTION patchbay.split_states(wanted uuid[]) RETURNS TABLE (proposal_id uuid, state text)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT p.id, patchbay.state_of_split(p)
  FROM public.split_proposal p
  WHERE p.id = ANY (wanted)
    AND (p.tenant_id = patchbay.current_tenant() OR patchbay.current_tenant() = ANY (p.beneficiaries)
         OR patchbay.current_tenant() = ANY (p.consents_needed))
$$;
SELECT patchbay.make_definer('patchbay.split_states(uuid[])', 'patchbay_app');

-- ---------------------------------------------------------------------------------------------------------------
-- What a request would be priced with at a time: one row for each adapter version, in the order asked; one row without
-- a version for the plain backbone. It sets no tenant and needs none to be set, so that it is one statement or a part
-- of another function; a tenant that is set must be the one that is named.
--
-- A version that the tenant may not run has no row. A price_id of null means that the request has no price. Of splits
-- only the id is told: who earns is no business of who pays, and the settlement reads it as the system role.
-- valid_until is when the answer may change by a version that exists already; null is never.
-- ---------------------------------------------------------------------------------------------------------------
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
  IF of_tenant IS NULL OR coalesce(patchbay.current_tenant(), of_tenant) <> of_tenant THEN
    RAISE EXCEPTION 'resolve_prices: another tenant is set' USING ERRCODE = '42501';
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

-- When a tenant was closed: a month that begins after that is none to bill, or a minimum charge would be due for ever.
ALTER TABLE tenant ADD COLUMN closed_at timestamptz(3);

-- The audit log knows it of those that are closed. Whoever migrates owns the tables, and FORCE binds an owner too.
ALTER TABLE tenant NO FORCE ROW LEVEL SECURITY;
ALTER TABLE audit_log NO FORCE ROW LEVEL SECURITY;
UPDATE tenant t SET closed_at = coalesce((
  SELECT max(l.at) FROM audit_log l
  WHERE l.tenant_id = t.id AND l.action = 'tenant.setState' AND l.outcome = 'DONE' AND l.after ->> 'state' = 'CLOSED'), now())
WHERE t.state = 'CLOSED';
ALTER TABLE tenant FORCE ROW LEVEL SECURITY;
ALTER TABLE audit_log FORCE ROW LEVEL SECURITY;

ALTER TABLE tenant ADD CONSTRAINT tenant_closed_at CHECK ((state = 'CLOSED') = (closed_at IS NOT NULL));
GRANT UPDATE (closed_at) ON tenant TO patchbay_system;

-- Whether there is anything to bill of a tenant's month, which begins then: it was a customer in it. What ran when a tenant was
-- closed ends a moment later, perhaps in the next month.
CREATE FUNCTION patchbay.is_billable(of_tenant uuid, month_start timestamptz) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
  SELECT EXISTS (
    SELECT FROM public.tenant t
    WHERE t.id = of_tenant AND t.id <> '00000000-0000-7000-8000-000000000000'
      AND t.created_at < month_start + interval '1 month'
      AND (t.closed_at IS NULL OR t.closed_at >= month_start OR EXISTS (
        SELECT FROM public.usage_charge c
        WHERE c.tenant_id = t.id AND c.ended_at >= month_start AND c.ended_at < month_start + interval '1 month')))
$$;
GRANT EXECUTE ON FUNCTION patchbay.is_billable(uuid, timestamptz) TO patchbay_system;

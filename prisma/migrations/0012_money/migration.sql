-- Thresholds of a budget count again when its limit or its thresholds change: what was told of stays told while it is
-- still reached, and everything above is told of when it is reached. A tenant may not write what is taken of a period,
-- so the database does it for the tenant.

CREATE POLICY alerts_follow_limit ON budget_period TO patchbay_definer USING (true) WITH CHECK (true);
GRANT SELECT, UPDATE (alerted_ppm) ON budget_period TO patchbay_definer;

CREATE FUNCTION patchbay.rearm_budget_alerts() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE public.budget_period p
  SET alerted_ppm = coalesce((
    SELECT max(a.ppm) FROM unnest(NEW.alerts_ppm) AS a(ppm)
    WHERE a.ppm <= p.alerted_ppm AND p.spent_nano::numeric * 1000000 >= NEW.limit_nano::numeric * a.ppm), 0)
  WHERE p.budget_id = NEW.id AND p.alerted_ppm > 0;
  RETURN NULL;
END
$$;
CREATE TRIGGER rearm_alerts AFTER UPDATE OF limit_nano, alerts_ppm ON budget
  FOR EACH ROW EXECUTE FUNCTION patchbay.rearm_budget_alerts();
-- After the trigger, for which whoever makes it needs a right to the function.
SELECT patchbay.make_definer('patchbay.rearm_budget_alerts()', VARIADIC ARRAY[]::text[]);

-- The outbox: what happened, written by the transaction that made it happen. Subscriptions serve it to dashboards, and
-- whatever else is to be told of it (webhooks, later) reads it from here.
--
-- Positions and transaction ids are given out before their transactions commit, and commits come in another order. A
-- reader that went on behind the highest position that it saw would miss what commits later. So readers go by
-- (transaction, position), and only up to the oldest transaction that still runs: everything before that is decided.

CREATE TABLE outbox_event (
  position    bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- pg_current_xact_id(), which has no type that every client knows.
  transaction bigint      NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
  -- What receivers know the event by, however often they get it.
  id          uuid        NOT NULL DEFAULT gen_random_uuid(),
  tenant_id   uuid        NOT NULL,
  kind        text        NOT NULL CHECK (kind ~ '^[a-z]+(_[a-z]+)*\.[a-z]+(_[a-z]+)*$' AND char_length(kind) <= 64),
  -- What it is about: a request, a budget, an invoice, an adapter version.
  subject_id  uuid,
  payload     jsonb       NOT NULL CHECK (jsonb_typeof(payload) = 'object'),
  created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outbox_event_tenant_id_transaction_position_idx ON outbox_event (tenant_id, transaction, position);
CREATE INDEX outbox_event_transaction_position_idx ON outbox_event (transaction, position);
CREATE INDEX outbox_event_created_at_idx ON outbox_event USING brin (created_at);

SELECT patchbay.protect_tenant_table('outbox_event', 'SELECT', 'SELECT, INSERT, DELETE');
CREATE POLICY definer_writes ON outbox_event FOR INSERT TO patchbay_definer WITH CHECK (true);
GRANT INSERT ON outbox_event TO patchbay_definer;
-- Old events are removed; none is ever changed.
CREATE TRIGGER append_only BEFORE UPDATE ON outbox_event FOR EACH ROW EXECUTE FUNCTION patchbay.refuse_change();

-- For functions and triggers: the event is there exactly if the transaction commits.
CREATE FUNCTION patchbay.emit_event(of_tenant uuid, of_kind text, of_subject uuid, of_payload jsonb) RETURNS void
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO public.outbox_event (tenant_id, kind, subject_id, payload)
  VALUES (of_tenant, of_kind, of_subject, of_payload)
$$;
SELECT patchbay.make_definer(
  'patchbay.emit_event(uuid, text, uuid, jsonb)', 'patchbay_system', 'patchbay_definer');

-- Events before this one are decided: no transaction that still runs can add one. A cursor never goes beyond it.
CREATE FUNCTION patchbay.outbox_horizon() RETURNS bigint
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
  RETURN pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
GRANT EXECUTE ON FUNCTION patchbay.outbox_horizon() TO patchbay_app, patchbay_system;

-- Adapter versions: every change of state is an event of their owner.
CREATE FUNCTION patchbay.emit_adapter_state() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM patchbay.emit_event(NEW.tenant_id, 'adapter.state', NEW.id, jsonb_build_object(
    'adapterId', NEW.adapter_id, 'number', NEW.number, 'state', NEW.state::text));
  RETURN NULL;
END
$$;
SELECT patchbay.make_definer('patchbay.emit_adapter_state()');
CREATE TRIGGER emit_created AFTER INSERT ON adapter_version
  FOR EACH ROW EXECUTE FUNCTION patchbay.emit_adapter_state();
CREATE TRIGGER emit_changed AFTER UPDATE ON adapter_version
  FOR EACH ROW WHEN (NEW.state IS DISTINCT FROM OLD.state) EXECUTE FUNCTION patchbay.emit_adapter_state();

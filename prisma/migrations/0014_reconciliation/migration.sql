-- What the engine counted of a request, beside what was metered of it: the two are counted apart, and reconciliation
-- compares them. Null where nobody told: the process was lost (settled by recovery), the engine did not report an end in
-- time, or the request was settled before there was this migration.
ALTER TABLE usage_record
  ADD COLUMN engine_prompt_tokens      integer CHECK (engine_prompt_tokens >= 0),
  ADD COLUMN engine_completion_tokens  integer CHECK (engine_completion_tokens >= 0),
  -- Tokens that came from the engine and were never to be delivered: nobody was there to take them, or the request failed.
  ADD COLUMN dropped_completion_tokens integer CHECK (dropped_completion_tokens >= 0),
  ADD CONSTRAINT usage_record_engine_counts CHECK (
    num_nulls(engine_prompt_tokens, engine_completion_tokens, dropped_completion_tokens) IN (0, 3)
    AND (settled_by = 'engine' OR engine_prompt_tokens IS NULL));

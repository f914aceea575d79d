import { inScope, type SqlRule } from './rule.ts';

/**
 * The prompt tokens that a record `r` is to have by what the engine counted: as src/inference/metered.ts bills prompts, not
 * before the engine began with them, and not for a failure that delivered nothing. Null where the engine did not tell.
 */
export const ENGINE_PROMPT = `CASE
  WHEN r.completion_tokens > 0 OR (r.finish_reason <> 'error' AND r.prefill_us > 0) THEN r.engine_prompt_tokens
  WHEN r.engine_prompt_tokens IS NOT NULL THEN 0 END`;

/** The completion tokens that it is to have: none is dropped of an answer that ended by itself. */
export const ENGINE_COMPLETION = `r.engine_completion_tokens
  - CASE WHEN r.finish_reason IN ('stop', 'length') THEN 0 ELSE r.dropped_completion_tokens END`;

/** The engine's counts and the usage records, as far as the engine told. */
export const ENGINE_RULES: readonly SqlRule[] = [
  {
    rule: 'ENGINE_PROMPT',
    subject: 'REQUEST',
    sql: `
SELECT r.id AS subject_id, r.tenant_id, NULL AS detail, e.expected::text, r.prompt_tokens::text AS actual
FROM usage_record r
CROSS JOIN LATERAL (SELECT ${ENGINE_PROMPT} AS expected) e
WHERE ${inScope('r.ended_at', 'r.tenant_id')} AND r.prompt_tokens <> e.expected`,
  },
  {
    rule: 'ENGINE_COMPLETION',
    subject: 'REQUEST',
    sql: `
SELECT r.id AS subject_id, r.tenant_id, NULL AS detail, e.expected::text, r.completion_tokens::text AS actual
FROM usage_record r
CROSS JOIN LATERAL (SELECT ${ENGINE_COMPLETION} AS expected) e
WHERE ${inScope('r.ended_at', 'r.tenant_id')} AND r.completion_tokens <> e.expected`,
  },
];

import type { PoolClient } from 'pg';
import type { Database } from '../db/client.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import { NO_ADAPTER } from '../metering/statements.ts';

/** When a day is over. */
export interface DayRollupOptions {
  /** How long after its end at the earliest. A transaction shows itself a moment after its clock has stopped. */
  readonly afterMs: number;
}

/** Values that suit a server. */
export const DAY_ROLLUP_DEFAULTS: DayRollupOptions = { afterMs: 60_000 };

/** Every tenant that has sums, found from one to the next in the index. */
const TENANTS = `
RECURSIVE known AS (
  (SELECT tenant_id FROM usage_rollup ORDER BY tenant_id LIMIT 1)
  UNION ALL
  SELECT (SELECT r.tenant_id FROM usage_rollup r WHERE r.tenant_id > k.tenant_id ORDER BY r.tenant_id LIMIT 1)
  FROM known k WHERE k.tenant_id IS NOT NULL
), each AS (
  SELECT k.tenant_id, kind FROM known k CROSS JOIN unnest(ARRAY['tenant', 'caller', 'owner']) AS kind
  WHERE k.tenant_id IS NOT NULL
)`;

/** The first day that has anything, or the present one. */
const FIRST = `
WITH ${TENANTS}
UPDATE usage_rolled SET until = date_trunc('day', least(now(), (
  SELECT min(h.bucket) FROM each e CROSS JOIN LATERAL (
    SELECT r.bucket FROM usage_rollup r WHERE r.tenant_id = e.tenant_id AND r.kind = e.kind ORDER BY r.bucket LIMIT 1) h
)), 'UTC')
WHERE until IS NULL`;

/**
 * The next day, if it is over. Hours are counted by the time of the transaction that settles, so nothing can be added to
 * it any more once no transaction of this role is left that began in it.
 */
const NEXT = `
SELECT d.until FROM usage_rolled d
WHERE d.until + interval '1 day' <= now() - $1 * interval '1 millisecond' AND NOT EXISTS (
  SELECT FROM pg_stat_activity a
  WHERE a.datname = current_database() AND a.usename = current_user AND a.xact_start < d.until + interval '1 day'
    AND a.pid <> pg_backend_pid())
FOR UPDATE SKIP LOCKED`;

const SUMS = `sum(requests)::bigint AS requests, sum(prompt_tokens)::bigint AS prompt_tokens,
           sum(cached_prompt_tokens)::bigint AS cached_prompt_tokens,
           sum(completion_tokens)::bigint AS completion_tokens, sum(compute_us)::bigint AS compute_us,
           sum(amount_nano) AS amount_nano`;

/** The sums of every tenant, and over those the coarser ones, see {@link sumStatement}. */
const ADD = `
WITH ${TENANTS}, summed AS (
  SELECT e.tenant_id, e.kind, h.*
  FROM each e CROSS JOIN LATERAL (
    SELECT adapter_version_id, adapter_id, ${SUMS}
    FROM usage_rollup r
    WHERE r.tenant_id = e.tenant_id AND r.kind = e.kind AND r.bucket >= $1
      AND r.bucket < $1::timestamptz + interval '1 day'
    GROUP BY adapter_version_id, adapter_id) h
), added AS (
  INSERT INTO usage_rollup_day (tenant_id, kind, adapter_version_id, adapter_id, requests, prompt_tokens,
    cached_prompt_tokens, completion_tokens, compute_us, amount_nano, day)
  SELECT *, $1 FROM (
    SELECT * FROM summed
    UNION ALL
    SELECT tenant_id, 'owner_sum', '${NO_ADAPTER}'::uuid, '${NO_ADAPTER}'::uuid, ${SUMS}
    FROM summed WHERE kind = 'owner' GROUP BY tenant_id
    UNION ALL
    SELECT '${PLATFORM_TENANT_ID}'::uuid, 'all_' || kind, adapter_version_id, adapter_id, ${SUMS}
    FROM summed GROUP BY kind, adapter_version_id, adapter_id) every_sum
)
UPDATE usage_rolled SET until = until + interval '1 day'`;

/**
 * Sums usage up over days that are over, so that a question about months reads days. Any number of processes may call it:
 * one adds, the others find nothing to do. A process that dies leaves the day to the next one.
 */
export class DayRollup {
  readonly #options: DayRollupOptions;
  readonly #database: Pick<Database, 'withSystemPg'>;

  constructor(
    options: DayRollupOptions,
    dependencies: { readonly database: Pick<Database, 'withSystemPg'> },
  ) {
    this.#options = options;
    this.#database = dependencies.database;
  }

  /** Adds every day that is over, each in a transaction of its own; returns how many. */
  async run(): Promise<number> {
    for (let days = 0; ; days += 1) {
      if (!(await this.#database.withSystemPg((client) => this.#addNext(client)))) return days;
    }
  }

  async #addNext(client: PoolClient): Promise<boolean> {
    await client.query(FIRST);
    const { rows } = await client.query<{ readonly until: Date }>(NEXT, [this.#options.afterMs]);
    const [day] = rows;
    if (day === undefined) return false;
    // A new statement, hence a new snapshot: it sees everything that those transactions committed.
    await client.query(ADD, [day.until]);
    return true;
  }
}

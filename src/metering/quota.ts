import type { PoolClient } from 'pg';
import type { Uuid } from '../kernel/ids.ts';
import { QUOTA_KINDS, type QuotaLimits, type QuotaRefusal } from '../kernel/quota.ts';

/** An admission to charge. */
export interface QuotaCharge {
  readonly id: Uuid;
  readonly tenantId: Uuid;
  readonly promptTokens: number;
  /** As many as the request may generate; what it does not is given back when it ends. */
  readonly completionTokens: number;
}

/** What an admission reserved and did not use, as the statements that end requests answer it. */
export interface QuotaRefundRow {
  readonly id: Uuid;
  readonly tenant_id: Uuid;
  readonly admitted_at: Date;
  readonly unused_requests: number;
  readonly unused_prompt_tokens: number;
  readonly unused_completion_tokens: number;
}

interface RefusedRow {
  readonly request_id: Uuid;
  readonly quota: string;
  readonly quota_limit: string;
  readonly used: string;
  readonly requested: string;
  readonly retry_after_ms: string | null;
}

const CHARGE = 'SELECT * FROM patchbay.charge_quota($1, $2, $3)';

/**
 * Charges admissions of the open transaction and gives back what ended requests left, in one statement; answers the
 * admissions that do not fit. It must be the last statement that waits for a lock of others: the row of a tenant's
 * quota is then held only until the commit, and no two rounds wait for each other.
 */
export async function chargeQuotas(
  client: Pick<PoolClient, 'query'>,
  charges: readonly QuotaCharge[],
  refunds: readonly QuotaRefundRow[],
  defaults: QuotaLimits,
): Promise<ReadonlyMap<Uuid, QuotaRefusal>> {
  const due = refunds.filter(
    (row) => row.unused_requests > 0 || row.unused_prompt_tokens > 0 || row.unused_completion_tokens > 0,
  );
  if (charges.length === 0 && due.length === 0) return new Map();
  const { rows } = await client.query<RefusedRow>({
    name: 'metering_charge_quota',
    text: CHARGE,
    values: [
      JSON.stringify(charges.map(chargeRow)),
      JSON.stringify(due.map(refundRow)),
      JSON.stringify(defaultsRow(defaults)),
    ],
  });
  return new Map(rows.map((row) => [row.request_id, toRefusal(row)]));
}

function chargeRow(charge: QuotaCharge, index: number) {
  return {
    ord: index + 1,
    id: charge.id,
    tenant_id: charge.tenantId,
    prompt_tokens: charge.promptTokens,
    completion_tokens: charge.completionTokens,
  };
}

function refundRow(row: QuotaRefundRow) {
  return {
    tenant_id: row.tenant_id,
    at: row.admitted_at,
    requests: row.unused_requests,
    prompt_tokens: row.unused_prompt_tokens,
    completion_tokens: row.unused_completion_tokens,
  };
}

function defaultsRow(defaults: QuotaLimits) {
  return {
    requests_per_minute: defaults.REQUESTS_PER_MINUTE,
    prompt_tokens_per_minute: defaults.PROMPT_TOKENS_PER_MINUTE,
    completion_tokens_per_minute: defaults.COMPLETION_TOKENS_PER_MINUTE,
    concurrent_streams: defaults.CONCURRENT_STREAMS,
  };
}

function toRefusal(row: RefusedRow): QuotaRefusal {
  const kind = QUOTA_KINDS.find((name) => name === row.quota);
  if (kind === undefined) throw new Error(`The database names an unknown quota: ${row.quota}`);
  return {
    kind,
    limit: Number(row.quota_limit),
    used: Number(row.used),
    requested: Number(row.requested),
    retryAfterMs: row.retry_after_ms === null ? null : Number(row.retry_after_ms),
  };
}

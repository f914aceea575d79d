import { randomBytes } from 'node:crypto';
import type { Database } from '../../src/db/client.ts';
import type { Clock } from '../../src/kernel/clock.ts';
import { newId, type Uuid } from '../../src/kernel/ids.ts';
import { captureAll, holdAll, runAlone } from '../../src/ledger/statements.ts';

/** An adapter version of a settled request, and who owns it. */
export interface SettledAdapter {
  readonly versionId: Uuid;
  readonly adapterId: Uuid;
  readonly ownerTenantId: Uuid;
}

/** A request that ended, of one part. What is left out is zero or none. */
export interface SettledRequest {
  readonly tenantId: Uuid;
  /** The account that pays. */
  readonly accountId: Uuid;
  /** Lower-case hex SHA-256. */
  readonly backbone: string;
  readonly currency?: string;
  /** With any offset and up to microseconds; the ledger's rows have its milliseconds. */
  readonly endedAt: string;
  readonly adapter?: SettledAdapter | undefined;
  readonly priority?: string | undefined;
  readonly priceVersion: Uuid;
  readonly royaltyVersion?: Uuid | undefined;
  readonly inputTokens?: number;
  readonly cachedTokens?: number;
  readonly outputTokens?: number;
  readonly inputNano?: bigint;
  readonly outputNano?: bigint;
  readonly royaltyNano?: bigint;
  readonly feeNano?: bigint;
  /** Where the royalty without the fee goes, and where the rest does. */
  readonly earnings?: Uuid | undefined;
  readonly platform: Uuid;
}

/** A record with its charge and share, all of one time, as a settlement writes them together. */
const FACTS = `
WITH recorded AS (
  INSERT INTO usage_record (
    id, tenant_id, key_id, instance_id, backbone_digest, prompt_tokens, cached_prompt_tokens, completion_tokens,
    priority_class, queue_us, prefill_us, decode_us, compute_us, bytes_loaded, finish_reason, admitted_at, first_token_at,
    ended_at, settled_by, hold_id, prompt_commitment, output_commitment, amount_nano, currency, engine_prompt_tokens,
    engine_completion_tokens, dropped_completion_tokens)
  VALUES ($1, $2, $1, $1, decode($3, 'hex'), $4::integer + $5::integer, $5, $6, $7, 0, 1, 1, 1, 0, 'stop', $8, $8, $8, 'engine', $9, $10, $10,
    $11, $12, $4::integer + $5::integer, $6, 0)
), shared AS (
  INSERT INTO usage_share (
    request_id, adapter_version_id, adapter_id, adapter_digest, owner_tenant_id, tenant_id, weight, share_numerator,
    share_denominator, backbone_digest, priority_class, prompt_tokens, cached_prompt_tokens, completion_tokens, ended_at,
    royalty_version, currency, royalty_nano, fee_nano)
  SELECT $1::uuid, $13::uuid, $14::uuid, $10::bytea, $15::uuid, $2::uuid, 1, 1, 1, decode($3, 'hex'), $7::text,
         $4::integer + $5::integer, $5::integer, $6::integer, $8::timestamptz, $17::uuid, $12::text, $20::bigint, $21::bigint
  WHERE $13::uuid IS NOT NULL
)
INSERT INTO usage_charge (
  request_id, part, tenant_id, key_id, backbone_digest, adapter_version_id, adapter_id, owner_tenant_id, rank,
  priority_class, share_numerator, share_denominator, price_version, royalty_version, currency, input_tokens,
  cached_tokens, output_tokens, input_nano, cached_nano, output_nano, rank_nano, royalty_nano, fee_nano, total_nano, ended_at)
VALUES ($1, 0, $2, $1, decode($3, 'hex'), $13, $14, $15, CASE WHEN $13::uuid IS NULL THEN NULL ELSE 16 END, $7, 1, 1, $16, $17, $12,
  $4, $5, $6, $18, 0, $19, 0, $20, $21, $11, $8)`;

/**
 * Writes a settled request as it would be in the books: the hold, the record with its charge and share, and the capture, the
 * ledger's part by the ledger's own statements. Answers the request's id.
 */
export async function writeSettled(
  { database, clock }: { readonly database: Database; readonly clock: Clock },
  request: SettledRequest,
): Promise<Uuid> {
  const { tenantId, accountId, adapter, endedAt, platform, earnings, currency = 'USD' } = request;
  const { inputNano = 0n, outputNano = 0n, royaltyNano = 0n, feeNano = 0n } = request;
  const [amount, earned] = [inputNano + outputNano + royaltyNano, royaltyNano - feeNano];
  const [id, holdId, at] = [newId(clock), newId(clock), new Date(endedAt)];
  const run = runAlone(database);
  if (amount > 0n) {
    const hold = { id: holdId, accountId, amount, key: `inference:${id}`, referenceId: id, expiresAt: null };
    const [held] = await holdAll(run, [hold], 'inference', at);
    if (held?.outcome !== 'HELD') throw new Error(`The hold is ${held?.outcome}`);
  }
  await database.querySystem(FACTS, [
    id,
    tenantId,
    request.backbone,
    request.inputTokens ?? 10,
    request.cachedTokens ?? 2,
    request.outputTokens ?? 5,
    request.priority ?? 'STANDARD',
    endedAt,
    amount > 0n ? holdId : null,
    randomBytes(32),
    String(amount),
    currency,
    adapter?.versionId ?? null,
    adapter?.adapterId ?? null,
    adapter?.ownerTenantId ?? null,
    request.priceVersion,
    request.royaltyVersion ?? null,
    String(inputNano),
    String(outputNano),
    String(royaltyNano),
    String(feeNano),
  ]);
  if (amount > 0n) {
    const credits = [
      { accountId: platform, amount: amount - earned, subjectId: null },
      { accountId: earnings ?? platform, amount: earned, subjectId: adapter?.versionId ?? null },
    ].filter((credit) => credit.amount > 0n);
    const [captured] = await captureAll(run, [{ id: newId(clock), holdId, amount, credits }], at);
    if (captured?.outcome !== 'POSTED') throw new Error(`The capture is ${captured?.outcome}`);
  }
  return id;
}

import type { PoolClient } from 'pg';
import type { Database } from '../db/client.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { QuotaLimits } from '../kernel/quota.ts';
import { lockHolds, moveMoney } from './money.ts';
import type { QuotaRefundRow } from './quota.ts';
import {
  ADMIT,
  FIND_ADMITTED,
  FIND_SETTLED,
  LOCK_LIVE_INSTANCES,
  PROGRESS,
  PROGRESS_ALONE,
  SETTLE,
  VOID,
} from './statements.ts';
import type {
  Admission,
  Charge,
  Progress,
  Refusal,
  Settlement,
  SettlementWitness,
  Withdrawal,
} from './types.ts';

/** One thing to write; `instanceId` is the lease that it is written under. */
export type MeteringItem =
  | { readonly kind: 'admit'; readonly instanceId: Uuid; readonly value: Admission }
  | ProgressItem
  | { readonly kind: 'settle'; readonly instanceId: Uuid; readonly value: Settlement }
  | { readonly kind: 'void'; readonly instanceId: Uuid; readonly value: Withdrawal };

interface ProgressItem {
  readonly kind: 'progress';
  readonly instanceId: Uuid;
  readonly value: Progress;
}

/**
 * What became of an item. `duplicate`: its idempotency key is taken. `fenced`: its instance may no longer write.
 * `gone`: the request is no longer there to be changed, because it was settled. `refused`: its tenant's quota, budget or
 * money is used up.
 */
export type MeteringResult =
  | { readonly outcome: 'written' | 'duplicate' | 'fenced' | 'gone' }
  | { readonly outcome: 'refused'; readonly refusal: Refusal };

interface IdRow {
  readonly id: Uuid;
}

/** What a statement that ends requests did: the ids that are as they should be, and what their quotas get back. */
interface Ended {
  readonly ids: ReadonlySet<Uuid>;
  readonly refunds: readonly QuotaRefundRow[];
}

const NOTHING_ENDED: Ended = { ids: new Set(), refunds: [] };

const WRITTEN: MeteringResult = { outcome: 'written' };
const DUPLICATE: MeteringResult = { outcome: 'duplicate' };
const FENCED: MeteringResult = { outcome: 'fenced' };
const GONE: MeteringResult = { outcome: 'gone' };

/**
 * Writes a batch in the open transaction: one statement for the fence, one for each kind that occurs, and those that
 * move money. The caller commits.
 */
export async function writeRound(
  client: PoolClient,
  options: {
    readonly shard: number;
    readonly quotas: QuotaLimits;
    readonly witness: SettlementWitness | null;
  },
  items: readonly MeteringItem[],
): Promise<readonly MeteringResult[]> {
  const live = await ids(client, 'metering_lock', LOCK_LIVE_INSTANCES, [
    unique(items.map((i) => i.instanceId)),
  ]);
  const writable = items.filter((item) => live.has(item.instanceId));
  const admissions = writable.flatMap((item) => (item.kind === 'admit' ? [item.value] : []));
  const settlements = writable.flatMap((item) => (item.kind === 'settle' ? [item.value] : []));
  const withdrawals = writable.flatMap((item) => (item.kind === 'void' ? [item.value] : []));
  await lockHolds(client, [
    ...admissions.map(({ charge }) => charge.hold),
    ...settlements.map(({ capture }) => capture?.hold ?? null),
    ...withdrawals.map(({ hold }) => hold),
  ]);
  const admitted = await admit(client, writable);
  const progressed = await progress(client, writable);
  const settled = await settle(client, options.shard, settlements);
  const voided = await takeBack(
    client,
    withdrawals.map(({ requestId }) => requestId),
  );
  const fresh = settlements.filter(({ requestId }) => settled.fresh.has(requestId));
  const refused = await moveMoney(
    client,
    {
      admitted: admissions.filter(({ requestId }) => admitted.fresh.has(requestId)),
      settled: fresh,
      withdrawn: withdrawals,
      refunds: [...settled.refunds, ...voided.refunds],
    },
    options.quotas,
    async (requestIds) => (await takeBack(client, requestIds)).refunds,
  );
  if (fresh.length > 0) await options.witness?.settled(client, options.shard, fresh);

  const written = { admit: admitted.all, progress: progressed, settle: settled.ids, void: voided.ids };
  return items.map((item) => {
    if (!live.has(item.instanceId)) return FENCED;
    const refusal = item.kind === 'admit' ? refused.get(item.value.requestId) : undefined;
    if (refusal !== undefined) return { outcome: 'refused', refusal };
    if (written[item.kind].has(item.value.requestId)) return WRITTEN;
    return item.kind === 'admit' ? DUPLICATE : GONE;
  });
}

/** Whether {@link writeProgress} can write the batch. */
export function isProgressAlone(items: readonly MeteringItem[]): items is readonly ProgressItem[] {
  return items.every((item) => item.kind === 'progress');
}

/** Writes a batch of nothing but progress, which is most of them while streams run, as one statement on its own. */
export async function writeProgress(
  database: Pick<Database, 'queryReserved'>,
  items: readonly ProgressItem[],
): Promise<readonly MeteringResult[]> {
  const values = [
    ...progressColumns(items.map(({ value }) => value)),
    items.map(({ instanceId }) => instanceId),
  ];
  const rows = await database.queryReserved<IdRow & { readonly what: 'live' | 'moved' }>(
    PROGRESS_ALONE,
    values,
    'metering_progress_alone',
  );
  const idsOf = (kind: 'live' | 'moved') =>
    new Set(rows.filter(({ what }) => what === kind).map(({ id }) => id));
  const [live, moved] = [idsOf('live'), idsOf('moved')];
  return items.map(({ instanceId, value }) => {
    if (!live.has(instanceId)) return FENCED;
    return moved.has(value.requestId) ? WRITTEN : GONE;
  });
}

/** Removes admissions that never ran. Repeating it changes nothing, so every id counts as removed. */
async function takeBack(client: PoolClient, requestIds: readonly Uuid[]): Promise<Ended> {
  if (requestIds.length === 0) return NOTHING_ENDED;
  const gone = await client.query<QuotaRefundRow>({
    name: 'metering_void',
    text: VOID,
    values: [requestIds],
  });
  return { ids: new Set(requestIds), refunds: gone.rows };
}

async function admit(
  client: PoolClient,
  items: readonly MeteringItem[],
): Promise<{ readonly fresh: ReadonlySet<Uuid>; readonly all: ReadonlySet<Uuid> }> {
  const rows = items.flatMap((item) =>
    item.kind === 'admit' ? [admissionRow(item.value, item.instanceId)] : [],
  );
  if (rows.length === 0) return { fresh: new Set(), all: new Set() };
  const fresh = await ids(client, 'metering_admit', ADMIT, [JSON.stringify(rows)]);
  const missing = rows.map((row) => row.id).filter((id) => !fresh.has(id));
  if (missing.length === 0) return { fresh, all: fresh };
  // Either the key is taken, or this very admission was committed by a round whose answer was lost.
  return { fresh, all: union(fresh, await ids(client, 'metering_find_admitted', FIND_ADMITTED, [missing])) };
}

async function progress(client: PoolClient, items: readonly MeteringItem[]): Promise<ReadonlySet<Uuid>> {
  const rows = items.flatMap((item) => (item.kind === 'progress' ? [item.value] : []));
  if (rows.length === 0) return new Set();
  return ids(client, 'metering_progress', PROGRESS, progressColumns(rows));
}

function progressColumns(rows: readonly Progress[]): unknown[] {
  return [
    rows.map((row) => row.requestId),
    rows.map((row) => row.completionTokens),
    rows.map((row) => row.outputCommitment),
    rows.map((row) => row.cachedPromptTokens),
  ];
}

/**
 * Settles requests that are not settled yet. `fresh` are those that this call settled; `ids` has those of them too that
 * an earlier round of this process settled, whose answer was lost.
 */
export async function settle(
  client: PoolClient,
  shard: number,
  settlements: readonly Settlement[],
): Promise<Ended & { readonly fresh: ReadonlySet<Uuid> }> {
  if (settlements.length === 0) return { ...NOTHING_ENDED, fresh: new Set() };
  const { rows: refunds } = await client.query<QuotaRefundRow>({
    name: 'metering_settle',
    text: SETTLE,
    values: [JSON.stringify(settlements.map(settlementRow)), shard],
  });
  const fresh = new Set(refunds.map((row) => row.id));
  const missing = settlements.map(({ requestId }) => requestId).filter((id) => !fresh.has(id));
  if (missing.length === 0) return { ids: fresh, fresh, refunds };
  const found = await client.query<IdRow & { readonly settled_by: string }>({
    name: 'metering_find_settled',
    text: FIND_SETTLED,
    values: [missing],
  });
  // Our own commit whose answer was lost counts as written; what recovery settled does not.
  const ours = found.rows.filter((row) => row.settled_by === 'engine').map((row) => row.id);
  return { ids: union(fresh, new Set(ours)), fresh, refunds };
}

function admissionRow(admission: Admission, instanceId: Uuid) {
  return {
    id: admission.requestId,
    tenant_id: admission.tenantId,
    key_id: admission.keyId,
    instance_id: instanceId,
    idempotency_key_hash: admission.idempotency?.keyHash.toString('hex') ?? null,
    idempotency_salt: admission.idempotency?.salt.toString('hex') ?? null,
    request_hash: admission.idempotency?.requestHash.toString('hex') ?? null,
    backbone_digest: admission.backboneDigest,
    adapters: admission.adapters.map((adapter) => ({
      version_id: adapter.versionId,
      adapter_id: adapter.adapterId,
      owner_tenant_id: adapter.ownerTenantId,
      digest: adapter.digest,
      weight: adapter.weight,
      share_numerator: adapter.shareNumerator.toString(),
      share_denominator: adapter.shareDenominator.toString(),
    })),
    priority_class: admission.priority,
    prompt_tokens: admission.promptTokens,
    max_tokens: admission.maxTokens,
    salt: admission.salt.toString('hex'),
    prompt_commitment: admission.promptCommitment.toString('hex'),
    output_commitment: admission.emptyOutputCommitment.toString('hex'),
    hold_id: admission.charge.hold?.id ?? null,
    pricing: admission.charge.pricing,
  };
}

function settlementRow(settlement: Settlement) {
  return {
    id: settlement.requestId,
    instance_id: settlement.instanceId,
    prompt_tokens: settlement.promptTokens,
    cached_prompt_tokens: settlement.cachedPromptTokens,
    completion_tokens: settlement.completionTokens,
    output_commitment: settlement.outputCommitment.toString('hex'),
    queue_us: settlement.queueUs,
    prefill_us: settlement.prefillUs,
    decode_us: settlement.decodeUs,
    compute_us: settlement.computeUs,
    bytes_loaded: settlement.bytesLoaded,
    finish_reason: settlement.finishReason,
    error_code: settlement.errorCode,
    settled_by: settlement.settledBy,
    engine_prompt_tokens: settlement.engineCount?.promptTokens ?? null,
    engine_completion_tokens: settlement.engineCount?.completionTokens ?? null,
    dropped_completion_tokens: settlement.engineCount?.droppedTokens ?? null,
    charge: settlement.charge === null ? null : chargeRow(settlement.charge),
  };
}

function chargeRow({ currency, amount, parts }: Charge) {
  return {
    currency,
    amount: String(amount),
    parts: parts.map((part, index) => ({
      part: index,
      version_id: part.adapter?.versionId ?? null,
      adapter_id: part.adapter?.adapterId ?? null,
      owner_tenant_id: part.adapter?.ownerTenantId ?? null,
      rank: part.adapter?.rank ?? null,
      share_numerator: String(part.share.numerator),
      share_denominator: String(part.share.denominator),
      price_version: part.priceVersion,
      royalty_version: part.royaltyVersion,
      split_version: part.splitVersion,
      input_tokens: part.inputTokens,
      cached_tokens: part.cachedTokens,
      output_tokens: part.outputTokens,
      input_nano: String(part.input),
      cached_nano: String(part.cached),
      output_nano: String(part.output),
      rank_nano: String(part.rank),
      royalty_nano: String(part.royalty),
      fee_nano: String(part.fee),
      total_nano: String(part.input + part.cached + part.output + part.rank + part.royalty),
    })),
  };
}

/** Runs a prepared statement whose rows have an id, and returns the ids. */
async function ids(
  client: PoolClient,
  name: string,
  text: string,
  values: unknown[],
): Promise<ReadonlySet<Uuid>> {
  const result = await client.query<IdRow>({ name, text, values });
  return new Set(result.rows.map((row) => row.id));
}

function unique(values: readonly Uuid[]): readonly Uuid[] {
  return [...new Set(values)];
}

function union(a: ReadonlySet<Uuid>, b: ReadonlySet<Uuid>): ReadonlySet<Uuid> {
  return new Set([...a, ...b]);
}

import type { PoolClient } from 'pg';
import type { Uuid } from '../kernel/ids.ts';
import {
  ADMIT,
  FIND_ADMITTED,
  FIND_SETTLED,
  LOCK_LIVE_INSTANCES,
  PROGRESS,
  SETTLE,
  VOID,
} from './statements.ts';
import type { Admission, Progress, Settlement } from './types.ts';

/** One thing to write; `instanceId` is the lease that it is written under. */
export type MeteringItem =
  | { readonly kind: 'admit'; readonly instanceId: Uuid; readonly value: Admission }
  | { readonly kind: 'progress'; readonly instanceId: Uuid; readonly value: Progress }
  | { readonly kind: 'settle'; readonly instanceId: Uuid; readonly value: Settlement }
  | { readonly kind: 'void'; readonly instanceId: Uuid; readonly value: { readonly requestId: Uuid } };

/**
 * What became of an item. `duplicate`: its idempotency key is taken. `fenced`: its instance may no longer write.
 * `gone`: the request is no longer there to be changed, because it was settled.
 */
export interface MeteringResult {
  readonly outcome: 'written' | 'duplicate' | 'fenced' | 'gone';
}

interface IdRow {
  readonly id: Uuid;
}

const WRITTEN: MeteringResult = { outcome: 'written' };
const DUPLICATE: MeteringResult = { outcome: 'duplicate' };
const FENCED: MeteringResult = { outcome: 'fenced' };
const GONE: MeteringResult = { outcome: 'gone' };

/**
 * Writes a batch in the open transaction: one statement for the fence, and one for each kind that occurs. The caller
 * commits.
 */
export async function writeRound(
  client: PoolClient,
  shard: number,
  items: readonly MeteringItem[],
): Promise<readonly MeteringResult[]> {
  const live = await ids(client, 'metering_lock', LOCK_LIVE_INSTANCES, [
    unique(items.map((i) => i.instanceId)),
  ]);
  const writable = items.filter((item) => live.has(item.instanceId));
  const admitted = await admit(client, writable);
  const progressed = await progress(client, writable);
  const settled = await settle(client, shard, writable);
  const voided = writable.filter((item) => item.kind === 'void').map((item) => item.value.requestId);
  if (voided.length > 0) await client.query({ name: 'metering_void', text: VOID, values: [voided] });

  const written = { admit: admitted, progress: progressed, settle: settled, void: new Set(voided) };
  return items.map((item) => {
    if (!live.has(item.instanceId)) return FENCED;
    if (written[item.kind].has(item.value.requestId)) return WRITTEN;
    return item.kind === 'admit' ? DUPLICATE : GONE;
  });
}

async function admit(client: PoolClient, items: readonly MeteringItem[]): Promise<ReadonlySet<Uuid>> {
  const rows = items.flatMap((item) =>
    item.kind === 'admit' ? [admissionRow(item.value, item.instanceId)] : [],
  );
  if (rows.length === 0) return new Set();
  const written = await ids(client, 'metering_admit', ADMIT, [JSON.stringify(rows)]);
  const missing = rows.map((row) => row.id).filter((id) => !written.has(id));
  if (missing.length === 0) return written;
  // Either the key is taken, or this very admission was committed by a round whose answer was lost.
  return union(written, await ids(client, 'metering_find_admitted', FIND_ADMITTED, [missing]));
}

async function progress(client: PoolClient, items: readonly MeteringItem[]): Promise<ReadonlySet<Uuid>> {
  const rows = items.flatMap((item) => (item.kind === 'progress' ? [item.value] : []));
  if (rows.length === 0) return new Set();
  return ids(client, 'metering_progress', PROGRESS, [
    rows.map((row) => row.requestId),
    rows.map((row) => row.completionTokens),
    rows.map((row) => row.outputCommitment),
  ]);
}

async function settle(
  client: PoolClient,
  shard: number,
  items: readonly MeteringItem[],
): Promise<ReadonlySet<Uuid>> {
  const rows = items.flatMap((item) => (item.kind === 'settle' ? [settlementRow(item.value)] : []));
  if (rows.length === 0) return new Set();
  const written = await ids(client, 'metering_settle', SETTLE, [JSON.stringify(rows), shard]);
  const missing = rows.map((row) => row.id).filter((id) => !written.has(id));
  if (missing.length === 0) return written;
  const found = await client.query<IdRow & { readonly settled_by: string }>({
    name: 'metering_find_settled',
    text: FIND_SETTLED,
    values: [missing],
  });
  // Our own commit whose answer was lost counts as written; what recovery settled does not.
  const ours = found.rows.filter((row) => row.settled_by === 'engine').map((row) => row.id);
  return union(written, new Set(ours));
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

import type { PoolClient } from 'pg';
import { z } from 'zod';
import type { Uuid } from '../../kernel/ids.ts';
import type { PriorityClass } from '../../kernel/priority.ts';
import type { DocumentIds, DocumentStore } from './document-store.ts';
import type { PartCharge, ReceiptFacts, ReceiptPart } from './fields.ts';

/** A settled request without a receipt. 64-bit integers are text, as the driver gives them. */
export interface PendingRow {
  readonly request_id: Uuid;
  readonly lane: number;
  readonly tenant_number: string;
  readonly version_ids: readonly Uuid[];
  readonly version_numbers: readonly string[];
  readonly executed: unknown;
}

interface RecordRow {
  readonly id: Uuid;
  readonly tenant_id: Uuid;
  readonly key_id: Uuid;
  readonly backbone_digest: string;
  readonly priority_class: PriorityClass;
  readonly prompt_tokens: number;
  readonly cached_prompt_tokens: number;
  readonly completion_tokens: number;
  readonly prompt_commitment: string;
  readonly output_commitment: string;
  readonly admitted_at: string;
  readonly ended_at: string;
  readonly finish_reason: string;
  readonly settled_by: 'engine' | 'recovery';
  readonly currency: string | null;
  readonly amount_nano: string | null;
}

interface ShareRow {
  readonly request_id: Uuid;
  readonly adapter_version_id: Uuid;
  readonly owner_tenant_id: Uuid;
  readonly adapter_digest: string;
  readonly weight: number;
  readonly share_numerator: string;
  readonly share_denominator: string;
}

interface ChargeRow {
  readonly request_id: Uuid;
  readonly adapter_version_id: Uuid | null;
  readonly rank: number | null;
  readonly price_version: Uuid;
  readonly royalty_version: Uuid | null;
  readonly split_version: Uuid | null;
  readonly input_nano: string;
  readonly cached_nano: string;
  readonly output_nano: string;
  readonly rank_nano: string;
  readonly royalty_nano: string;
  readonly fee_nano: string;
}

const MICROSECONDS = (column: string): string =>
  `(extract(epoch FROM ${column}) * 1000000)::bigint::text AS ${column}`;

const RECORDS = `
SELECT id, tenant_id, key_id, encode(backbone_digest, 'hex') AS backbone_digest, priority_class, prompt_tokens,
       cached_prompt_tokens, completion_tokens, encode(prompt_commitment, 'hex') AS prompt_commitment,
       encode(output_commitment, 'hex') AS output_commitment, ${MICROSECONDS('admitted_at')}, ${MICROSECONDS('ended_at')},
       finish_reason, settled_by, currency, amount_nano
FROM usage_record WHERE id = ANY ($1::uuid[])`;

const SHARES = `
SELECT request_id, adapter_version_id, owner_tenant_id, encode(adapter_digest, 'hex') AS adapter_digest, weight,
       share_numerator, share_denominator
FROM usage_share WHERE request_id = ANY ($1::uuid[])`;

const CHARGES = `
SELECT request_id, adapter_version_id, rank, price_version, royalty_version, split_version, input_nano, cached_nano,
       output_nano, rank_nano, royalty_nano, fee_nano
FROM usage_charge WHERE request_id = ANY ($1::uuid[])`;

const executedUses = z.array(z.object({ digest: z.string(), weight: z.number() })).nullable();

/** Reads what the receipts of these requests state, in their order. */
export async function readFacts(
  client: PoolClient,
  pending: readonly PendingRow[],
  documents: DocumentStore,
): Promise<readonly ReceiptFacts[]> {
  const values = [pending.map(({ request_id }) => request_id)];
  const records = await client.query<RecordRow>({ name: 'receipts_records', text: RECORDS, values });
  const shares = await client.query<ShareRow>({ name: 'receipts_shares', text: SHARES, values });
  const charges = await client.query<ChargeRow>({ name: 'receipts_charges', text: CHARGES, values });
  const digests = await documents.digests(charges.rows.map(documentIds));
  const byId = new Map(records.rows.map((row) => [row.id, row]));
  return pending.flatMap((row) => {
    const record = byId.get(row.request_id);
    if (record === undefined) return [];
    const of = { shares: shares.rows.filter(isOf(row)), charges: charges.rows.filter(isOf(row)) };
    const chargeOf = (versionId: Uuid | null): PartCharge | null => {
      const charge = of.charges.find(({ adapter_version_id }) => adapter_version_id === versionId);
      return charge === undefined ? null : toCharge(charge, digests);
    };
    const parts =
      row.version_ids.length === 0
        ? [{ adapter: null, share: { numerator: 1n, denominator: 1n }, charge: chargeOf(null) }]
        : row.version_ids.flatMap((versionId, index): readonly ReceiptPart[] => {
            const share = of.shares.find(({ adapter_version_id }) => adapter_version_id === versionId);
            const number = row.version_numbers[index];
            if (share === undefined || number === undefined) return [];
            return [
              toPart(share, { lane: row.lane, number: BigInt(number) }, row.executed, chargeOf(versionId)),
            ];
          });
    return [toFacts(record, row, parts)];
  });
}

function toFacts(record: RecordRow, row: PendingRow, parts: readonly ReceiptPart[]): ReceiptFacts {
  return {
    requestId: record.id,
    tenantId: record.tenant_id,
    counter: { lane: row.lane, number: BigInt(row.tenant_number) },
    keyId: record.key_id,
    backboneDigest: record.backbone_digest,
    priority: record.priority_class,
    promptTokens: record.prompt_tokens,
    cachedPromptTokens: record.cached_prompt_tokens,
    completionTokens: record.completion_tokens,
    promptCommitment: record.prompt_commitment,
    outputCommitment: record.output_commitment,
    admittedAtUs: BigInt(record.admitted_at),
    endedAtUs: BigInt(record.ended_at),
    finish: record.finish_reason,
    settledBy: record.settled_by,
    currency: record.currency,
    amount: record.amount_nano === null ? null : BigInt(record.amount_nano),
    parts,
  };
}

/**
 * A part as the engine executed it. Where nothing was executed, or nobody was left to say, it is as it was admitted; a
 * version whose weights the engine did not run has no digest.
 */
function toPart(
  share: ShareRow,
  counter: { readonly lane: number; readonly number: bigint },
  executed: unknown,
  charge: PartCharge | null,
): ReceiptPart {
  const ran = executedUses.parse(executed);
  const use = ran === null ? share : ran.find(({ digest }) => digest === share.adapter_digest);
  return {
    adapter: {
      versionId: share.adapter_version_id,
      ownerTenantId: share.owner_tenant_id,
      digest: use === undefined ? '' : share.adapter_digest,
      weight: use?.weight ?? 0,
      counter,
    },
    share: { numerator: BigInt(share.share_numerator), denominator: BigInt(share.share_denominator) },
    charge,
  };
}

function toCharge(row: ChargeRow, digests: ReadonlyMap<Uuid, string>): PartCharge {
  const digestOf = (id: Uuid | null): string | null => (id === null ? null : (digests.get(id) ?? null));
  return {
    rank: row.rank,
    price: digestOf(row.price_version) ?? '',
    royaltyTerms: digestOf(row.royalty_version),
    split: digestOf(row.split_version),
    input: BigInt(row.input_nano),
    cached: BigInt(row.cached_nano),
    output: BigInt(row.output_nano),
    rankAmount: BigInt(row.rank_nano),
    royalty: BigInt(row.royalty_nano),
    fee: BigInt(row.fee_nano),
  };
}

function documentIds({ price_version, royalty_version, split_version }: ChargeRow): DocumentIds {
  return { price: price_version, royalty: royalty_version, split: split_version };
}

function isOf({ request_id }: PendingRow): (row: { readonly request_id: Uuid }) => boolean {
  return (row) => row.request_id === request_id;
}

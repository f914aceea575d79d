import { z } from 'zod';
import type { Database } from '../../db/client.ts';
import { invariant } from '../../kernel/errors.ts';
import type { Uuid } from '../../kernel/ids.ts';
import type { PriorityClass } from '../../kernel/priority.ts';
import type { DocumentIds, DocumentStore } from './document-store.ts';
import type { PartCharge, ReceiptFacts, ReceiptPart } from './fields.ts';

/** A settled request without a receipt. 64-bit integers are text, as the driver gives them. */
interface PendingRow {
  readonly request_id: Uuid;
  readonly lane: number;
  readonly tenant_number: string;
  readonly version_ids: readonly Uuid[];
  readonly version_numbers: readonly string[];
  readonly executed: unknown;
}

interface RecordRow {
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

const shareRow = z.object({
  version: z.string(),
  owner: z.string(),
  digest: z.string(),
  weight: z.string().transform(Number),
  numerator: z.string().transform(BigInt),
  denominator: z.string().transform(BigInt),
});
type ShareRow = z.output<typeof shareRow>;

const nano = z.string().transform(BigInt);
const chargeRow = z.object({
  version: z.string().nullable(),
  rank: z.number().nullable(),
  price: z.string(),
  royaltyTerms: z.string().nullable(),
  split: z.string().nullable(),
  input: nano,
  cached: nano,
  output: nano,
  rankAmount: nano,
  royalty: nano,
  fee: nano,
});
type ChargeRow = z.output<typeof chargeRow>;

/** What of a request is in several rows. */
interface PartRows {
  readonly shares: unknown;
  readonly charges: unknown;
}

const MICROSECONDS = (column: string): string =>
  `(extract(epoch FROM u.${column}) * 1000000)::bigint::text AS ${column}`;

// One statement, because the number of statements is most of what a receipt costs. Numbers that JSON would round are texts.
const PENDING = `
SELECT p.request_id, p.lane, p.tenant_number, p.version_ids, p.version_numbers, p.executed,
       u.tenant_id, u.key_id, encode(u.backbone_digest, 'hex') AS backbone_digest, u.priority_class, u.prompt_tokens,
       u.cached_prompt_tokens, u.completion_tokens, encode(u.prompt_commitment, 'hex') AS prompt_commitment,
       encode(u.output_commitment, 'hex') AS output_commitment, ${MICROSECONDS('admitted_at')}, ${MICROSECONDS('ended_at')},
       u.finish_reason, u.settled_by, u.currency, u.amount_nano,
       (SELECT jsonb_agg(jsonb_build_object(
          'version', s.adapter_version_id, 'owner', s.owner_tenant_id, 'digest', encode(s.adapter_digest, 'hex'),
          'weight', s.weight::text, 'numerator', s.share_numerator::text, 'denominator', s.share_denominator::text))
        FROM usage_share s WHERE s.request_id = p.request_id) AS shares,
       (SELECT jsonb_agg(jsonb_build_object(
          'version', c.adapter_version_id, 'rank', c.rank, 'price', c.price_version, 'royaltyTerms', c.royalty_version,
          'split', c.split_version, 'input', c.input_nano::text, 'cached', c.cached_nano::text,
          'output', c.output_nano::text, 'rankAmount', c.rank_nano::text, 'royalty', c.royalty_nano::text,
          'fee', c.fee_nano::text))
        FROM usage_charge c WHERE c.request_id = p.request_id) AS charges
FROM receipt_pending p JOIN usage_record u ON u.id = p.request_id`;

const OWN = {
  name: 'receipts_own',
  text: `${PENDING} WHERE p.request_id = ANY ($1::uuid[]) ORDER BY p.request_id`,
};

const LOST = {
  name: 'receipts_lost',
  text: `${PENDING} WHERE p.created_at < now() - $1 * interval '1 millisecond' ORDER BY p.created_at, p.request_id LIMIT $2`,
};

const executedUses = z.array(z.object({ digest: z.string(), weight: z.number() })).nullable();

/** Which requests are to get receipts: these, or those that were left behind. */
export type Wanted =
  | { readonly requestIds: readonly Uuid[] }
  | { readonly olderThanMs: number; readonly most: number };

/** Reads what the receipts of settled requests that have none state. */
export async function readFacts(
  database: Pick<Database, 'querySystem'>,
  wanted: Wanted,
  documents: DocumentStore,
): Promise<readonly ReceiptFacts[]> {
  const { name, text } = 'requestIds' in wanted ? OWN : LOST;
  const values = 'requestIds' in wanted ? [wanted.requestIds] : [wanted.olderThanMs, wanted.most];
  const rows = await database.querySystem<PendingRow & RecordRow & PartRows>(text, values, name);
  const requests = rows.map((row) => ({
    row,
    shares: z.array(shareRow).parse(row.shares ?? []),
    charges: z.array(chargeRow).parse(row.charges ?? []),
  }));
  const digests = await documents.digests(requests.flatMap(({ charges }) => charges.map(documentIds)));
  return requests.map(({ row, shares, charges }) => {
    const chargeOf = (versionId: Uuid | null): PartCharge | null => {
      const charge = charges.find(({ version }) => version === versionId);
      return charge === undefined ? null : toCharge(charge, digests);
    };
    const parts =
      row.version_ids.length === 0
        ? [{ adapter: null, share: { numerator: 1n, denominator: 1n }, charge: chargeOf(null) }]
        : row.version_ids.flatMap((versionId, index): readonly ReceiptPart[] => {
            const share = shares.find(({ version }) => version === versionId);
            const number = row.version_numbers[index];
            if (share === undefined || number === undefined) return [];
            return [
              toPart(share, { lane: row.lane, number: BigInt(number) }, row.executed, chargeOf(versionId)),
            ];
          });
    return toFacts(row, parts);
  });
}

function toFacts(record: PendingRow & RecordRow, parts: readonly ReceiptPart[]): ReceiptFacts {
  return {
    requestId: record.request_id,
    tenantId: record.tenant_id,
    counter: { lane: record.lane, number: BigInt(record.tenant_number) },
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
  const use = ran === null ? share : ran.find(({ digest }) => digest === share.digest);
  return {
    adapter: {
      versionId: share.version,
      ownerTenantId: share.owner,
      digest: use === undefined ? '' : share.digest,
      weight: use?.weight ?? 0,
      counter,
    },
    share: { numerator: share.numerator, denominator: share.denominator },
    charge,
  };
}

function toCharge(row: ChargeRow, digests: ReadonlyMap<Uuid, string>): PartCharge {
  const digestOf = (id: Uuid): string => {
    const digest = digests.get(id);
    // Rather none than a receipt that names nothing: it could never be signed anew.
    invariant(digest !== undefined, `the version ${id} that a charge names has a document`);
    return digest;
  };
  const { version: _, ...charge } = row;
  return {
    ...charge,
    price: digestOf(row.price),
    royaltyTerms: row.royaltyTerms === null ? null : digestOf(row.royaltyTerms),
    split: row.split === null ? null : digestOf(row.split),
  };
}

function documentIds({ price, royaltyTerms, split }: ChargeRow): DocumentIds {
  return { price, royalty: royaltyTerms, split };
}

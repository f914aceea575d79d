import type { PoolClient } from 'pg';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { Period } from '../kernel/period.ts';
import type { PriorityClass } from '../kernel/priority.ts';
import { requireCurrencyPg } from '../pricing/currency.ts';
import { composeDocument, type InvoiceDocument, type InvoiceLine, type PinnedTerms } from './document.ts';

/** A charge in another currency than the installation's: nothing writes one, so somebody has changed it. */
export class ForeignCharge extends Error {
  readonly found: string;
  readonly wanted: string;

  constructor(found: string, wanted: string) {
    super(`A charge is in ${found}, not in ${wanted}.`);
    this.found = found;
    this.wanted = wanted;
  }
}

/**
 * Makes an invoice's document from what is written of its period: the charges of requests that ended in it, and the terms
 * in effect at its end. The client is in a transaction of the system role; one snapshot makes the parts fit. A bill that was
 * made void keeps the terms that it was made by, whatever was set for its month since: `pinned` names them.
 */
export async function readDocument(
  client: PoolClient,
  tenantId: Uuid,
  period: Period,
  pinned?: Uuid | null,
): Promise<InvoiceDocument> {
  const currency = await requireCurrencyPg(client);
  const lines = await readLines(client, tenantId, period, currency);
  const terms = await readTerms(client, tenantId, period, pinned);
  return composeDocument({ tenantId, period, currency, lines, terms });
}

interface LineRow {
  readonly adapter_version_id: Uuid | null;
  readonly adapter_id: Uuid | null;
  readonly backbone: string;
  readonly priority_class: PriorityClass;
  readonly price_version: Uuid;
  readonly royalty_version: Uuid | null;
  readonly currency: string;
  readonly requests: string;
  readonly input_tokens: string;
  readonly cached_tokens: string;
  readonly output_tokens: string;
  readonly input_nano: string;
  readonly cached_nano: string;
  readonly output_nano: string;
  readonly rank_nano: string;
  readonly royalty_nano: string;
  readonly total_nano: string;
}

async function readLines(
  client: PoolClient,
  tenantId: Uuid,
  period: Period,
  currency: string,
): Promise<readonly InvoiceLine[]> {
  const { rows } = await client.query<LineRow>(
    `SELECT adapter_version_id, adapter_id, encode(backbone_digest, 'hex') AS backbone, priority_class,
            price_version, royalty_version, currency, count(*)::text AS requests,
            sum(input_tokens)::text AS input_tokens, sum(cached_tokens)::text AS cached_tokens,
            sum(output_tokens)::text AS output_tokens, sum(input_nano)::text AS input_nano,
            sum(cached_nano)::text AS cached_nano, sum(output_nano)::text AS output_nano,
            sum(rank_nano)::text AS rank_nano, sum(royalty_nano)::text AS royalty_nano,
            sum(total_nano)::text AS total_nano
     FROM usage_charge
     WHERE tenant_id = $1 AND ended_at >= $2 AND ended_at < $3
     GROUP BY adapter_version_id, adapter_id, backbone_digest, priority_class, price_version, royalty_version, currency`,
    [tenantId, period.start.toISOString(), period.end.toISOString()],
  );
  return rows.map((row) => {
    if (row.currency !== currency) throw new ForeignCharge(row.currency, currency);
    return {
      adapterVersionId: row.adapter_version_id,
      adapterId: row.adapter_id,
      backboneDigest: row.backbone,
      priority: row.priority_class,
      priceVersionId: row.price_version,
      royaltyVersionId: row.royalty_version,
      requests: BigInt(row.requests),
      inputTokens: BigInt(row.input_tokens),
      cachedTokens: BigInt(row.cached_tokens),
      outputTokens: BigInt(row.output_tokens),
      inputNano: BigInt(row.input_nano),
      cachedNano: BigInt(row.cached_nano),
      outputNano: BigInt(row.output_nano),
      rankNano: BigInt(row.rank_nano),
      royaltyNano: BigInt(row.royalty_nano),
      totalNano: BigInt(row.total_nano),
    };
  });
}

interface TermsRow {
  readonly id: Uuid;
  readonly tenant_id: Uuid;
  readonly inherits: boolean;
  readonly currency: string;
  readonly free: string | null;
  readonly minimum: string | null;
  readonly tier_from: readonly string[] | null;
  readonly tier_discount: readonly string[] | null;
}

/** The tenant's own terms at the end of the period, unless it has none or they inherit; then the default ones. */
async function readTerms(
  client: PoolClient,
  tenantId: Uuid,
  period: Period,
  pinned: Uuid | null | undefined,
): Promise<PinnedTerms | null> {
  if (pinned === null) return null;
  const { rows } = await client.query<TermsRow>(
    `SELECT DISTINCT ON (tenant_id) id, tenant_id, inherits, currency, free_nano::text AS free,
            minimum_nano::text AS minimum, tier_from_nano::text[] AS tier_from,
            tier_discount_ppm::text[] AS tier_discount
     FROM billing_terms WHERE tenant_id IN ($1, $2) AND effective_from < $3 AND ($4::uuid IS NULL OR id = $4)
     ORDER BY tenant_id, effective_from DESC`,
    [tenantId, PLATFORM_TENANT_ID, period.end.toISOString(), pinned ?? null],
  );
  const own = rows.find((row) => row.tenant_id === tenantId && !row.inherits);
  const row = own ?? rows.find((one) => one.tenant_id === PLATFORM_TENANT_ID);
  if (row === undefined) return null;
  const discounts = row.tier_discount ?? [];
  return {
    id: row.id,
    terms: {
      currency: row.currency,
      freeNano: BigInt(row.free ?? 0),
      minimumNano: BigInt(row.minimum ?? 0),
      tiers: (row.tier_from ?? []).map((from, index) => ({
        fromNano: BigInt(from),
        discountPpm: BigInt(discounts[index] ?? 0),
      })),
    },
  };
}

/** Texts that lines are shown with, by the id of an adapter version or the digest of a backbone. */
export async function readNames(
  client: PoolClient,
  document: InvoiceDocument,
): Promise<Readonly<Record<string, string>>> {
  const versions = document.lines.flatMap(({ adapterVersionId }) => adapterVersionId ?? []);
  const backbones = document.lines.map(({ backboneDigest }) => backboneDigest);
  const { rows } = await client.query<{ readonly key: string; readonly name: string }>(
    `SELECT v.id::text AS key, t.slug || '/' || a.name || ' v' || v.number AS name
     FROM adapter_version v JOIN adapter a ON a.id = v.adapter_id JOIN tenant t ON t.id = v.tenant_id
     WHERE v.id = ANY ($1::uuid[])
     UNION ALL
     SELECT digest, name FROM backbone WHERE digest = ANY ($2)`,
    [[...new Set(versions)], [...new Set(backbones)]],
  );
  return Object.fromEntries(rows.map(({ key, name }) => [key, name]));
}

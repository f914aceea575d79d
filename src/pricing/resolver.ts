import { z } from 'zod';
import { AS_TENANT, type Database } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { ONE } from '../kernel/money.ts';
import type { PriorityClass } from '../kernel/priority.ts';
import type { Pinned, PinnedPricing, PricedPart, PriceTerms, RoyaltyTerms, SplitTerms } from './terms.ts';

/** Who is to be priced: one request, before it is admitted. */
export interface PricingRequest {
  readonly tenantId: Uuid;
  readonly backboneDigest: string;
  /** The versions of the blend with their exact shares; none for the plain backbone. */
  readonly adapters: readonly {
    readonly versionId: Uuid;
    readonly shareNumerator: bigint;
    readonly shareDenominator: bigint;
  }[];
  readonly priority: PriorityClass;
}

/**
 * How long before it takes effect a change is made at the latest. Answers are remembered for less than that, so that a
 * process has forgotten the old price when the new one begins.
 */
export const PRICE_LEAD_MS = 2_000;
const KEEP_MS = 1_000;
const KEPT_MAX = 4_096;

/**
 * The statement of {@link PriceResolver}: `$2` backbone digest, `$3` adapter version ids, `$4` time, for the tenant of
 * {@link AS_TENANT}. Runs as the app role.
 */
const RESOLVE_PRICES = `SELECT p.* FROM ${AS_TENANT} t
  CROSS JOIN LATERAL patchbay.resolve_prices(t.tenant, $2::text, $3::uuid[], $4::timestamptz) p`;

// Plain pg gives bigint columns as text, Prisma as bigint.
const integer = z.union([z.bigint(), z.string().transform(BigInt)]);
const priceColumns = z.object({
  price_id: z.string(),
  currency: z.string(),
  input_nano: integer,
  cached_input_nano: integer,
  output_nano: integer,
  rank_nano: integer,
  interactive_ppm: integer,
  standard_ppm: integer,
  batch_ppm: integer,
  platform_fee_ppm: integer,
});
const adapterColumns = z.object({
  version_id: z.string(),
  adapter_id: z.string(),
  owner_tenant_id: z.string(),
  rank: z.number(),
});
const royaltyColumns = z.discriminatedUnion('royalty_kind', [
  z.object({
    royalty_kind: z.literal('PER_TOKEN'),
    royalty_id: z.string(),
    royalty_input_nano: integer,
    royalty_output_nano: integer,
  }),
  z.object({ royalty_kind: z.literal('SHARE'), royalty_id: z.string(), royalty_ppm: integer }),
]);
const partRow = z.object({
  ordinal: z.number(),
  version_id: z.string().nullable(),
  price_id: z.string().nullable(),
  royalty_id: z.string().nullable(),
  split_id: z.string().nullable(),
  valid_until: z.date().nullable(),
});

/** What one row of `patchbay.resolve_prices` says, but for what depends on the request. */
type PartTerms = Omit<PricedPart, 'share'>;

interface Resolved {
  readonly parts: readonly PartTerms[];
  /** When the answer may change; null is never by what exists already. */
  readonly validUntilMs: number | null;
}

/** The terms of a price that is in effect now, for requests about to be admitted. */
export class PriceResolver {
  readonly #deps: { readonly database: Database; readonly clock: Clock };
  readonly #kept = new Map<string, { readonly resolved: Resolved; readonly untilMs: number }>();
  readonly #splits = new Map<Uuid, SplitTerms>();

  constructor(dependencies: { readonly database: Database; readonly clock: Clock }) {
    this.#deps = dependencies;
  }

  /**
   * Pins the versions that are in effect now. One statement, or none for what was asked in the last second.
   *
   * @throws PatchbayError `PRICE_MISSING` when the request has no price, `ADAPTER_NOT_FOUND` for a version that the
   *   tenant may not run, whether it exists or not.
   */
  async pin(request: PricingRequest): Promise<PinnedPricing> {
    const { tenantId, backboneDigest, adapters } = request;
    const { clock, database } = this.#deps;
    const at = new Date(clock.nowMs());
    const versions = adapters.map(({ versionId }) => versionId);
    const key = JSON.stringify([tenantId, backboneDigest, versions]);
    const kept = this.#find(key, at.getTime());
    if (kept !== null) return pinOf(request, at, kept);
    const askedMs = clock.monotonicMs();
    const rows = await database.queryApp(RESOLVE_PRICES, [tenantId, backboneDigest, versions, at]);
    const resolved = readResolved(rows, versions);
    this.#keep(key, resolved, askedMs + KEEP_MS);
    return pinOf(request, at, resolved);
  }

  /** The terms of split versions, which never change and so are read once. */
  async splits(pinned: PinnedPricing): Promise<ReadonlyMap<Uuid, SplitTerms>> {
    const wanted = pinned.parts.flatMap(({ splitVersionId }) => splitVersionId ?? []);
    const missing = wanted.filter((id) => !this.#splits.has(id));
    if (missing.length > 0) {
      const rows = await this.#deps.database.withSystem((tx) =>
        tx.splitVersion.findMany({ where: { id: { in: missing } } }),
      );
      for (const row of rows) bounded(this.#splits, row.id, toSplitTerms(row));
    }
    return new Map(
      wanted.flatMap((id) => {
        const terms = this.#splits.get(id);
        return terms === undefined ? [] : [[id, terms]];
      }),
    );
  }

  /** Forgets every remembered answer. */
  forget(): void {
    this.#kept.clear();
  }

  #find(key: string, nowMs: number): Resolved | null {
    const found = this.#kept.get(key);
    if (found === undefined || this.#deps.clock.monotonicMs() >= found.untilMs) return null;
    const { validUntilMs } = found.resolved;
    return validUntilMs !== null && nowMs >= validUntilMs ? null : found.resolved;
  }

  #keep(key: string, resolved: Resolved, untilMs: number): void {
    bounded(this.#kept, key, { resolved, untilMs });
  }
}

/** A row's parts as the terms of a split. */
export function toSplitTerms(row: {
  readonly beneficiaries: readonly Uuid[];
  readonly parts: readonly bigint[];
}): SplitTerms {
  return {
    beneficiaries: row.beneficiaries.map((tenantId, index) => ({ tenantId, parts: row.parts[index] ?? 0n })),
  };
}

function readResolved(rows: readonly unknown[], versions: readonly Uuid[]): Resolved {
  const parts: PartTerms[] = [];
  let validUntilMs: number | null = null;
  for (const raw of rows) {
    const row = partRow.parse(raw);
    if (row.price_id === null) {
      throw new PatchbayError('PRICE_MISSING', 'No price is in effect for what the request would run on.', {
        meta: { adapterVersionId: row.version_id },
      });
    }
    parts.push({
      adapter: row.version_id === null ? null : toAdapter(adapterColumns.parse(raw)),
      price: toPrice(priceColumns.parse(raw)),
      royalty: row.royalty_id === null ? null : toRoyalty(royaltyColumns.parse(raw)),
      splitVersionId: row.split_id,
    });
    const until = row.valid_until?.getTime() ?? null;
    if (until !== null) validUntilMs = Math.min(until, validUntilMs ?? until);
  }
  if (parts.length !== Math.max(1, versions.length)) {
    throw new PatchbayError('ADAPTER_NOT_FOUND', 'No such adapter is visible to you.');
  }
  return { parts, validUntilMs };
}

function pinOf(request: PricingRequest, at: Date, { parts }: Resolved): PinnedPricing {
  return {
    at,
    currency: parts[0]?.price.currency ?? '',
    priority: request.priority,
    parts: parts.map((part, index) => {
      const use = request.adapters[index];
      const share =
        use === undefined ? ONE : { numerator: use.shareNumerator, denominator: use.shareDenominator };
      return { ...part, share };
    }),
  };
}

function toAdapter(row: z.infer<typeof adapterColumns>): PricedPart['adapter'] {
  return {
    versionId: row.version_id,
    adapterId: row.adapter_id,
    ownerTenantId: row.owner_tenant_id,
    rank: row.rank,
  };
}

function toPrice(row: z.infer<typeof priceColumns>): Pinned<PriceTerms> {
  return {
    versionId: row.price_id,
    currency: row.currency,
    inputPerMillion: row.input_nano,
    cachedInputPerMillion: row.cached_input_nano,
    outputPerMillion: row.output_nano,
    rankPerMillion: row.rank_nano,
    classPpm: { INTERACTIVE: row.interactive_ppm, STANDARD: row.standard_ppm, BATCH: row.batch_ppm },
    platformFeePpm: row.platform_fee_ppm,
  };
}

function toRoyalty(row: z.infer<typeof royaltyColumns>): Pinned<RoyaltyTerms> {
  if (row.royalty_kind === 'SHARE') {
    return { versionId: row.royalty_id, kind: 'SHARE', sharePpm: row.royalty_ppm };
  }
  return {
    versionId: row.royalty_id,
    kind: 'PER_TOKEN',
    inputPerMillion: row.royalty_input_nano,
    outputPerMillion: row.royalty_output_nano,
  };
}

/** Puts an entry in and drops the one that was put in first when there are too many. */
function bounded<K, V>(map: Map<K, V>, key: K, value: V): void {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > KEPT_MAX && oldest !== undefined) map.delete(oldest);
}

import type { Database } from '../db/client.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Clock } from '../kernel/clock.ts';
import { newId } from '../kernel/ids.ts';
import { DEFAULT_CURRENCY, MILLION } from '../kernel/money.ts';
import { priceColumns } from './rows.ts';
import type { PriceTerms } from './terms.ts';

/** Nothing for anything: a price all the same, because a request without one is refused. */
export const ZERO_PRICE: PriceTerms = {
  currency: DEFAULT_CURRENCY,
  inputPerMillion: 0n,
  cachedInputPerMillion: 0n,
  outputPerMillion: 0n,
  rankPerMillion: 0n,
  classPpm: { INTERACTIVE: MILLION, STANDARD: MILLION, BATCH: MILLION },
  platformFeePpm: 0n,
};

/** What became of a backbone's price at the start. */
export type DefaultPrice =
  /** The backbone has had a price before. */
  | 'PRICED'
  | 'ZERO'
  /** Others cost something, so nobody meant this one to be free: its requests are refused until it has a price. */
  | 'MISSING';

/** Any amount above zero; adapters that inherit carry zeros. */
const ASKS_SOMETHING = {
  OR: [
    { inputNanoPerMillion: { gt: 0n } },
    { cachedInputNanoPerMillion: { gt: 0n } },
    { outputNanoPerMillion: { gt: 0n } },
    { rankNanoPerMillion: { gt: 0n } },
  ],
};

/**
 * Gives a backbone that never had a price an explicit one of zero, so that a fresh installation can be used before its
 * operator has set prices; not where anything costs something already. Processes that start together do it once.
 */
export async function ensureDefaultPrice(
  { database, clock }: { readonly database: Database; readonly clock: Clock },
  { backboneDigest, currency }: { readonly backboneDigest: string; readonly currency: string },
): Promise<DefaultPrice> {
  return database.withSystem(async (tx) => {
    await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended('patchbay.default_price', 0))`;
    if ((await tx.priceVersion.count({ where: { backboneDigest } })) > 0) return 'PRICED';
    if ((await tx.priceVersion.count({ where: ASKS_SOMETHING })) > 0) return 'MISSING';
    const existing = await tx.priceVersion.findFirst({ select: { currency: true } });
    const now = new Date(clock.nowMs());
    const terms = { ...ZERO_PRICE, currency: existing?.currency ?? currency };
    await tx.priceVersion.create({
      data: {
        id: newId(clock),
        tenantId: PLATFORM_TENANT_ID,
        backboneDigest,
        ...priceColumns(terms, null),
        effectiveFrom: now,
        createdAt: now,
      },
    });
    return 'ZERO';
  });
}

import type { Uuid } from '../kernel/ids.ts';
import type { PriorityClass } from '../kernel/priority.ts';
import { blendShares } from '../metering/shares.ts';
import { type MaximumPrice, maximumPrice, type PricedRequest, priceRequest } from './price.ts';
import type { PriceResolver } from './resolver.ts';
import type { PinnedPricing } from './terms.ts';

/** A request that is to be priced before it is sent. */
export interface QuoteRequest {
  readonly tenantId: Uuid;
  readonly backboneDigest: string;
  /** Empty for the plain backbone. */
  readonly adapters: readonly { readonly versionId: Uuid; readonly weight: number }[];
  readonly priority: PriorityClass;
  readonly promptTokens: number;
  readonly maxTokens: number;
}

/** What a request would cost if it were admitted now. */
export interface Quote {
  readonly pinned: PinnedPricing;
  readonly promptTokens: number;
  readonly maxTokens: number;
  /** Without a cached token and with all the tokens that may be generated. */
  readonly full: PricedRequest;
  /** What a hold would reserve. */
  readonly maximum: MaximumPrice;
  /** What a million tokens of a kind cost, everything included. */
  readonly perMillion: { readonly input: bigint; readonly cachedInput: bigint; readonly output: bigint };
}

const TOKENS = 1_000_000;
const NONE = { promptTokens: 0, cachedPromptTokens: 0, completionTokens: 0 };

/** Prices a request with the versions that are in effect now. */
export async function quoteRequest(resolver: PriceResolver, request: QuoteRequest): Promise<Quote> {
  const { promptTokens, maxTokens, adapters } = request;
  const shares = blendShares(adapters.map(({ weight }) => weight));
  const pinned = await resolver.pin({
    ...request,
    adapters: adapters.map(({ versionId }, index) => ({
      versionId,
      shareNumerator: shares[index]?.numerator ?? 0n,
      shareDenominator: shares[index]?.denominator ?? 1n,
    })),
  });
  const price = (counts: Partial<typeof NONE>): PricedRequest => priceRequest(pinned, { ...NONE, ...counts });
  return {
    pinned,
    promptTokens,
    maxTokens,
    full: price({ promptTokens, completionTokens: maxTokens }),
    maximum: maximumPrice(pinned, { promptTokens, maxTokens }),
    perMillion: {
      input: price({ promptTokens: TOKENS }).total,
      cachedInput: price({ promptTokens: TOKENS, cachedPromptTokens: TOKENS }).total,
      output: price({ completionTokens: TOKENS }).total,
    },
  };
}

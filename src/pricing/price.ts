import { invariant } from '../kernel/errors.ts';
import { MILLION, roundDown, roundHalfEven } from '../kernel/money.ts';
import type { PinnedPricing, PricedPart, RoyaltyTerms, TokenCounts } from './terms.ts';

/** What a line charges for. */
export type LineKind = 'INPUT' | 'CACHED_INPUT' | 'OUTPUT' | 'RANK' | 'ROYALTY';

/** One computed amount of a request's price. */
export interface PriceLine {
  /** Index of the part, in the order of {@link PinnedPricing.parts}. */
  readonly part: number;
  readonly kind: LineKind;
  /** Tokens that it charges for. */
  readonly tokens: bigint;
  /** Rounded once, from exact numbers. */
  readonly amount: bigint;
}

/** What a request costs. */
export interface PricedRequest {
  readonly lines: readonly PriceLine[];
  /** The sum of the lines. */
  readonly total: bigint;
}

/** The most that a request can cost. */
export interface MaximumPrice {
  /** At least the total of {@link priceRequest} for whatever the request may come to use. */
  readonly total: bigint;
  /** By part, in the order of {@link PinnedPricing.parts}. */
  readonly parts: readonly bigint[];
}

const PPM_AND_MILLION = MILLION * MILLION;

/** The price of what a request used. Formulas 1 to 5 of docs/concepts/pricing.md. */
export function priceRequest(pinned: PinnedPricing, counts: TokenCounts): PricedRequest {
  requireCounts(counts);
  const prompt = BigInt(counts.promptTokens);
  const cached = BigInt(counts.cachedPromptTokens);
  const completion = BigInt(counts.completionTokens);
  const lines: PriceLine[] = [];
  for (const [index, part] of pinned.parts.entries()) {
    const { price, adapter, royalty } = part;
    const classPpm = price.classPpm[pinned.priority];
    const add = (kind: LineKind, tokens: bigint, amount: bigint): bigint => {
      lines.push({ part: index, kind, tokens, amount });
      return amount;
    };
    const fresh = prompt - cached;
    let base = add('INPUT', fresh, shareOf(part, fresh * price.inputPerMillion * classPpm));
    base += add('CACHED_INPUT', cached, shareOf(part, cached * price.cachedInputPerMillion * classPpm));
    base += add('OUTPUT', completion, shareOf(part, completion * price.outputPerMillion * classPpm));
    if (adapter !== null) {
      const computed = fresh + completion;
      base += add('RANK', computed, rankAmount(part, adapter.rank, computed, classPpm));
    }
    if (royalty !== null) {
      add('ROYALTY', prompt + completion, royaltyAmount(part, royalty, prompt, completion, base));
    }
  }
  return { lines, total: lines.reduce((sum, { amount }) => sum + amount, 0n) };
}

/**
 * The most that a request of so many prompt tokens can cost, however many of them turn out to be cached and wherever
 * it ends: what a hold reserves.
 *
 * Every line grows with its tokens, and rounding keeps order, so that each line but the prompt's two is bounded by its
 * value for all tokens. A token of the prompt is in one of two lines, whose exact sum is largest when all are in the
 * dearer one; two roundings can add up to one nano-unit to it, which the bound includes where both lines can charge.
 */
export function maximumPrice(
  pinned: PinnedPricing,
  limits: { readonly promptTokens: number; readonly maxTokens: number },
): MaximumPrice {
  requireCounts({
    promptTokens: limits.promptTokens,
    cachedPromptTokens: 0,
    completionTokens: limits.maxTokens,
  });
  const prompt = BigInt(limits.promptTokens);
  const completion = BigInt(limits.maxTokens);
  const parts = pinned.parts.map((part) => {
    const { price, adapter, royalty } = part;
    const classPpm = price.classPpm[pinned.priority];
    const rank = adapter === null ? 0n : rankAmount(part, adapter.rank, prompt + completion, classPpm);
    const output = shareOf(part, completion * price.outputPerMillion * classPpm);
    const base = promptMaximum(part, prompt, classPpm) + output + rank;
    const extra = royalty === null ? 0n : royaltyAmount(part, royalty, prompt, completion, base);
    return base + extra;
  });
  return { parts, total: parts.reduce((sum, part) => sum + part, 0n) };
}

function promptMaximum(part: PricedPart, prompt: bigint, classPpm: bigint): bigint {
  const { inputPerMillion, cachedInputPerMillion } = part.price;
  let dearer = inputPerMillion;
  if (cachedInputPerMillion > dearer) dearer = cachedInputPerMillion;
  const scaled = prompt * dearer * classPpm;
  const twoLines = prompt > 1n && inputPerMillion > 0n && cachedInputPerMillion > 0n && classPpm > 0n;
  if (!twoLines) return shareOf(part, scaled);
  const { numerator, denominator } = part.share;
  return roundDown(scaled * numerator, PPM_AND_MILLION * denominator) + 1n;
}

/** The part's share of tokens × price for a million × class in parts per million. */
function shareOf({ share }: PricedPart, scaled: bigint): bigint {
  return roundHalfEven(scaled * share.numerator, PPM_AND_MILLION * share.denominator);
}

/** Ranks cost computation in full whatever the weight in the blend, so the share does not count here. */
function rankAmount({ price }: PricedPart, rank: number, tokens: bigint, classPpm: bigint): bigint {
  return roundHalfEven(tokens * BigInt(rank) * price.rankPerMillion * classPpm, PPM_AND_MILLION);
}

function royaltyAmount(
  { share }: PricedPart,
  royalty: RoyaltyTerms,
  prompt: bigint,
  completion: bigint,
  base: bigint,
): bigint {
  if (royalty.kind === 'SHARE') return roundHalfEven(base * royalty.sharePpm, MILLION);
  const scaled = prompt * royalty.inputPerMillion + completion * royalty.outputPerMillion;
  return roundHalfEven(scaled * share.numerator, MILLION * share.denominator);
}

function requireCounts({ promptTokens, cachedPromptTokens, completionTokens }: TokenCounts): void {
  for (const count of [promptTokens, cachedPromptTokens, completionTokens]) {
    invariant(Number.isSafeInteger(count) && count >= 0, 'token counts are whole numbers');
  }
  invariant(cachedPromptTokens <= promptTokens, 'cached prompt tokens are prompt tokens');
}

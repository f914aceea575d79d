import type { PriceDocument, RoyaltyDocument } from '../input/documents.ts';
import { type Ratio, round, sum } from './arithmetic.ts';

/** Token counts of a request. */
export interface Counts {
  readonly prompt: bigint;
  readonly cached: bigint;
  readonly completion: bigint;
}

/** What the amounts of one part follow from. */
export interface PartTerms {
  readonly counts: Counts;
  readonly share: Ratio;
  readonly price: PriceDocument;
  /** Parts per million of the class of the request. */
  readonly multiplier: bigint;
  /** Null for the plain backbone. */
  readonly rank: bigint | null;
  /** Null when the owner asks for nothing. */
  readonly royalty: RoyaltyDocument | null;
}

/** The amounts of a part's lines, by the names of their fields. */
export interface Lines {
  readonly input: bigint;
  readonly cached: bigint;
  readonly output: bigint;
  readonly rankAmount: bigint;
  readonly royalty: bigint;
}

const MILLION = 10n ** 6n;

/** The lines of a part as docs/concepts/pricing.md computes them, each exactly and rounded once. */
export function linesOf(terms: PartTerms): Lines {
  const { counts, share, price, multiplier, rank } = terms;
  const shared = (tokens: bigint, perMillion: string): bigint =>
    round({
      over: tokens * BigInt(perMillion) * multiplier * share.over,
      under: MILLION * MILLION * share.under,
    });
  const computed = counts.prompt - counts.cached;
  const input = shared(computed, price.inputPerMillion);
  const cached = shared(counts.cached, price.cachedInputPerMillion);
  const output = shared(counts.completion, price.outputPerMillion);
  const rankAmount = round({
    over: (computed + counts.completion) * (rank ?? 0n) * BigInt(price.rankPerMillion) * multiplier,
    under: MILLION * MILLION,
  });
  const royalty = royaltyOf(terms, sum([input, cached, output, rankAmount]));
  return { input, cached, output, rankAmount, royalty };
}

function royaltyOf({ counts, share, royalty }: PartTerms, base: bigint): bigint {
  if (royalty === null) return 0n;
  if (royalty.kind === 'SHARE') return round({ over: base * BigInt(royalty.sharePpm), under: MILLION });
  const asked =
    counts.prompt * BigInt(royalty.inputPerMillion) + counts.completion * BigInt(royalty.outputPerMillion);
  return round({ over: asked * share.over, under: MILLION * share.under });
}

/** The platform's part of a royalty. */
export function feeOf(royalty: bigint, { platformFeePpm }: PriceDocument): bigint {
  return round({ over: royalty * BigInt(platformFeePpm), under: MILLION });
}

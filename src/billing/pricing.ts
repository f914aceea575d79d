import { z } from 'zod';
import type { Json } from '../db/idempotency.ts';
import { invariant } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { Credit } from '../ledger/types.ts';
import type { Charge, ChargePart } from '../metering/types.ts';
import { pinFromJson, pinToJson } from '../pricing/pin.ts';
import { type PriceLine, priceRequest } from '../pricing/price.ts';
import { splitCharge } from '../pricing/split.ts';
import type { PinnedPricing, SplitTerms, TokenCounts } from '../pricing/terms.ts';

/** The accounts that a request's money moves between. */
export interface RequestAccounts {
  /** Who pays. */
  readonly customer: Uuid;
  readonly platformBase: Uuid;
  readonly platformFee: Uuid;
  /** The earnings of everyone who may earn from the request, by tenant. */
  readonly earnings: ReadonlyMap<Uuid, Uuid>;
}

/**
 * Everything that the price of one request follows from but its token counts, and where the money goes. It is kept with
 * the admission, so that whoever settles the request, this process or a stranger after a crash, computes the same.
 */
export interface RequestPricing {
  readonly pinned: PinnedPricing;
  readonly splits: ReadonlyMap<Uuid, SplitTerms>;
  readonly accounts: RequestAccounts;
}

/** What the request cost, by part, and who gets it. Pure: the same pricing and counts always give the same. */
export function chargeOf({ pinned, splits, accounts }: RequestPricing, counts: TokenCounts): Charge {
  const priced = priceRequest(pinned, counts);
  const { platform, fees, earnings } = splitCharge(pinned, priced, splits);
  const fee = fees.reduce((sum, amount) => sum + amount, 0n);
  const credits: Credit[] = [
    { accountId: accounts.platformBase, amount: platform - fee, subjectId: null },
    { accountId: accounts.platformFee, amount: fee, subjectId: null },
    ...earnings.map(({ tenantId, adapterVersionId, amount }) => {
      const accountId = accounts.earnings.get(tenantId);
      invariant(accountId, `the earnings account of ${tenantId} was not opened`);
      return { accountId, amount, subjectId: adapterVersionId };
    }),
  ];
  return {
    currency: pinned.currency,
    amount: priced.total,
    parts: pinned.parts.map((_, part) => chargePart(pinned, priced.lines, part, counts, fees[part] ?? 0n)),
    credits: credits.filter(({ amount }) => amount > 0n),
  };
}

function chargePart(
  pinned: PinnedPricing,
  lines: readonly PriceLine[],
  part: number,
  counts: TokenCounts,
  fee: bigint,
): ChargePart {
  const terms = pinned.parts[part];
  invariant(terms, 'a part of the price is a part of the pin');
  const amount = (kind: PriceLine['kind']): bigint =>
    lines.reduce((sum, line) => (line.part === part && line.kind === kind ? sum + line.amount : sum), 0n);
  const { adapter, share, price, royalty, splitVersionId } = terms;
  return {
    adapter,
    share,
    priceVersion: price.versionId,
    royaltyVersion: royalty?.versionId ?? null,
    splitVersion: splitVersionId,
    inputTokens: counts.promptTokens - counts.cachedPromptTokens,
    cachedTokens: counts.cachedPromptTokens,
    outputTokens: counts.completionTokens,
    input: amount('INPUT'),
    cached: amount('CACHED_INPUT'),
    output: amount('OUTPUT'),
    rank: amount('RANK'),
    royalty: amount('ROYALTY'),
    fee,
  };
}

const positive = z
  .string()
  .regex(/^\d{1,400}$/)
  .transform(BigInt);

const stored = z.object({
  pin: z.unknown(),
  splits: z.record(
    z.string(),
    z.object({ beneficiaries: z.array(z.object({ tenantId: z.string(), parts: positive })) }),
  ),
  accounts: z.object({
    customer: z.string(),
    platformBase: z.string(),
    platformFee: z.string(),
    earnings: z.record(z.string(), z.string()),
  }),
});

/** As it is kept with an admission; integers are decimal text. */
export function pricingToJson({ pinned, splits, accounts }: RequestPricing): Json {
  return {
    pin: pinToJson(pinned),
    splits: Object.fromEntries(
      [...splits].map(([versionId, { beneficiaries }]) => [
        versionId,
        {
          beneficiaries: beneficiaries.map(({ tenantId, parts }) => ({ tenantId, parts: String(parts) })),
        },
      ]),
    ),
    accounts: {
      customer: accounts.customer,
      platformBase: accounts.platformBase,
      platformFee: accounts.platformFee,
      earnings: Object.fromEntries(accounts.earnings),
    },
  };
}

/** Reads {@link pricingToJson} back; throws on anything else. */
export function pricingFromJson(value: unknown): RequestPricing {
  const { pin, splits, accounts } = stored.parse(value);
  return {
    pinned: pinFromJson(pin),
    splits: new Map(Object.entries(splits)),
    accounts: { ...accounts, earnings: new Map(Object.entries(accounts.earnings)) },
  };
}

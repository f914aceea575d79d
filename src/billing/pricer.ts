import type { PriceableRequest, RequestPrice, RequestPricer } from '../inference/ports.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { formatMoney } from '../kernel/money.ts';
import { AMOUNT_MAX } from '../ledger/types.ts';
import type { Recharge } from '../metering/sweeper.ts';
import type { AdmissionCharge } from '../metering/types.ts';
import { type MaximumPrice, maximumPrice } from '../pricing/price.ts';
import type { PriceResolver } from '../pricing/resolver.ts';
import type { PinnedPricing, SplitTerms } from '../pricing/terms.ts';
import type { AccountBook } from './account-book.ts';
import { chargeOf, pricingFromJson, pricingToJson, type RequestAccounts } from './pricing.ts';

/** What the pricer works with. */
export interface PricerDeps {
  readonly resolver: Pick<PriceResolver, 'pin' | 'splits'>;
  readonly accounts: AccountBook;
  readonly clock: Clock;
}

/** Pins the price of requests, and opens the accounts that their money will move between. */
export class Pricer implements RequestPricer {
  readonly #deps: PricerDeps;

  constructor(dependencies: PricerDeps) {
    this.#deps = dependencies;
  }

  async price(request: PriceableRequest): Promise<RequestPrice> {
    const { resolver, clock } = this.#deps;
    const pinned = await resolver.pin(request);
    const splits = await resolver.splits(pinned);
    const accounts = await this.#accounts(request.tenantId, pinned, splits);
    const pricing = { pinned, splits, accounts };
    const maximum = maximumPrice(pinned, request);
    if (maximum.total > AMOUNT_MAX) {
      throw new PatchbayError('BUDGET_EXCEEDED', 'The request may cost more than one amount can be.', {
        meta: { currency: pinned.currency, maximum: formatMoney(maximum.total) },
      });
    }
    const charge: AdmissionCharge = {
      currency: pinned.currency,
      amount: maximum.total,
      adapters: byAdapter(pinned, maximum),
      // What can cost nothing holds nothing: there is no money to move.
      hold: maximum.total === 0n ? null : { id: newId(clock), accountId: accounts.customer },
      pricing: pricingToJson(pricing),
    };
    return { charge, settle: (counts) => chargeOf(pricing, counts) };
  }

  async #accounts(
    tenantId: Uuid,
    { currency, parts }: PinnedPricing,
    splits: ReadonlyMap<Uuid, SplitTerms>,
  ): Promise<RequestAccounts> {
    const { accounts } = this.#deps;
    const earning = new Set(
      parts.flatMap(({ adapter, royalty, splitVersionId }) => {
        if (adapter === null || royalty === null) return [];
        const split = splitVersionId === null ? undefined : splits.get(splitVersionId);
        return split?.beneficiaries.map((one) => one.tenantId) ?? [adapter.ownerTenantId];
      }),
    );
    const earnings = await Promise.all(
      [...earning].map(async (id): Promise<[Uuid, Uuid]> => [id, await accounts.earnings(id, currency)]),
    );
    return {
      customer: await accounts.customer(tenantId, currency),
      platformBase: await accounts.platform('PLATFORM_BASE', currency),
      platformFee: await accounts.platform('PLATFORM_FEE', currency),
      earnings: new Map(earnings),
    };
  }
}

/** Prices again, from what was kept with the admission, what a lost process left. */
export const recharge: Recharge = (stored, counts) => {
  if (stored === null) return { charge: null, customer: null };
  const pricing = pricingFromJson(stored);
  return { charge: chargeOf(pricing, counts), customer: pricing.accounts.customer };
};

/** What each adapter may cost; two versions of one adapter are added up. */
function byAdapter({ parts }: PinnedPricing, maximum: MaximumPrice): ReadonlyMap<Uuid, bigint> {
  const amounts = new Map<Uuid, bigint>();
  for (const [index, { adapter }] of parts.entries()) {
    if (adapter === null) continue;
    const amount = maximum.parts[index] ?? 0n;
    amounts.set(adapter.adapterId, (amounts.get(adapter.adapterId) ?? 0n) + amount);
  }
  return amounts;
}

import type { RequestPricer } from '../../src/inference/ports.ts';
import type { Recharge } from '../../src/metering/sweeper.ts';
import type { AdmissionCharge, Charge } from '../../src/metering/types.ts';

/** For tests that are not about money, whose tenants need not exist: nothing costs anything, so nothing is held. */
export const FREE: AdmissionCharge = {
  currency: 'USD',
  amount: 0n,
  adapters: new Map(),
  hold: null,
  pricing: {},
};

/** What a request costs that costs nothing. */
export const NO_CHARGE: Charge = { currency: 'USD', amount: 0n, parts: [], credits: [] };

/** Prices everything at nothing. */
export const freePricer: RequestPricer = { price: async () => ({ charge: FREE, settle: () => NO_CHARGE }) };

/** Recovers everything at nothing. */
export const freeRecharge: Recharge = () => ({ charge: NO_CHARGE, customer: null });

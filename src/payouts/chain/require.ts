import { PatchbayError } from '../../kernel/errors.ts';
import type { ChainPayouts } from './open.ts';

/** Payouts on the chain, or CHAIN_PAYOUTS_OFF. */
export function requireChainPayouts(chain: ChainPayouts | null): ChainPayouts {
  if (chain !== null) return chain;
  throw new PatchbayError('CHAIN_PAYOUTS_OFF', 'This installation pays nothing on a chain.');
}

import { id } from 'ethers';

/** Who may anchor, and who may publish payout trees: both contracts call it the same. */
export const PUBLISHER_ROLE: string = id('PUBLISHER_ROLE');

/** Who may stop claims. */
export const PAUSER_ROLE: string = id('PAUSER_ROLE');

import { Interface } from 'ethers';
import { ANCHOR_ABI } from '../attribution-anchor.ts';
import { DISTRIBUTOR_ABI } from '../royalty-distributor.ts';

/** What the contracts that are called through the outbox refuse with. */
export const OUTBOX_ERRORS: Interface = new Interface([
  ...ANCHOR_ABI.fragments,
  ...DISTRIBUTOR_ABI.fragments,
]);

import { type ClaimSigner, PayoutClaimService } from './claims.ts';
import { Distributors } from './distributors.ts';
import { ChainFollower } from './follower.ts';
import { FundingService } from './funding.ts';
import { Republication } from './publication.ts';
import { ChainPayoutRail } from './rail.ts';
import { ChainSettlement, type Settled } from './settlement.ts';
import { PayoutTreeService } from './trees.ts';
import type { ChainDeps, ChainPlace } from './types.ts';

/** Most blocks that one question to a node is about. */
const BLOCKS_MAX = 2_000;

/** Payouts on a chain. */
export interface ChainPayouts {
  readonly rail: ChainPayoutRail;
  readonly funding: Pick<FundingService, 'fund'>;
  readonly claims: Pick<PayoutClaimService, 'find'>;
  readonly trees: Pick<PayoutTreeService, 'list'>;
  /**
   * Reads what the chain says, settles what is paid, and orders again what was refused or forgotten. To be repeated for ever;
   * when it fails, the next time goes on.
   */
  work(): Promise<Worked>;
}

/** What a turn of the work has come to. */
export interface Worked extends Settled {
  /** Trees that are published again, because the contract refused them. */
  readonly republished: readonly bigint[];
}

/** Puts payouts on a chain together. */
export function openChainPayouts(
  options: ChainPlace & { readonly blocksMax?: number },
  deps: ChainDeps & { readonly signer: ClaimSigner | null },
): ChainPayouts {
  const { chainId, distributor, token, blocksMax = BLOCKS_MAX } = options;
  const distributors = new Distributors({ chainId, distributor, token }, deps);
  const parts = { ...deps, distributors };
  const follower = new ChainFollower({ blocksMax }, parts);
  const settlement = new ChainSettlement(parts);
  const republication = new Republication(parts);
  const funding = new FundingService(parts);
  return {
    rail: new ChainPayoutRail(distributors, deps),
    funding,
    claims: new PayoutClaimService(parts),
    trees: new PayoutTreeService(deps),
    work: async () => {
      // What was told is ordered even while the chain cannot be read.
      await funding.carryOut();
      const republished = await republication.run();
      await follower.run();
      return { ...(await settlement.run()), republished };
    },
  };
}

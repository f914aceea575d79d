import { type ClaimSigner, PayoutClaimService } from './claims.ts';
import { Distributors } from './distributors.ts';
import { ChainFollower } from './follower.ts';
import { FundingService } from './funding.ts';
import { Republication } from './publication.ts';
import { ChainPayoutRail } from './rail.ts';
import { ChainSettlement, type Settled } from './settlement.ts';
import { PayoutTreeService } from './trees.ts';
import type { ChainDeps, ChainPlace, Distributor } from './types.ts';

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

/** What a turn of the work has come to, of one distributor. */
export interface Turn extends Settled {
  /** Trees that are published again, because the contract refused them. */
  readonly republished: readonly bigint[];
}

/** The same of a distributor that was replaced, or why there was none; it stops no other. */
export type EarlierTurn = { readonly distributor: string } & (
  | { readonly worked: Turn }
  | { readonly error: unknown }
);

/** What a turn has come to of the distributor that is paid by now, and of those that were replaced. */
export interface Worked extends Turn {
  readonly earlier: readonly EarlierTurn[];
}

/** Puts payouts on a chain together. */
export function openChainPayouts(
  options: ChainPlace & { readonly blocksMax?: number },
  deps: ChainDeps & { readonly signer: ClaimSigner | null },
): ChainPayouts {
  const { chainId, distributor, token, blocksMax = BLOCKS_MAX } = options;
  const distributors = new Distributors({ chainId, distributor, token }, deps);
  const parts = { ...deps, distributors };
  const follower = new ChainFollower({ blocksMax }, deps);
  const settlement = new ChainSettlement(deps);
  const republication = new Republication(deps);
  const funding = new FundingService(parts);
  return {
    rail: new ChainPayoutRail(distributors, deps),
    funding,
    claims: new PayoutClaimService(parts),
    trees: new PayoutTreeService(deps),
    work: async () => {
      // What was told is ordered even while the chain cannot be read.
      await funding.carryOut();
      const turn = async (distributor: Distributor): Promise<Turn> => {
        const republished = await republication.run(distributor);
        await follower.run(distributor);
        return { ...(await settlement.run(distributor)), republished };
      };
      const earlier: EarlierTurn[] = [];
      for (const one of await distributors.used()) {
        if (one.distributor === distributor) continue;
        const told = { distributor: one.distributor };
        await turn(one).then(
          (worked) => earlier.push({ ...told, worked }),
          (error: unknown) => earlier.push({ ...told, error }),
        );
      }
      return { ...(await turn(await distributors.open())), earlier };
    },
  };
}

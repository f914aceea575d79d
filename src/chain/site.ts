import type { Provider } from 'ethers';
import { Token } from './token.ts';

/** Where the deployment's contracts are; null for what is not used. */
export interface ChainSite {
  readonly chainId: bigint;
  readonly anchor: string | null;
  readonly distributor: string | null;
  readonly token: string | null;
}

/** The part of a `patchbay-chain/1` that says where things are: docs/reference/proofs.md. */
export interface SiteDocument {
  readonly chainId: string;
  readonly anchor: string | null;
  readonly distributor: string | null;
  readonly token: string | null;
  readonly decimals: string | null;
}

/** Describes a site; what only the chain knows is asked once. */
export function siteDescriber(site: ChainSite, provider: Provider): () => Promise<SiteDocument> {
  let known: number | null = null;
  return async () => {
    if (site.token !== null) known ??= await new Token(provider, site.token).decimals();
    const { chainId, anchor, distributor, token } = site;
    const decimals = known === null ? null : String(known);
    return { chainId: String(chainId), anchor, distributor, token, decimals };
  };
}

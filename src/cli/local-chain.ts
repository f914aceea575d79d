import { join } from 'node:path';
import type { LocalChain } from '../chain/local/open.ts';
import type { Config, Environment } from '../config/index.ts';
import { type Progress, withProgress } from '../observability/progress.ts';
import { UsageError } from './io.ts';

export type { LocalChain };

/** Starts the chain of the data folder, for a server of this process. */
export async function startLocalChain(config: Config, port: number, progress: Progress): Promise<LocalChain> {
  if (config.chain.rpcUrl !== null) {
    throw new UsageError(
      'PATCHBAY_CHAIN_RPC_URL names a chain, and --chain would start another.',
      'Leave --chain out, or unset PATCHBAY_CHAIN_RPC_URL.',
    );
  }
  const { openLocalChain } = await import('../chain/local/open.ts');
  return withProgress(progress, 'Starting the local chain', () =>
    openLocalChain(join(config.data.dir, 'chain'), port),
  );
}

/** What the server is told of it, as variables, so that the same rules check them. */
export function localSettings({ rpcUrl, chainId, key, anchor, distributor, token }: LocalChain): Environment {
  return {
    PATCHBAY_PROOFS: 'true',
    PATCHBAY_CHAIN_RPC_URL: rpcUrl,
    PATCHBAY_CHAIN_ID: String(chainId),
    PATCHBAY_CHAIN_ANCHOR: anchor,
    PATCHBAY_CHAIN_DISTRIBUTOR: distributor,
    PATCHBAY_CHAIN_TOKEN: token,
    PATCHBAY_CHAIN_KEY: key,
    // It makes a block for each transaction, and never replaces one.
    PATCHBAY_CHAIN_CONFIRMATIONS: '1',
    PATCHBAY_CHAIN_POLL_MS: '500',
  };
}

/** What of it is printed for programs. */
export function publicChain({ rpcUrl, chainId, anchor, distributor, token }: LocalChain) {
  return { rpcUrl, chainId: String(chainId), anchor, distributor, token };
}

import type { KeySource } from '../chain/account.ts';
import { keystoreFile } from '../chain/keystore-file.ts';
import { type Chain, openChain } from '../chain/open.ts';
import type { AppDeps } from '../cli/app-port.ts';
import type { Config } from '../config/index.ts';
import type { Database } from '../db/client.ts';
import { every } from '../metering/periodic.ts';
import type { Lifecycle } from './lifecycle.ts';

/** Longest that one call to the node may take. */
export const CALL_TIMEOUT_MS = 15_000;
const WEI_PER_GWEI = 1_000_000_000n;

interface ChainParts {
  readonly config: Config;
  readonly database: Database;
}

/** Starts what concerns a chain, where one is set up; the lifecycle learns how to stop it. */
export async function startChain(
  { config, database }: ChainParts,
  { clock, logger }: AppDeps,
  lifecycle: Lifecycle,
): Promise<Chain | null> {
  const { rpcUrl, chainId: id, anchor, distributor, token, finality, pollMs, bumpMs } = config.chain;
  if (rpcUrl === null || id === null || (anchor === null && distributor === null)) return null;
  const chainId = BigInt(id);
  const chain = await openChain(
    {
      connection: { rpcUrl, chainId, timeoutMs: CALL_TIMEOUT_MS, pollingMs: pollMs },
      site: { chainId, anchor, distributor, token },
      key: await publisherKey(config.chain),
      anchors: config.proofs.enabled,
      finality,
      bumpMs,
      feeCeiling: BigInt(config.chain.maxFeeGwei) * WEI_PER_GWEI,
    },
    { database, clock },
  );
  const { sender, anchorer } = chain;
  if (sender === null) {
    logger.warn('There is no key of an account on the chain, so this server sends nothing there');
    lifecycle.add('chain', () => chain.close());
    return chain;
  }
  let stopping = false;
  let isToldOfStop = false;
  const anchorNext = async (): Promise<void> => {
    const outcome = await anchorer?.run();
    if (outcome !== 'STOPPED' || isToldOfStop) return;
    isToldOfStop = true;
    logger.error(
      { contract: anchor, code: 'CHAIN_ANCHOR_DIFFERS' },
      'The chain has another epoch than the database: nothing more is anchored there',
    );
  };
  const attempt = (work: () => Promise<unknown>): Promise<void> =>
    work().then(
      () => {},
      (err: unknown) => {
        if (!stopping) logger.warn({ err }, 'The chain will be looked at again');
      },
    );
  const advance = every(pollMs, async () => {
    // Each for itself: payouts are sent, too, while nothing can be anchored.
    await attempt(anchorNext);
    await attempt(() => sender.run());
  });
  lifecycle.add('chain', async () => {
    stopping = true;
    chain.close();
    await advance.stop();
  });
  return chain;
}

async function publisherKey({ key, keystore, keystorePassword }: Config['chain']): Promise<KeySource | null> {
  if (key !== null) return { kind: 'key', key };
  return keystore === null ? null : keystoreFile(keystore, keystorePassword);
}

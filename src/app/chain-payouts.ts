import { openProvider } from '../chain/connect.ts';
import type { Chain } from '../chain/open.ts';
import type { AppDeps } from '../cli/app-port.ts';
import type { Config } from '../config/index.ts';
import type { Database } from '../db/client.ts';
import { every } from '../metering/periodic.ts';
import { type ChainPayouts, openChainPayouts, type Turn, type Worked } from '../payouts/chain/open.ts';
import { RpcChainReader } from '../payouts/chain/reader.ts';
import type { Proofs } from '../proofs/open.ts';
import { CALL_TIMEOUT_MS } from './chain.ts';
import type { Lifecycle } from './lifecycle.ts';

interface ChainPayoutParts {
  readonly config: Config;
  readonly database: Database;
  readonly chain: Chain | null;
  readonly proofs: Proofs | null;
}

/** Pays on the chain where a distributor and its token are set; the lifecycle learns how to stop it. */
export function startChainPayouts(
  { config, database, chain, proofs }: ChainPayoutParts,
  { clock, logger }: AppDeps,
  lifecycle: Lifecycle,
): ChainPayouts | null {
  if (chain === null || chain.contracts.distributor === null) return null;
  const { chainId, distributor, token } = chain.contracts;
  if (token === null) {
    logger.warn('PATCHBAY_CHAIN_TOKEN is not set, so nothing is paid on the chain');
    return null;
  }
  const { finality, pollMs, rpcUrl } = config.chain;
  if (rpcUrl === null) return null;
  const { outbox, sender } = chain;
  // One of its own, so that its calls can be ended while those of the sender go on.
  const ending = new AbortController();
  const connection = { rpcUrl, chainId, timeoutMs: CALL_TIMEOUT_MS, pollingMs: pollMs };
  const provider = openProvider(connection, ending.signal);
  const reader = new RpcChainReader({ chainId, finality, account: sender?.account ?? null }, { provider });
  const payouts = openChainPayouts(
    { chainId, distributor, token },
    { database, clock, outbox, chain: reader, signer: proofs?.claims ?? null },
  );
  const tell = tellerOf(logger, distributor);
  let stopping = false;
  const working = every(pollMs, async () => {
    try {
      tell(await payouts.work());
    } catch (err) {
      if (!stopping) logger.warn({ err }, 'Payouts on the chain will be looked at again');
    }
  });
  lifecycle.add('payouts on the chain', async () => {
    stopping = true;
    ending.abort();
    provider.destroy();
    await working.stop();
  });
  return payouts;
}

/** Says what has happened, and of what lasts only that it has begun. */
function tellerOf(logger: AppDeps['logger'], current: string): (worked: Worked) => void {
  const lasting = new Map<string, { readonly missing: bigint; readonly foreign: bigint | null }>();
  const tell = (distributor: string, { trees, republished, missing, foreign }: Turn): void => {
    const before = lasting.get(distributor) ?? { missing: 0n, foreign: null };
    for (const { sequence, payouts } of trees) {
      logger.info({ distributor, tree: String(sequence), payouts }, 'Payouts on the chain are paid');
    }
    for (const sequence of republished) {
      logger.warn(
        { distributor, tree: String(sequence) },
        'A tree of payouts was refused, and is published again',
      );
    }
    if (missing !== before.missing && missing > 0n) {
      logger.warn({ distributor, units: String(missing) }, 'The distributor holds too little: payouts wait');
    }
    if (foreign !== before.foreign && foreign !== null) {
      logger.error(
        { distributor, tree: String(foreign) },
        'Somebody else has published a tree of payouts: pause the distributor. Nothing more is paid by it',
      );
    }
    lasting.set(distributor, { missing, foreign });
  };
  return ({ earlier, ...own }) => {
    for (const one of earlier) {
      const { distributor } = one;
      if ('worked' in one) tell(distributor, one.worked);
      else logger.warn({ err: one.error, distributor }, 'An earlier distributor will be looked at again');
    }
    tell(current, own);
  };
}

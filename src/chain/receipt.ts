import { setTimeout as delay } from 'node:timers/promises';
import type { Provider, TransactionReceipt } from 'ethers';
import { chainFailure } from './failure.ts';

/** How long and for what is waited. */
export interface Patience {
  /** Blocks from that of the transaction to the newest, both included. */
  readonly confirmations: number;
  readonly waitMs: number;
  /** How often is looked. */
  readonly pollingMs: number;
}

/**
 * Waits until a transaction is in a block that is deep enough. A node that fails meanwhile is asked again.
 * @throws what the node failed with last, or an error of its own, when it did not come about in time.
 */
export async function waitForReceipt(
  provider: Provider,
  hash: string,
  { confirmations, waitMs, pollingMs }: Patience,
): Promise<TransactionReceipt> {
  const deadline = performance.now() + waitMs;
  for (;;) {
    let failure: unknown = null;
    const receipt = await confirmedReceipt(provider, hash, confirmations).catch((error: unknown) => {
      failure = chainFailure(error);
      return null;
    });
    if (receipt !== null) return receipt;
    const left = deadline - performance.now();
    if (left <= 0) {
      throw failure ?? new Error(`${hash} was not ${confirmations} blocks deep within ${waitMs} ms.`);
    }
    await delay(Math.min(pollingMs, left));
  }
}

async function confirmedReceipt(
  provider: Provider,
  hash: string,
  confirmations: number,
): Promise<TransactionReceipt | null> {
  const receipt = await provider.getTransactionReceipt(hash);
  if (receipt === null) return null;
  const newest = await provider.getBlockNumber();
  return newest - receipt.blockNumber + 1 >= confirmations ? receipt : null;
}

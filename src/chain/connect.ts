import { FetchRequest, JsonRpcProvider, Network } from 'ethers';
import { z } from 'zod';
import { PatchbayError } from '../kernel/errors.ts';
import { chainFailure } from './failure.ts';

/** Which chain, and through which node. */
export interface ChainConnection {
  readonly rpcUrl: string;
  /** The chain that the node must serve. */
  readonly chainId: bigint;
  /** How long one call may take. */
  readonly timeoutMs: number;
  /** How often is looked for a new block where something waits for one. */
  readonly pollingMs: number;
}

const quantity = z.string().regex(/^0x[0-9a-f]{1,64}$/i);

/**
 * Connects to a node and checks that it serves the chain that is meant, as a transaction for another chain would be lost or,
 * worse, valid there. Whoever connects calls `destroy` in the end.
 * @throws PatchbayError CHAIN_UNREACHABLE or CHAIN_MISMATCH.
 */
export async function connectChain(connection: ChainConnection): Promise<JsonRpcProvider> {
  const provider = openProvider(connection);
  try {
    await requireChain(provider, connection.chainId);
    return provider;
  } catch (error) {
    provider.destroy();
    throw error;
  }
}

/**
 * The same without the check, for those who go on when a node does not answer.
 * @param signal ends all calls, those that are under way too, with SHUTTING_DOWN.
 */
export function openProvider(connection: ChainConnection, signal?: AbortSignal): JsonRpcProvider {
  const network = Network.from(connection.chainId);
  return new EndableProvider(signal, request(connection), network, {
    // Ethers would otherwise ask for the chain itself, and for ever where nobody answers.
    staticNetwork: network,
    pollingInterval: connection.pollingMs,
    // Not every node takes batches, and an answer that is older than the question helps nobody here.
    batchMaxCount: 1,
    cacheTimeout: -1,
  });
}

/** Calls that end when they are told to, as a node may take longer to answer than a process to stop. */
class EndableProvider extends JsonRpcProvider {
  readonly #signal: AbortSignal | undefined;

  constructor(signal: AbortSignal | undefined, ...rest: ConstructorParameters<typeof JsonRpcProvider>) {
    super(...rest);
    this.#signal = signal;
  }

  override async send(method: string, params: unknown[] | Record<string, unknown>): Promise<unknown> {
    const signal = this.#signal;
    if (signal === undefined) return super.send(method, params);
    const sent = super.send(method, params);
    let end = (): void => {};
    const ended = new Promise<never>((_resolve, reject) => {
      end = () => reject(new PatchbayError('SHUTTING_DOWN', 'The chain is not asked any more.'));
    });
    if (signal.aborted) end();
    signal.addEventListener('abort', end);
    try {
      return await Promise.race([sent, ended]);
    } finally {
      signal.removeEventListener('abort', end);
      // Whichever came second is nobody's any more.
      ended.catch(() => {});
      sent.catch(() => {});
    }
  }
}

function request({ rpcUrl, timeoutMs }: ChainConnection): FetchRequest {
  if (!/^https?:\/\//.test(rpcUrl)) {
    throw new PatchbayError('BAD_INPUT', 'The RPC URL is not one of http or https.', { field: 'rpc' });
  }
  const fetching = new FetchRequest(rpcUrl);
  fetching.timeout = timeoutMs;
  return fetching;
}

/**
 * Asks a node for its chain.
 * @throws PatchbayError CHAIN_UNREACHABLE or CHAIN_MISMATCH.
 */
export async function requireChain(provider: JsonRpcProvider, expected: bigint): Promise<void> {
  const answer: unknown = await provider.send('eth_chainId', []).catch((error: unknown) => {
    throw unreachable(error);
  });
  const parsed = quantity.safeParse(answer);
  if (!parsed.success) throw unreachable(parsed.error);
  const found = BigInt(parsed.data);
  if (found === expected) return;
  throw new PatchbayError('CHAIN_MISMATCH', `The RPC serves chain ${found}, not ${expected}.`, {
    meta: { expected: String(expected), found: String(found) },
  });
}

/** Whatever goes wrong with the first question means that this is not a node that can be used. */
function unreachable(cause: unknown): unknown {
  const failure = chainFailure(cause);
  if (failure instanceof PatchbayError) return failure;
  return new PatchbayError('CHAIN_UNREACHABLE', 'The RPC does not say which chain it serves.', { cause });
}

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

/** The same without the check, for those who go on when a node does not answer. */
export function openProvider(connection: ChainConnection): JsonRpcProvider {
  const network = Network.from(connection.chainId);
  return new JsonRpcProvider(request(connection), network, {
    // Ethers would otherwise ask for the chain itself, and for ever where nobody answers.
    staticNetwork: network,
    pollingInterval: connection.pollingMs,
    // Not every node takes batches, and an answer that is older than the question helps nobody here.
    batchMaxCount: 1,
    cacheTimeout: -1,
  });
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

import { FetchRequest, type Interface, JsonRpcProvider, Network, toQuantity } from 'ethers';
import { z } from 'zod';
import { InputError } from '../input/errors.ts';
import { shown } from '../shown.ts';

/** A chain as it is at one block, which will not be taken back. */
export interface ChainView {
  readonly chainId: bigint;
  readonly block: bigint;
  /** When that block was made, in milliseconds since 1970. */
  readonly time: bigint;
  /** What a view of a contract answers; null where there is no contract that has it. */
  readonly read: (
    address: string,
    abi: Interface,
    name: string,
    args: readonly unknown[],
  ) => Promise<readonly unknown[] | null>;
}

/** Which node to ask, and what counts as final. */
export interface ChainSource {
  readonly url: string;
  /** How many blocks have to follow one; null for what the chain itself calls finalized. */
  readonly confirmations: bigint | null;
}

const TIMEOUT_MS = 15_000;
const quantity = z.string().regex(/^0x[0-9a-fA-F]{1,64}$/);
const header = z.looseObject({ number: quantity, timestamp: quantity });
const bytes = z.string().regex(/^0x(?:[0-9a-fA-F]{2})*$/);
const rpcError = z.looseObject({ error: z.looseObject({ code: z.number(), message: z.string() }) });

/** Asks a node through JSON-RPC, for as long as the work lasts. */
export async function withChain<T>(source: ChainSource, work: (chain: ChainView) => Promise<T>): Promise<T> {
  const { url, confirmations } = source;
  if (!/^https?:\/\//.test(url) || !URL.canParse(url)) throw unreachable(url, 'is not an http or https URL');
  const request = new FetchRequest(url);
  request.timeout = TIMEOUT_MS;
  // Any network will do: which chain it is has to be asked for, and is never assumed.
  const network = Network.from(1n);
  const provider = new JsonRpcProvider(request, network, {
    staticNetwork: network,
    batchMaxCount: 1,
    cacheTimeout: -1,
  });
  const send = async <A>(method: string, params: readonly unknown[], answer: z.ZodType<A>): Promise<A> => {
    const found: unknown = await provider.send(method, [...params]);
    return answer.parse(found);
  };
  try {
    const chainId = BigInt(await asked(url, () => send('eth_chainId', [], quantity)));
    const { block, time } = await asked(url, () => finalBlock(send, confirmations));
    return await work({
      chainId,
      block,
      time,
      read: async (address, abi, name, args) => {
        const call = { to: address, data: abi.encodeFunctionData(name, args) };
        const data = await asked(url, () =>
          send('eth_call', [call, toQuantity(block)], bytes).catch((error: unknown) => reverted(error)),
        );
        try {
          return abi.decodeFunctionResult(name, data).toArray();
        } catch {
          // No contract, or another one: nothing comes back, or nothing that can be decoded.
          return null;
        }
      },
    });
  } finally {
    provider.destroy();
  }
}

type Send = <A>(method: string, params: readonly unknown[], answer: z.ZodType<A>) => Promise<A>;

async function finalBlock(
  send: Send,
  confirmations: bigint | null,
): Promise<{ readonly block: bigint; readonly time: bigint }> {
  let tag = 'finalized';
  if (confirmations !== null) {
    const latest = BigInt(await send('eth_blockNumber', [], quantity));
    tag = toQuantity(latest > confirmations ? latest - confirmations : 0n);
  }
  const { number, timestamp } = await send('eth_getBlockByNumber', [tag, false], header);
  return { block: BigInt(number), time: BigInt(timestamp) * 1_000n };
}

/** A contract that refuses the call answers nothing, which is an answer; any other error is none. */
function reverted(error: unknown): string {
  const found = rpcError.safeParse(error);
  if (found.success && (found.data.error.code === 3 || /revert/i.test(found.data.error.message))) return '0x';
  throw error;
}

async function asked<T>(url: string, question: () => Promise<T>): Promise<T> {
  try {
    return await question();
  } catch {
    throw unreachable(url, 'does not answer as the node of a chain does');
  }
}

function unreachable(url: string, what: string): InputError {
  return new InputError(
    'CHAIN_UNREACHABLE',
    `${shown(url)} ${what}.`,
    'Check --rpc; where the chain knows no finalized block, give --confirmations.',
  );
}

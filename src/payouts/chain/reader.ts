import type { JsonRpcProvider, Provider } from 'ethers';
import { requireChain } from '../../chain/connect.ts';
import { chainFailure } from '../../chain/failure.ts';
import type { Finality } from '../../chain/outbox/observe.ts';
import type { BlockRef, ChainReader } from './types.ts';

/** Reads a chain through a node, which need not be there yet. */
export class RpcChainReader implements ChainReader {
  readonly account: string | null;
  readonly #options: { readonly chainId: bigint; readonly finality: Finality };
  readonly #provider: JsonRpcProvider;

  constructor(
    options: {
      readonly chainId: bigint;
      readonly finality: Finality;
      /** That sends what is ordered; null where no key is there. */
      readonly account: string | null;
    },
    dependencies: { readonly provider: JsonRpcProvider },
  ) {
    this.account = options.account;
    this.#options = options;
    this.#provider = dependencies.provider;
  }

  async provider(): Promise<Provider> {
    // Every time: one URL may stand for several nodes, and for others tomorrow.
    await requireChain(this.#provider, this.#options.chainId);
    return this.#provider;
  }

  async finalBlock(): Promise<BlockRef | null> {
    await this.provider();
    const { finality } = this.#options;
    try {
      const tag = finality === 'finalized' ? finality : await this.#atDepth(finality);
      const block = tag === null ? null : await this.#provider.getBlock(tag);
      return block === null || block.hash === null ? null : { number: block.number, hash: block.hash };
    } catch (error) {
      throw chainFailure(error);
    }
  }

  /** The newest block counts as the first of the depth. */
  async #atDepth(depth: number): Promise<number | null> {
    const number = (await this.#provider.getBlockNumber()) - depth + 1;
    return number < 0 ? null : number;
  }
}

import {
  ContractFactory,
  getAddress,
  Interface,
  type JsonRpcProvider,
  type TransactionReceipt,
} from 'ethers';
import { z } from 'zod';
import { type Artifact, readArtifact } from '../../src/chain/artifact.ts';
import type { UnsignedCall } from '../../src/chain/call.ts';
import { connectChain } from '../../src/chain/connect.ts';
import { chainFailure, type Revert, RevertError } from '../../src/chain/failure.ts';
import { startAnvil } from '../../src/chain/local/anvil.ts';
import { atFileEnd } from './file-end.ts';

/** Anvil's own chain. */
export const ANVIL_CHAIN = 31_337n;

/** Key of the first account that anvil gives coins to; everybody knows it. */
export const ANVIL_KEY = '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80';

/** A chain of its own for a test file: a block for each transaction, at once. Ends with the file. */
export class Anvil {
  readonly url: string;
  readonly chainId: bigint;
  readonly provider: JsonRpcProvider;
  /** Accounts that have coins and that the node signs for. */
  readonly accounts: readonly string[];

  private constructor(
    at: Pick<Anvil, 'url' | 'chainId'>,
    provider: JsonRpcProvider,
    accounts: readonly string[],
  ) {
    this.url = at.url;
    this.chainId = at.chainId;
    this.provider = provider;
    this.accounts = accounts;
  }

  static async start(chainId = ANVIL_CHAIN, flags: readonly string[] = []): Promise<Anvil> {
    const node = await startAnvil({ chainId, port: 0, flags });
    atFileEnd(() => node.stop());
    const { url } = node;
    const provider = await connectChain({ rpcUrl: url, chainId, timeoutMs: 10_000, pollingMs: 20 });
    atFileEnd(() => provider.destroy());
    const accounts = z.array(z.string()).parse(await provider.send('eth_accounts', []));
    return new Anvil({ url, chainId }, provider, accounts.map(getAddress));
  }

  account(index: number): string {
    const account = this.accounts[index];
    if (account === undefined) throw new Error(`Anvil has no account ${index}.`);
    return account;
  }

  /** Sends a transaction that must succeed. */
  async send(from: string, call: UnsignedCall): Promise<TransactionReceipt> {
    return this.#mined({ from, ...call }, undefined);
  }

  /** What a call is refused with. */
  async refusal(from: string, call: UnsignedCall, errors: Interface): Promise<Revert> {
    try {
      await this.provider.call({ from, ...call });
    } catch (error) {
      const failure = chainFailure(error, errors);
      if (failure instanceof RevertError && failure.revert !== null) return failure.revert;
      throw error;
    }
    throw new Error('The call was not refused.');
  }

  /** Deploys a contract, without any of the checks that the product makes. */
  async deploy(from: string, artifact: Artifact, args: readonly unknown[]): Promise<string> {
    const abi = new Interface(artifact.abi);
    const { data } = await new ContractFactory(abi, artifact.bytecode).getDeployTransaction(...args);
    const { contractAddress } = await this.#mined({ from, data }, abi);
    if (contractAddress === null) throw new Error('A deployment gives an address.');
    return contractAddress;
  }

  /** Asks for something that only anvil does. */
  async ask(method: string, ...params: readonly unknown[]): Promise<unknown> {
    return this.provider.send(method, [...params]);
  }

  /** Lets time pass. */
  async pass(seconds: number): Promise<void> {
    await this.ask('evm_increaseTime', seconds);
    await this.ask('evm_mine');
  }

  /** Slots of a contract that a transaction changed. */
  async changedSlots(hash: string, contract: string): Promise<ReadonlyMap<string, string>> {
    const tracer = { tracer: 'prestateTracer', tracerConfig: { diffMode: true } };
    const { post } = traceSchema.parse(await this.ask('debug_traceTransaction', hash, tracer));
    return new Map(Object.entries(post[contract.toLowerCase()]?.storage ?? {}));
  }

  async #mined(
    transaction: { readonly from: string; readonly to?: string; readonly data: string },
    errors: Interface | undefined,
  ): Promise<TransactionReceipt> {
    const { transactionHash } = sentSchema.parse(await this.ask('eth_sendTransactionSync', transaction));
    const receipt = await this.provider.getTransactionReceipt(transactionHash);
    if (receipt === null) throw new Error(`${transactionHash} was not included.`);
    if (receipt.status === 1) return receipt;
    // Asked again without a transaction, the node says why.
    const answer = await this.provider.call(transaction).catch((error: unknown) => {
      throw chainFailure(error, errors);
    });
    throw new Error(`${transactionHash} failed, and the same call now answers ${answer}.`);
  }
}

const sentSchema = z.object({ transactionHash: z.string() });
const traceSchema = z.object({
  post: z.record(z.string(), z.object({ storage: z.record(z.string(), z.string()).optional() })),
});

/** The token for tests. */
export function mockTokenArtifact(): Promise<Artifact> {
  return readArtifact(new URL('../contracts/MockToken.json', import.meta.url));
}

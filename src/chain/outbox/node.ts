import { type Block, type BlockTag, type Interface, isError, type JsonRpcProvider, MaxUint256 } from 'ethers';
import { z } from 'zod';
import { PatchbayError, toPatchbayError } from '../../kernel/errors.ts';
import type { UnsignedCall } from '../call.ts';
import { requireChain } from '../connect.ts';
import { chainFailure, RevertError } from '../failure.ts';
import type { Market } from './fees.ts';
import type { BlockRef, Problem } from './types.ts';
import type { Quote, Receipt } from './view.ts';

/** A call as an account would send it. */
export interface SentCall extends UnsignedCall {
  readonly from: string;
  readonly value: bigint;
}

/** The newest block, and what its gas costs. */
export interface Head extends BlockRef {
  readonly baseFee: bigint | null;
}

/** What the sender asks of a node. Everything may fail with a PatchbayError whose code begins with CHAIN_. */
export interface ChainNode {
  requireChain(chainId: bigint): Promise<void>;
  head(): Promise<Head>;
  /** The newest block that the chain itself calls final; null when there is none. */
  finalized(): Promise<number | null>;
  /** The hash of a block; null for one that the node does not know. */
  blockHash(number: number): Promise<string | null>;
  /** How many nonces of an account are used up, as of a block or the newest. */
  used(account: string, block?: number): Promise<number>;
  balance(account: string): Promise<bigint>;
  market(head: Head): Promise<Market>;
  receipt(hash: string): Promise<Receipt | null>;
  quote(call: SentCall): Promise<Quote>;
  /** Gives signed bytes to the node. What it answers says nothing of whether they will be included. */
  broadcast(raw: string): Promise<Problem | null>;
  /** Hashes by nonce of the account's transactions in a block. */
  sentIn(block: number, account: string): Promise<ReadonlyMap<number, string>>;
  /** Why a transaction of a block was refused, as far as it can be found out. */
  refusal(call: SentCall, block: number): Promise<string | null>;
}

/** Gas that a transaction may take above the estimate, in percent: what it meets when it is included may be another state. */
const GAS_PERCENT = 125n;
/** What is offered on top of the base fee where the node does not say what is usual. */
const USUAL_TIP = 1_000_000_000n;
/** What nodes answer with when they have the bytes. */
const KNOWN = /already (known|imported)|known transaction|alreadyknown/i;

const quantity = z.string().regex(/^0x[0-9a-f]{1,64}$/i);

/** A node that is reached through JSON-RPC. */
export class RpcNode implements ChainNode {
  readonly #provider: JsonRpcProvider;
  readonly #errors: Interface;

  /** @param errors knows the custom errors of the contracts that are called. */
  constructor(provider: JsonRpcProvider, errors: Interface) {
    this.#provider = provider;
    this.#errors = errors;
  }

  requireChain(chainId: bigint): Promise<void> {
    return requireChain(this.#provider, chainId);
  }

  async head(): Promise<Head> {
    const block = await this.#block('latest');
    if (block === null) throw new PatchbayError('CHAIN_UNREACHABLE', 'The node has no newest block.');
    return { number: block.number, hash: hashOf(block), baseFee: block.baseFeePerGas };
  }

  async finalized(): Promise<number | null> {
    return (await this.#block('finalized'))?.number ?? null;
  }

  async blockHash(number: number): Promise<string | null> {
    const block = await this.#block(number);
    return block === null ? null : hashOf(block);
  }

  used(account: string, block?: number): Promise<number> {
    return failing(this.#provider.getTransactionCount(account, block ?? 'latest'));
  }

  async balance(account: string): Promise<bigint> {
    const balance = await failing(this.#provider.getBalance(account));
    if (balance >= 0n && balance <= MaxUint256) return balance;
    throw new PatchbayError('CHAIN_UNREACHABLE', 'The RPC answers with a balance that no account can have.');
  }

  async market({ baseFee }: Head): Promise<Market> {
    if (baseFee === null) return { baseFee, tip: await this.#ask('eth_gasPrice') };
    const tip = await this.#ask('eth_maxPriorityFeePerGas').catch((error: unknown) => {
      if (error instanceof PatchbayError && error.code === 'CHAIN_NODE_ERROR') return USUAL_TIP;
      throw error;
    });
    return { baseFee, tip };
  }

  async receipt(hash: string): Promise<Receipt | null> {
    const receipt = await failing(this.#provider.getTransactionReceipt(hash));
    if (receipt === null) return null;
    const block = { number: receipt.blockNumber, hash: receipt.blockHash };
    return { block, succeeded: receipt.status === 1 };
  }

  async quote(call: SentCall): Promise<Quote> {
    try {
      const gas = await this.#provider.estimateGas({ ...call });
      return { kind: 'gas', gas: (gas * GAS_PERCENT) / 100n };
    } catch (thrown) {
      const { code, message } = toPatchbayError(chainFailure(thrown, this.#errors));
      // That the node does not answer is no property of the call.
      if (code === 'CHAIN_UNREACHABLE' || code === 'SHUTTING_DOWN') throw chainFailure(thrown);
      return { kind: 'problem', problem: { code, message } };
    }
  }

  async broadcast(raw: string): Promise<Problem | null> {
    try {
      await this.#provider.send('eth_sendRawTransaction', [raw]);
      return null;
    } catch (thrown) {
      // Included meanwhile, or taken by another: the next look at the chain says which.
      if (isError(thrown, 'NONCE_EXPIRED')) return null;
      if (isError(thrown, 'REPLACEMENT_UNDERPRICED')) {
        const message =
          'The node has another transaction with this nonce, and does not take this one for it.';
        return { code: 'CHAIN_NONCE_TAKEN', message };
      }
      const { code, message } = toPatchbayError(chainFailure(thrown));
      if (code === 'SHUTTING_DOWN') throw thrown;
      return KNOWN.test(message) ? null : { code, message };
    }
  }

  async sentIn(number: number, account: string): Promise<ReadonlyMap<number, string>> {
    const block = await failing(this.#provider.getBlock(number, true));
    const own = block?.prefetchedTransactions.filter(({ from }) => from === account) ?? [];
    return new Map(own.map(({ nonce, hash }) => [nonce, hash]));
  }

  async refusal(call: SentCall, block: number): Promise<string | null> {
    try {
      // As of the end of the block before; what comes before it in its own block is not seen.
      await this.#provider.call({ ...call, blockTag: block - 1 });
      return null;
    } catch (thrown) {
      const failure = chainFailure(thrown, this.#errors);
      // Not every node keeps the state of an earlier block.
      return failure instanceof RevertError ? failure.message : null;
    }
  }

  #block(tag: BlockTag): Promise<Block | null> {
    return failing(this.#provider.getBlock(tag));
  }

  async #ask(method: string): Promise<bigint> {
    const answer: unknown = await failing(this.#provider.send(method, []));
    const parsed = quantity.safeParse(answer);
    if (parsed.success) return BigInt(parsed.data);
    throw new PatchbayError(
      'CHAIN_UNREACHABLE',
      `The RPC answers ${method} with something else than a number.`,
    );
  }
}

async function failing<T>(asked: Promise<T>): Promise<T> {
  try {
    return await asked;
  } catch (thrown) {
    const failure = chainFailure(thrown);
    // No contract is asked here: what cannot be read is no answer of a node.
    if (failure instanceof PatchbayError && failure.code !== 'CHAIN_CODE_DIFFERS') throw failure;
    throw new PatchbayError(
      'CHAIN_UNREACHABLE',
      'The RPC answers with something else than what was asked for.',
      {
        cause: thrown,
      },
    );
  }
}

function hashOf({ hash, number }: Block): string {
  if (hash !== null) return hash;
  throw new PatchbayError('CHAIN_UNREACHABLE', `The node gives no hash for block ${number}.`);
}

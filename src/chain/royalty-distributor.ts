import type { BlockTag, Interface, Log, Provider } from 'ethers';
import { z } from 'zod';
import {
  ACCESS_ABI,
  abiOf,
  address20,
  type ContractAt,
  type EventPlace,
  fetchEvents,
  hash32,
  readEvents,
  readView,
  TOKEN_ERRORS,
  type UnsignedCall,
  uint,
} from './call.ts';

/** What an account claims with. */
export interface Claim {
  readonly account: string;
  /** All that the account has earned, in the token's smallest unit. */
  readonly cumulative: bigint;
  /** Siblings from the leaf up. */
  readonly proof: readonly string[];
}

/** The interface of `contracts/RoyaltyDistributor.sol`, as far as the program uses it. */
export const DISTRIBUTOR_ABI: Interface = abiOf(ACCESS_ABI, TOKEN_ERRORS, [
  'function fund(uint256 amount)',
  'function publish(uint64 sequence_, bytes32 root_, uint256 total) returns (bool added)',
  'function claim(address account, uint256 cumulative, bytes32[] proof) returns (uint256 amount)',
  'function pause()',
  'function unpause()',
  'function token() view returns (address)',
  'function sequence() view returns (uint64)',
  'function root() view returns (bytes32)',
  'function claimed(address account) view returns (uint256)',
  'function paused() view returns (bool)',
  'function leafOf(address account, uint256 cumulative) view returns (bytes32)',
  'event Funded(address indexed funder, uint256 amount)',
  'event RootPublished(uint64 indexed sequence, bytes32 indexed root, uint256 total)',
  'event Claimed(address indexed account, uint64 indexed sequence, uint256 amount, uint256 cumulative)',
  'error TokenMissing(address token)',
  'error InexactTransfer(uint256 asked, uint256 received)',
  'error SequenceOutOfOrder(uint64 expected, uint64 given)',
  'error SequenceTaken(uint64 sequence, bytes32 published, bytes32 given)',
  'error InvalidProof(address account, uint256 cumulative)',
  'error NothingToClaim(address account, uint256 claimed, uint256 cumulative)',
  'error InsufficientFunds(uint256 available, uint256 needed)',
  'error EnforcedPause()',
  'error ExpectedPause()',
  'error SafeERC20FailedOperation(address token)',
]);

const FUNDED = { name: 'Funded', args: z.object({ funder: address20, amount: uint }) };
const PUBLISHED = { name: 'RootPublished', args: z.object({ sequence: uint, root: hash32, total: uint }) };
const CLAIMED = {
  name: 'Claimed',
  args: z.object({ account: address20, sequence: uint, amount: uint, cumulative: uint }),
};

export type FundedEvent = z.infer<typeof FUNDED.args> & EventPlace;
export type PublishedEvent = z.infer<typeof PUBLISHED.args> & EventPlace;
export type ClaimedEvent = z.infer<typeof CLAIMED.args> & EventPlace;

/** All that a ledger compares itself with. */
export interface DistributorEvents {
  readonly funded: readonly FundedEvent[];
  readonly published: readonly PublishedEvent[];
  readonly claimed: readonly ClaimedEvent[];
}

/** A `RoyaltyDistributor` at an address. */
export class RoyaltyDistributor {
  readonly address: string;
  readonly #at: ContractAt;

  constructor(provider: Provider, address: string) {
    this.address = address;
    this.#at = { provider, address };
  }

  /** The call that pays in what the token was told to allow. */
  fund(amount: bigint): UnsignedCall {
    return this.#call('fund', [amount]);
  }

  /** The call that publishes a tree. */
  publish(sequence: bigint, root: string, total: bigint): UnsignedCall {
    return this.#call('publish', [sequence, root, total]);
  }

  /** The call that pays an account what it was not paid yet. */
  claim({ account, cumulative, proof }: Claim): UnsignedCall {
    return this.#call('claim', [account, cumulative, [...proof]]);
  }

  /** The call that stops payments. */
  pause(): UnsignedCall {
    return this.#call('pause', []);
  }

  /** The call that lets payments go on. */
  unpause(): UnsignedCall {
    return this.#call('unpause', []);
  }

  token(): Promise<string> {
    return this.#read('token', [], address20);
  }

  /** Number of the tree that claims are checked against; zero before the first. */
  sequence(blockTag?: BlockTag): Promise<bigint> {
    return this.#read('sequence', [], uint, blockTag);
  }

  root(blockTag?: BlockTag): Promise<string> {
    return this.#read('root', [], hash32, blockTag);
  }

  /** What an account has been paid in all. */
  claimed(account: string, blockTag?: BlockTag): Promise<bigint> {
    return this.#read('claimed', [account], uint, blockTag);
  }

  paused(): Promise<boolean> {
    return this.#read('paused', [], z.boolean());
  }

  /** The leaf as the contract computes it. */
  leafOf(account: string, cumulative: bigint): Promise<string> {
    return this.#read('leafOf', [account, cumulative], hash32);
  }

  owner(): Promise<string> {
    return this.#read('owner', [], address20);
  }

  hasRole(role: string, account: string): Promise<boolean> {
    return this.#read('hasRole', [role, account], z.boolean());
  }

  /** What was paid in, published and claimed in a range of blocks. */
  async events(range: {
    readonly fromBlock: BlockTag;
    readonly toBlock: BlockTag;
  }): Promise<DistributorEvents> {
    const [funded, published, claimed] = await Promise.all([
      fetchEvents(this.#at, DISTRIBUTOR_ABI, FUNDED, range),
      fetchEvents(this.#at, DISTRIBUTOR_ABI, PUBLISHED, range),
      fetchEvents(this.#at, DISTRIBUTOR_ABI, CLAIMED, range),
    ]);
    return { funded, published, claimed };
  }

  /** What a transaction paid in, published and claimed. */
  eventsIn({ logs }: { readonly logs: readonly Log[] }): DistributorEvents {
    return {
      funded: readEvents(this.#at, DISTRIBUTOR_ABI, FUNDED, logs),
      published: readEvents(this.#at, DISTRIBUTOR_ABI, PUBLISHED, logs),
      claimed: readEvents(this.#at, DISTRIBUTOR_ABI, CLAIMED, logs),
    };
  }

  #call(name: string, args: readonly unknown[]): UnsignedCall {
    return { to: this.address, data: DISTRIBUTOR_ABI.encodeFunctionData(name, args) };
  }

  #read<T>(name: string, args: readonly unknown[], answer: z.ZodType<T>, blockTag?: BlockTag): Promise<T> {
    return readView(this.#at, DISTRIBUTOR_ABI, { name, args, answer }, blockTag);
  }
}

import { type BlockTag, type Interface, type Provider, toNumber } from 'ethers';
import { z } from 'zod';
import {
  abiOf,
  address20,
  type BlockRange,
  type ContractAt,
  type EventPlace,
  fetchEvents,
  readView,
  TOKEN_ERRORS,
  type UnsignedCall,
  uint,
} from './call.ts';

/** The part of ERC-20 that paying needs. */
export const TOKEN_ABI: Interface = abiOf(TOKEN_ERRORS, [
  'function decimals() view returns (uint8)',
  'function balanceOf(address account) view returns (uint256)',
  'function allowance(address owner, address spender) view returns (uint256)',
  'function approve(address spender, uint256 value) returns (bool)',
  'event Transfer(address indexed from, address indexed to, uint256 value)',
]);

/** Tokens that came to an account. */
export interface TokenTransfer extends EventPlace {
  readonly from: string;
  readonly value: bigint;
}

const TRANSFER = { name: 'Transfer', args: z.object({ from: address20, value: uint }) };

/** An ERC-20 token at an address. */
export class Token {
  readonly address: string;
  readonly #at: ContractAt;

  constructor(provider: Provider, address: string) {
    this.address = address;
    this.#at = { provider, address };
  }

  /** How many decimals its unit has. */
  async decimals(): Promise<number> {
    return toNumber(await this.#read('decimals', [], uint));
  }

  balanceOf(account: string, blockTag?: BlockTag): Promise<bigint> {
    return this.#read('balanceOf', [account], uint, blockTag);
  }

  allowance(owner: string, spender: string): Promise<bigint> {
    return this.#read('allowance', [owner, spender], uint);
  }

  /** The call that lets the spender take up to this much. */
  approve(spender: string, amount: bigint): UnsignedCall {
    return { to: this.address, data: TOKEN_ABI.encodeFunctionData('approve', [spender, amount]) };
  }

  /** What came to an account in a range of blocks. */
  receivedBy(account: string, range: BlockRange): Promise<readonly TokenTransfer[]> {
    return fetchEvents(this.#at, TOKEN_ABI, { ...TRANSFER, match: [null, account] }, range);
  }

  #read<T>(name: string, args: readonly unknown[], answer: z.ZodType<T>, blockTag?: BlockTag): Promise<T> {
    return readView(this.#at, TOKEN_ABI, { name, args, answer }, blockTag);
  }
}

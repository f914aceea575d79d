import { type BlockTag, Interface, type Log, type Provider } from 'ethers';
import { z } from 'zod';
import { chainFailure } from './failure.ts';

/** A contract at an address, read through a node. */
export interface ContractAt {
  readonly provider: Provider;
  readonly address: string;
}

/** A call that is not signed yet: whoever sends it adds nonce and fees. */
export interface UnsignedCall {
  readonly to: string;
  readonly data: string;
}

/** An event as the chain has it. */
export interface EventPlace {
  readonly blockNumber: number;
  readonly blockHash: string;
  readonly transactionHash: string;
  readonly logIndex: number;
}

export const hash32 = z.string().regex(/^0x[0-9a-f]{64}$/);
export const address20 = z.string().regex(/^0x[0-9a-fA-F]{40}$/);
export const uint = z.bigint().nonnegative();

/** What the standards that both contracts use can refuse with, and what the owner can do. */
export const ACCESS_ABI = [
  'function hasRole(bytes32 role, address account) view returns (bool)',
  'function owner() view returns (address)',
  'error AccessControlBadConfirmation()',
  'error AccessControlEnforcedDefaultAdminDelay(uint48 schedule)',
  'error AccessControlEnforcedDefaultAdminRules()',
  'error AccessControlInvalidDefaultAdmin(address defaultAdmin)',
  'error AccessControlUnauthorizedAccount(address account, bytes32 neededRole)',
  'error SafeCastOverflowedUintDowncast(uint8 bits, uint256 value)',
] as const;

/** What a token in the manner of OpenZeppelin refuses with; a call to the distributor passes it on. */
export const TOKEN_ERRORS = [
  'error ERC20InsufficientAllowance(address spender, uint256 allowance, uint256 needed)',
  'error ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed)',
] as const;

/** Reads a view of a contract; what comes back is checked. */
export async function readView<T>(
  contract: ContractAt,
  abi: Interface,
  view: { readonly name: string; readonly args: readonly unknown[]; readonly answer: z.ZodType<T> },
  blockTag: BlockTag = 'latest',
): Promise<T> {
  const data = abi.encodeFunctionData(view.name, view.args);
  const answer = await contract.provider
    .call({ to: contract.address, data, blockTag })
    .catch((error: unknown) => {
      throw chainFailure(error, abi);
    });
  // Where there is no contract, nothing comes back; decoding that is what ethers calls a call exception.
  try {
    return view.answer.parse(abi.decodeFunctionResult(view.name, answer).toArray()[0]);
  } catch (error) {
    throw chainFailure(error, abi);
  }
}

/** Events of one kind among the logs of a contract, in their order. */
export function readEvents<T>(
  contract: { readonly address: string },
  abi: Interface,
  event: { readonly name: string; readonly args: z.ZodType<T> },
  logs: readonly Log[],
): readonly (T & EventPlace)[] {
  return logs.flatMap((log) => {
    if (log.address.toLowerCase() !== contract.address.toLowerCase()) return [];
    const parsed = abi.parseLog(log);
    if (parsed?.name !== event.name) return [];
    return [{ ...event.args.parse(parsed.args.toObject()), ...placeOf(log) }];
  });
}

/** Blocks from one to another, both included. */
export interface BlockRange {
  readonly fromBlock: BlockTag;
  readonly toBlock: BlockTag;
}

/** Asks a node for the events of one kind in a range of blocks, and if wanted for those with certain indexed arguments. */
export async function fetchEvents<T>(
  contract: ContractAt,
  abi: Interface,
  event: {
    readonly name: string;
    readonly args: z.ZodType<T>;
    /** In their order; null for any. */
    readonly match?: readonly (string | null)[];
  },
  range: BlockRange,
): Promise<readonly (T & EventPlace)[]> {
  const topics = abi.encodeFilterTopics(event.name, event.match ?? []);
  const logs = await contract.provider
    .getLogs({ address: contract.address, topics, ...range })
    .catch((error: unknown) => {
      throw chainFailure(error, abi);
    });
  return readEvents(contract, abi, event, logs);
}

function placeOf(log: Log): EventPlace {
  return {
    blockNumber: log.blockNumber,
    blockHash: log.blockHash,
    transactionHash: log.transactionHash,
    logIndex: log.index,
  };
}

/** An interface out of lines as Solidity writes them. */
export function abiOf(...lines: readonly (readonly string[])[]): Interface {
  return new Interface(lines.flat());
}

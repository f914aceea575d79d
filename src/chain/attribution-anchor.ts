import { AbiCoder, type BlockTag, type Interface, keccak256, type Log, type Provider } from 'ethers';
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
  type UnsignedCall,
  uint,
} from './call.ts';
import { chainFailure } from './failure.ts';

/**
 * What a closed epoch is anchored as: `root` is the digest of the epoch's document, which has the root of the log and all else
 * in it, and `previousRoot` that of the epoch before. Hashes are `0x` and 64 hexadecimal digits.
 */
export interface AnchoredEpoch {
  readonly number: bigint;
  readonly size: bigint;
  readonly root: string;
  readonly previousRoot: string;
}

const EPOCH = '(uint64 number, uint64 size, bytes32 root, bytes32 previousRoot) epoch';
const HASH_ZERO = `0x${'00'.repeat(32)}`;

/** The interface of `contracts/AttributionAnchor.sol`, as far as the program uses it. */
export const ANCHOR_ABI: Interface = abiOf(ACCESS_ABI, [
  `function anchor(${EPOCH}, (uint64 size, bytes32 previousRoot) previous) returns (bool added)`,
  `function isAnchored(${EPOCH}) view returns (bool)`,
  'function commitments(uint64 number) view returns (bytes32)',
  'function firstEpoch() view returns (uint64)',
  'function nextEpoch() view returns (uint64)',
  'event EpochAnchored(uint64 indexed number, bytes32 indexed root, uint64 size, bytes32 previousRoot)',
  'error EpochClosed(uint64 number, bytes32 committed, bytes32 given)',
  'error EpochOutOfOrder(uint64 number)',
  'error PreviousEpochDiffers(uint64 number, bytes32 committed, bytes32 given)',
  'error SizeFell(uint64 number, uint64 previousSize, uint64 size)',
]);

/** What the contract stores for an epoch. */
export function commitmentOf({ number, root, size, previousRoot }: AnchoredEpoch): string {
  const types = ['uint64', 'bytes32', 'uint64', 'bytes32'];
  return keccak256(AbiCoder.defaultAbiCoder().encode(types, [number, root, size, previousRoot]));
}

const EPOCH_ANCHORED = {
  name: 'EpochAnchored',
  args: z.object({ number: uint, size: uint, root: hash32, previousRoot: hash32 }),
};

/** An `AttributionAnchor` at an address. */
export class AttributionAnchor {
  readonly address: string;
  readonly #at: ContractAt;

  constructor(provider: Provider, address: string) {
    this.address = address;
    this.#at = { provider, address };
  }

  /**
   * The call that anchors an epoch.
   * @param previous the epoch before; null for the first one of the contract.
   */
  anchor(epoch: AnchoredEpoch, previous: AnchoredEpoch | null): UnsignedCall {
    const opening =
      previous === null
        ? { size: 0n, previousRoot: HASH_ZERO }
        : { size: previous.size, previousRoot: previous.previousRoot };
    return { to: this.address, data: ANCHOR_ABI.encodeFunctionData('anchor', [epoch, opening]) };
  }

  /** Whether exactly these values were anchored. */
  isAnchored(epoch: AnchoredEpoch, blockTag?: BlockTag): Promise<boolean> {
    return this.#read('isAnchored', [epoch], z.boolean(), blockTag);
  }

  /** What is stored for an epoch; null when it is not anchored. */
  async commitment(number: bigint, blockTag?: BlockTag): Promise<string | null> {
    const stored = await this.#read('commitments', [number], hash32, blockTag);
    return stored === HASH_ZERO ? null : stored;
  }

  /** Number of the epoch that anchoring began with. */
  firstEpoch(): Promise<bigint> {
    return this.#read('firstEpoch', [], uint);
  }

  /** Number of the epoch that is to be anchored next. */
  nextEpoch(blockTag?: BlockTag): Promise<bigint> {
    return this.#read('nextEpoch', [], uint, blockTag);
  }

  owner(): Promise<string> {
    return this.#read('owner', [], address20);
  }

  hasRole(role: string, account: string): Promise<boolean> {
    return this.#read('hasRole', [role, account], z.boolean());
  }

  /** Epochs that were anchored in a range of blocks. */
  anchored(range: {
    readonly fromBlock: BlockTag;
    readonly toBlock: BlockTag;
  }): Promise<readonly (AnchoredEpoch & EventPlace)[]> {
    return fetchEvents(this.#at, ANCHOR_ABI, EPOCH_ANCHORED, range);
  }

  /** Whether a transaction anchored the epoch: it is there without that, too. Null when the node does not have the transaction. */
  async isAnchoredBy(hash: string, epoch: AnchoredEpoch): Promise<boolean | null> {
    const receipt = await this.#at.provider.getTransactionReceipt(hash).catch((error: unknown) => {
      throw chainFailure(error, ANCHOR_ABI);
    });
    return receipt === null ? null : this.anchoredIn(receipt).some(({ number }) => number === epoch.number);
  }

  /** Epochs that a transaction anchored. */
  anchoredIn(receipt: { readonly logs: readonly Log[] }): readonly (AnchoredEpoch & EventPlace)[] {
    return readEvents(this.#at, ANCHOR_ABI, EPOCH_ANCHORED, receipt.logs);
  }

  #read<T>(name: string, args: readonly unknown[], answer: z.ZodType<T>, blockTag?: BlockTag): Promise<T> {
    return readView(this.#at, ANCHOR_ABI, { name, args, answer }, blockTag);
  }
}

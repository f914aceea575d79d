import { setImmediate } from 'node:timers/promises';
import {
  AbiCoder,
  concat,
  getAddress,
  isHexString,
  keccak256,
  toBeHex,
  ZeroAddress,
  zeroPadValue,
} from 'ethers';
import type { Claim } from './royalty-distributor.ts';

/** Where leaves count: on one chain, at one distributor, for one token. */
export interface PayoutScope {
  readonly chainId: bigint;
  readonly distributor: string;
  readonly token: string;
}

/** All that an account has earned from the beginning, in the token's smallest unit. */
export interface Entitlement {
  readonly account: string;
  readonly cumulative: bigint;
}

const UINT256_END = 2n ** 256n;

/** Leaves between which other work may go on: some milliseconds of hashing. */
const LEAVES_AT_A_TIME = 256;

/** The leaf of an account, as `RoyaltyDistributor.leafOf` computes it. */
export function payoutLeaf(scope: PayoutScope, { account, cumulative }: Entitlement): string {
  return leafUnder(encodeScope(scope), { account: getAddress(account), cumulative });
}

/** The words of a leaf that are the same for every account. */
function encodeScope({ chainId, distributor, token }: PayoutScope): string {
  return AbiCoder.defaultAbiCoder().encode(['uint256', 'address', 'address'], [chainId, distributor, token]);
}

function leafUnder(scope: string, { account, cumulative }: Entitlement): string {
  const words = [zeroPadValue(account, 32), toBeHex(cumulative, 32)];
  return keccak256(keccak256(concat([scope, ...words])));
}

/** Where an account's leaf is. */
interface Place {
  readonly cumulative: bigint;
  readonly node: number;
}

/**
 * The tree that a distributor pays by: leaves sorted by hash, pairs hashed in sorted order, which is what OpenZeppelin's
 * `MerkleProof` checks. Entitlements of one account are added up, as several beneficiaries may share a wallet; accounts that
 * have earned nothing are left out.
 */
export class PayoutTree {
  readonly root: string;
  /** Sum of all entitlements. */
  readonly total: bigint;
  /** Nodes as a heap: the root first, children of `i` at `2i + 1` and `2i + 2`, leaves at the end in reverse. */
  readonly #nodes: readonly string[];
  readonly #places: ReadonlyMap<string, Place>;

  private constructor(nodes: readonly string[], places: ReadonlyMap<string, Place>) {
    this.#nodes = nodes;
    this.#places = places;
    this.root = nodeAt(nodes, 0);
    this.total = [...places.values()].reduce((sum, { cumulative }) => sum + cumulative, 0n);
  }

  /** Builds the tree. Lets other work go on meanwhile, as hashing a large one takes a second and more. */
  static async build(scope: PayoutScope, entitlements: Iterable<Entitlement>): Promise<PayoutTree> {
    const prefix = encodeScope(scope);
    const sums = [...addUp(entitlements)];
    if (sums.length === 0) throw new RangeError('A payout tree needs somebody who has earned something.');
    const leaves: (Entitlement & { readonly hash: string })[] = [];
    for (const [account, cumulative] of sums) {
      leaves.push({ account, cumulative, hash: leafUnder(prefix, { account, cumulative }) });
      if (leaves.length % LEAVES_AT_A_TIME === 0) await setImmediate();
    }
    leaves.sort((a, b) => (a.hash < b.hash ? -1 : 1));
    const last = 2 * leaves.length - 2;
    const nodes = new Array<string>(last + 1);
    leaves.forEach(({ hash }, index) => {
      nodes[last - index] = hash;
    });
    for (let index = leaves.length - 2; index >= 0; index -= 1) {
      nodes[index] = hashPair(nodeAt(nodes, 2 * index + 1), nodeAt(nodes, 2 * index + 2));
      if (index % LEAVES_AT_A_TIME === 0) await setImmediate();
    }
    const places = leaves.map(
      ({ account, cumulative }, index) => [account, { cumulative, node: last - index }] as const,
    );
    return new PayoutTree(nodes, new Map(places));
  }

  /** Its leaves, in no order. */
  entitlements(): readonly Entitlement[] {
    return [...this.#places].map(([account, { cumulative }]) => ({ account, cumulative }));
  }

  /** What an account claims with; null when it has no leaf. */
  claimOf(account: string): Claim | null {
    const address = getAddress(account);
    const place = this.#places.get(address);
    if (place === undefined) return null;
    const proof: string[] = [];
    for (let node = place.node; node > 0; node = (node - 1) >> 1) {
      proof.push(nodeAt(this.#nodes, node % 2 === 0 ? node - 1 : node + 1));
    }
    return { account: address, cumulative: place.cumulative, proof };
  }

  /**
   * Accounts that have less here than they had in an earlier tree. The contract cannot see that, so whoever publishes must:
   * a tree for which this is not empty takes back what was promised.
   */
  belowEarlier(earlier: PayoutTree): readonly string[] {
    return [...earlier.#places.entries()]
      .filter(([account, { cumulative }]) => (this.#places.get(account)?.cumulative ?? 0n) < cumulative)
      .map(([account]) => account);
  }
}

/** Whether a claim leads to a root: what the contract checks, without the contract. */
export function verifyClaim(scope: PayoutScope, root: string, claim: Claim): boolean {
  if (!claim.proof.every((sibling) => isHexString(sibling, 32))) return false;
  return claim.proof.reduce(hashPair, payoutLeaf(scope, claim)) === root;
}

function addUp(entitlements: Iterable<Entitlement>): ReadonlyMap<string, bigint> {
  const sums = new Map<string, bigint>();
  for (const { account, cumulative } of entitlements) {
    const address = getAddress(account);
    if (address === ZeroAddress) throw new RangeError('Nobody can claim for the zero address.');
    if (cumulative < 0n) throw new RangeError(`What ${address} has earned is negative.`);
    const sum = (sums.get(address) ?? 0n) + cumulative;
    if (sum >= UINT256_END) throw new RangeError(`What ${address} has earned does not fit into 256 bits.`);
    if (sum > 0n) sums.set(address, sum);
  }
  return sums;
}

function hashPair(a: string, b: string): string {
  return keccak256(a < b ? concat([a, b]) : concat([b, a]));
}

function nodeAt(nodes: readonly string[], index: number): string {
  const node = nodes[index];
  if (node === undefined) throw new RangeError(`The tree has no node ${index}.`);
  return node;
}

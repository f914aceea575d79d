import { AbiCoder, concat, getAddress, keccak256, ZeroAddress } from 'ethers';
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

const LEAF = ['uint256', 'address', 'address', 'address', 'uint256'];
const UINT256_END = 2n ** 256n;

/** The leaf of an account, as `RoyaltyDistributor.leafOf` computes it. */
export function payoutLeaf(scope: PayoutScope, { account, cumulative }: Entitlement): string {
  const { chainId, distributor, token } = scope;
  const encoded = AbiCoder.defaultAbiCoder().encode(LEAF, [chainId, distributor, token, account, cumulative]);
  return keccak256(keccak256(encoded));
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
  readonly #places: ReadonlyMap<string, { readonly cumulative: bigint; readonly node: number }>;

  constructor(scope: PayoutScope, entitlements: Iterable<Entitlement>) {
    const sums = addUp(entitlements);
    const leaves = [...sums]
      .map(([account, cumulative]) => ({
        account,
        cumulative,
        hash: payoutLeaf(scope, { account, cumulative }),
      }))
      .sort((a, b) => (a.hash < b.hash ? -1 : 1));
    if (leaves.length === 0) throw new RangeError('A payout tree needs somebody who has earned something.');
    const last = 2 * leaves.length - 2;
    const nodes = new Array<string>(last + 1);
    leaves.forEach(({ hash }, index) => {
      nodes[last - index] = hash;
    });
    for (let index = leaves.length - 2; index >= 0; index -= 1) {
      nodes[index] = hashPair(nodeAt(nodes, 2 * index + 1), nodeAt(nodes, 2 * index + 2));
    }
    this.#nodes = nodes;
    this.#places = new Map(
      leaves.map(({ account, cumulative }, index) => [account, { cumulative, node: last - index }]),
    );
    this.root = nodeAt(nodes, 0);
    this.total = leaves.reduce((sum, { cumulative }) => sum + cumulative, 0n);
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

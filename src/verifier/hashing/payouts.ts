import { AbiCoder, concat, keccak256 } from 'ethers';

/** What a leaf of a payout tree binds. */
export interface PayoutLeaf {
  readonly chainId: string;
  readonly distributor: string;
  readonly token: string;
  readonly account: string;
  readonly cumulative: string;
}

/** The leaf of an account: the hash of the hash of five words. */
export function payoutLeaf({ chainId, distributor, token, account, cumulative }: PayoutLeaf): string {
  const words = AbiCoder.defaultAbiCoder().encode(
    ['uint256', 'address', 'address', 'address', 'uint256'],
    [chainId, distributor, token, account, cumulative],
  );
  return keccak256(keccak256(words));
}

/** Where a leaf leads to with its siblings, of which the smaller one always comes first. */
export function payoutRoot(leaf: string, proof: readonly string[]): string {
  return proof.reduce(
    (node, sibling) => keccak256(concat(node < sibling ? [node, sibling] : [sibling, node])),
    leaf,
  );
}

import { Interface } from 'ethers';
import { readOwnArtifact } from '../../src/chain/artifact.ts';
import { type PayoutScope, PayoutTree } from '../../src/chain/payout-tree.ts';
import { type Claim, RoyaltyDistributor } from '../../src/chain/royalty-distributor.ts';
import { Token } from '../../src/chain/token.ts';
import { type Anvil, mockTokenArtifact } from '../kit/anvil.ts';
import { OWNER_DELAY } from './owned.ts';

/** Who does what at a distributor. */
export interface People {
  readonly owner: string;
  readonly publisher: string;
  readonly pauser: string;
  readonly funder: string;
}

/** A distributor with a token of its own. */
export interface Site {
  readonly distributor: RoyaltyDistributor;
  readonly token: Token;
  readonly scope: PayoutScope;
  readonly tokens: {
    mint(account: string, amount: bigint): Promise<void>;
    setFee(fee: bigint): Promise<void>;
  };
  /** Makes tokens and pays them in. */
  give(amount: bigint): Promise<void>;
  tree(...entitlements: readonly (readonly [account: string, cumulative: bigint])[]): Promise<PayoutTree>;
  /** Publishes a tree as the next one. */
  publish(tree: PayoutTree): Promise<void>;
}

/** Deploys a distributor and a token of six decimals. */
export async function payoutSite(chain: Anvil, people: People): Promise<Site> {
  const mock = await mockTokenArtifact();
  const mockAbi = new Interface(mock.abi);
  const { owner, publisher, pauser, funder } = people;
  const token = new Token(chain.provider, await chain.deploy(funder, mock, [6]));
  const artifact = await readOwnArtifact('RoyaltyDistributor');
  const address = await chain.deploy(funder, artifact, [
    token.address,
    OWNER_DELAY,
    owner,
    publisher,
    pauser,
  ]);
  const distributor = new RoyaltyDistributor(chain.provider, address);
  const scope = { chainId: chain.chainId, distributor: address, token: token.address };
  const askToken = async (name: string, ...args: readonly unknown[]) => {
    await chain.send(funder, { to: token.address, data: mockAbi.encodeFunctionData(name, args) });
  };
  const mint = (account: string, amount: bigint) => askToken('mint', account, amount);
  let sequence = 0n;
  return {
    distributor,
    token,
    scope,
    tokens: { mint, setFee: (fee) => askToken('setFee', fee) },
    give: async (amount) => {
      await mint(funder, amount);
      await chain.send(funder, token.approve(address, amount));
      await chain.send(funder, distributor.fund(amount));
    },
    tree: (...entitlements) =>
      PayoutTree.build(
        scope,
        entitlements.map(([account, cumulative]) => ({ account, cumulative })),
      ),
    publish: async (tree) => {
      sequence += 1n;
      await chain.send(publisher, distributor.publish(sequence, tree.root, tree.total));
    },
  };
}

/** What an account claims with, where it has a leaf. */
export function claimOf(tree: PayoutTree, account: string): Claim {
  const claim = tree.claimOf(account);
  if (claim === null) throw new Error(`${account} has no leaf.`);
  return claim;
}

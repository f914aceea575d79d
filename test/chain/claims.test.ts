import { concat, id, keccak256 } from 'ethers';
import { beforeAll, describe, expect, test } from 'vitest';
import { PayoutTree, payoutLeaf, verifyClaim } from '../../src/chain/payout-tree.ts';
import { type Claim, DISTRIBUTOR_ABI } from '../../src/chain/royalty-distributor.ts';
import { ANVIL_CHAIN, Anvil } from '../kit/anvil.ts';
import { claimOf, payoutSite, type Site } from './payout-site.ts';

let chain: Anvil;
let owner: string;
let publisher: string;
let pauser: string;
let funder: string;
let stranger: string;
let alice: string;
let bob: string;

beforeAll(async () => {
  chain = await Anvil.start();
  owner = chain.account(1);
  publisher = chain.account(2);
  pauser = chain.account(3);
  funder = chain.account(4);
  stranger = chain.account(5);
  alice = chain.account(6);
  bob = chain.account(7);
});

const site = (): Promise<Site> => payoutSite(chain, { owner, publisher, pauser, funder });

function refusal(from: string, call: { to: string; data: string }) {
  return chain.refusal(from, call, DISTRIBUTOR_ABI);
}

/** Root that a proof leads to, as OpenZeppelin's `MerkleProof` computes it. */
function rootOf(leaf: string, proof: readonly string[]): string {
  return proof.reduce((node, sibling) => keccak256(concat([node, sibling].sort())), leaf);
}

describe('claiming', () => {
  test('pays what was earned and not paid yet, whoever sends it, and only to the account', async () => {
    const { distributor, token, publish, give, tree } = await site();
    await give(1_000n);
    const first = await tree([alice, 300n], [bob, 200n]);
    await publish(first);
    const receipt = await chain.send(stranger, distributor.claim(claimOf(first, alice)));
    expect(distributor.eventsIn(receipt)).toMatchObject({
      funded: [],
      published: [],
      claimed: [{ account: alice, sequence: 1n, amount: 300n, cumulative: 300n }],
    });
    expect(await token.balanceOf(alice)).toBe(300n);
    expect(await token.balanceOf(stranger)).toBe(0n);

    const second = await tree([alice, 450n], [bob, 260n]);
    await publish(second);
    const later = await chain.send(alice, distributor.claim(claimOf(second, alice)));
    expect(distributor.eventsIn(later).claimed).toMatchObject([
      { sequence: 2n, amount: 150n, cumulative: 450n },
    ]);
    // Who did not claim from the first tree loses nothing.
    await chain.send(bob, distributor.claim(claimOf(second, bob)));
    expect([await token.balanceOf(alice), await token.balanceOf(bob)]).toEqual([450n, 260n]);
    expect([await distributor.claimed(alice), await distributor.claimed(bob)]).toEqual([450n, 260n]);
    const { claimed } = await distributor.events({ fromBlock: 0, toBlock: 'latest' });
    expect(claimed.map(({ account, amount }) => [account, amount])).toEqual([
      [alice, 300n],
      [alice, 150n],
      [bob, 260n],
    ]);
  });

  test('is refused the second time', async () => {
    const { distributor, token, publish, give, tree } = await site();
    await give(1_000n);
    const only = await tree([alice, 300n], [bob, 200n]);
    await publish(only);
    await chain.send(alice, distributor.claim(claimOf(only, alice)));
    expect(await refusal(alice, distributor.claim(claimOf(only, alice)))).toEqual({
      name: 'NothingToClaim',
      args: { account: alice, claimed: '300', cumulative: '300' },
    });
    await expect(chain.send(alice, distributor.claim(claimOf(only, alice)))).rejects.toThrow();
    expect(await token.balanceOf(alice)).toBe(300n);
  });

  test('is refused with the proof of another account, another amount, a part of a proof, and before any tree', async () => {
    const { distributor, publish, give, tree } = await site();
    await give(1_000n);
    const only = await tree([alice, 300n], [bob, 200n], [owner, 5n]);
    const right = claimOf(only, alice);
    const invalid = { name: 'InvalidProof' };
    expect(await refusal(alice, distributor.claim(right))).toMatchObject(invalid);
    await publish(only);
    const theirs = claimOf(only, bob);
    const wrong: readonly Claim[] = [
      { ...right, proof: theirs.proof },
      { ...right, cumulative: 301n },
      { ...right, cumulative: 299n },
      { ...theirs, account: alice },
      { ...right, account: stranger },
      { ...right, proof: right.proof.slice(1) },
      { ...right, proof: [...right.proof, id('more')] },
      { ...right, proof: [] },
    ];
    for (const claim of wrong) expect(await refusal(alice, distributor.claim(claim))).toMatchObject(invalid);
    await chain.send(alice, distributor.claim(right));
  });

  test('an inner node is no leaf, and neither is what a leaf is the hash of', async () => {
    const { distributor, publish, give, tree, scope } = await site();
    await give(1_000n);
    const only = await tree([alice, 300n], [bob, 200n]);
    await publish(only);
    const claim = claimOf(only, alice);
    const inner = rootOf(payoutLeaf(scope, claim), claim.proof);
    expect(inner).toBe(only.root);
    const last = { account: alice, cumulative: BigInt(inner), proof: [] };
    expect(await refusal(alice, distributor.claim(last))).toMatchObject({ name: 'InvalidProof' });
  });

  test.each(['chainId', 'distributor', 'token'] as const)(
    'a leaf for another %s does not count',
    async (field) => {
      const { distributor, give, scope, publish } = await site();
      await give(1_000n);
      const elsewhere = { ...scope, [field]: field === 'chainId' ? ANVIL_CHAIN + 1n : stranger };
      const entitlements = [
        { account: alice, cumulative: 300n },
        { account: bob, cumulative: 200n },
      ];
      const tree = await PayoutTree.build(elsewhere, entitlements);
      await publish(tree);
      const claim = claimOf(tree, alice);
      expect(verifyClaim(elsewhere, tree.root, claim)).toBe(true);
      expect(verifyClaim(scope, tree.root, claim)).toBe(false);
      expect((await refusal(alice, distributor.claim(claim))).name).toBe('InvalidProof');
    },
  );

  test('a tree with less than was claimed pays nothing and takes nothing back', async () => {
    const { distributor, token, publish, give, tree } = await site();
    await give(1_000n);
    const high = await tree([alice, 300n], [bob, 200n]);
    await publish(high);
    await chain.send(alice, distributor.claim(claimOf(high, alice)));
    const low = await tree([alice, 100n], [bob, 200n]);
    expect(low.belowEarlier(high)).toEqual([alice]);
    await publish(low);
    expect(await refusal(alice, distributor.claim(claimOf(low, alice)))).toEqual({
      name: 'NothingToClaim',
      args: { account: alice, claimed: '300', cumulative: '100' },
    });
    expect(await distributor.claimed(alice)).toBe(300n);
    // The old tree is gone, and a later one pays only what exceeds what was paid.
    expect((await refusal(alice, distributor.claim(claimOf(high, alice)))).name).toBe('InvalidProof');
    const again = await tree([alice, 310n], [bob, 200n]);
    await publish(again);
    await chain.send(alice, distributor.claim(claimOf(again, alice)));
    expect(await token.balanceOf(alice)).toBe(310n);
  });

  test('waits until the contract holds enough', async () => {
    const { distributor, token, publish, give, tree } = await site();
    const only = await tree([alice, 300n], [bob, 200n]);
    await publish(only);
    await give(299n);
    expect(await refusal(alice, distributor.claim(claimOf(only, alice)))).toEqual({
      name: 'InsufficientFunds',
      args: { available: '299', needed: '300' },
    });
    expect(await distributor.claimed(alice)).toBe(0n);
    await give(1n);
    await chain.send(alice, distributor.claim(claimOf(only, alice)));
    expect(await token.balanceOf(distributor.address)).toBe(0n);
  });

  test('the contract computes the same leaf', async () => {
    const { distributor, scope } = await site();
    for (const cumulative of [0n, 1n, 2n ** 256n - 1n]) {
      expect(await distributor.leafOf(alice, cumulative)).toBe(
        payoutLeaf(scope, { account: alice, cumulative }),
      );
    }
  });

  test('on another chain the leaf is another', async () => {
    const other = await Anvil.start(7_777n);
    const { distributor, give, publish, scope, tree } = await payoutSite(other, {
      owner,
      publisher,
      pauser,
      funder,
    });
    await give(300n);
    expect(scope.chainId).toBe(7_777n);
    const only = await tree([alice, 300n], [bob, 200n]);
    await publish(only);
    expect(await distributor.leafOf(alice, 300n)).toBe(
      payoutLeaf(scope, { account: alice, cumulative: 300n }),
    );
    await other.send(alice, distributor.claim(claimOf(only, alice)));
  });

  test('costs at most 75,000 gas again and 110,000 the first time, in a tree of depth 14', async () => {
    const { distributor, give, scope } = await site();
    await give(1_000n);
    const proof = Array.from({ length: 14 }, (_, level) => id(`sibling at level ${level}`));
    const pay = async (cumulative: bigint, sequence: bigint): Promise<number> => {
      const claim = { account: alice, cumulative, proof };
      const root = rootOf(payoutLeaf(scope, claim), proof);
      expect(verifyClaim(scope, root, claim)).toBe(true);
      await chain.send(publisher, distributor.publish(sequence, root, cumulative));
      return Number((await chain.send(alice, distributor.claim(claim))).gasUsed);
    };
    expect(await pay(300n, 1n)).toBeLessThanOrEqual(110_000);
    expect(await pay(400n, 2n)).toBeLessThanOrEqual(75_000);
  });
});

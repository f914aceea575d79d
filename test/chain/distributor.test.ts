import { id, zeroPadValue } from 'ethers';
import { beforeAll, describe, expect, test } from 'vitest';
import { type Artifact, readOwnArtifact } from '../../src/chain/artifact.ts';
import { PAUSER_ROLE, PUBLISHER_ROLE } from '../../src/chain/roles.ts';
import { DISTRIBUTOR_ABI, RoyaltyDistributor } from '../../src/chain/royalty-distributor.ts';
import { Anvil } from '../kit/anvil.ts';
import { OWNER_DELAY, owned } from './owned.ts';
import { claimOf, payoutSite, type Site } from './payout-site.ts';

let chain: Anvil;
let artifact: Artifact;
let owner: string;
let publisher: string;
let pauser: string;
let funder: string;
let stranger: string;
let alice: string;

beforeAll(async () => {
  chain = await Anvil.start();
  artifact = await readOwnArtifact('RoyaltyDistributor');
  owner = chain.account(1);
  publisher = chain.account(2);
  pauser = chain.account(3);
  funder = chain.account(4);
  stranger = chain.account(5);
  alice = chain.account(6);
});

const site = (): Promise<Site> => payoutSite(chain, { owner, publisher, pauser, funder });

function refusal(from: string, call: { to: string; data: string }) {
  return chain.refusal(from, call, DISTRIBUTOR_ABI);
}

describe('funding', () => {
  test('takes what the token was told to allow, and says so', async () => {
    const { distributor, token, tokens } = await site();
    await tokens.mint(funder, 100n);
    expect((await refusal(funder, distributor.fund(60n))).name).toBe('ERC20InsufficientAllowance');
    await chain.send(funder, token.approve(distributor.address, 60n));
    expect(await token.allowance(funder, distributor.address)).toBe(60n);
    const receipt = await chain.send(funder, distributor.fund(60n));
    expect(distributor.eventsIn(receipt)).toMatchObject({
      funded: [{ funder, amount: 60n, transactionHash: receipt.hash }],
      published: [],
      claimed: [],
    });
    expect(await token.balanceOf(distributor.address)).toBe(60n);
    expect(await token.balanceOf(funder)).toBe(40n);
    expect((await refusal(stranger, distributor.fund(1n))).name).toBe('ERC20InsufficientAllowance');
  });

  test('a token that keeps a fee is refused', async () => {
    const { distributor, token, tokens } = await site();
    await tokens.mint(funder, 1_000n);
    await tokens.setFee(100n);
    await chain.send(funder, token.approve(distributor.address, 1_000n));
    expect(await refusal(funder, distributor.fund(1_000n))).toEqual({
      name: 'InexactTransfer',
      args: { asked: '1000', received: '990' },
    });
  });

  test('a distributor needs a token that is a contract', async () => {
    const args = [stranger, OWNER_DELAY, owner, publisher, pauser];
    await expect(chain.deploy(owner, artifact, args)).rejects.toMatchObject({
      code: 'CHAIN_REVERTED',
      revert: { name: 'TokenMissing', args: { token: stranger } },
    });
  });
});

describe('publishing', () => {
  test('numbers trees without a gap; the last one again changes nothing, another one for its number is refused', async () => {
    const { distributor } = await site();
    expect(await distributor.sequence()).toBe(0n);
    for (const given of [0n, 2n]) {
      expect(await refusal(publisher, distributor.publish(given, id('a'), 1n))).toEqual({
        name: 'SequenceOutOfOrder',
        args: { expected: '1', given: String(given) },
      });
    }
    const receipt = await chain.send(publisher, distributor.publish(1n, id('a'), 7n));
    expect(distributor.eventsIn(receipt)).toMatchObject({
      funded: [],
      published: [{ sequence: 1n, root: id('a'), total: 7n }],
      claimed: [],
    });
    expect([await distributor.sequence(), await distributor.root()]).toEqual([1n, id('a')]);

    expect((await chain.send(publisher, distributor.publish(1n, id('a'), 7n))).logs).toEqual([]);
    expect(await refusal(publisher, distributor.publish(1n, id('b'), 7n))).toEqual({
      name: 'SequenceTaken',
      args: { sequence: '1', published: id('a'), given: id('b') },
    });
    await chain.send(publisher, distributor.publish(2n, id('b'), 9n));
    expect(await refusal(publisher, distributor.publish(1n, id('a'), 7n))).toMatchObject({
      name: 'SequenceOutOfOrder',
      args: { expected: '3' },
    });
    expect([await distributor.sequence(), await distributor.root()]).toEqual([2n, id('b')]);
  });

  test('only publishers publish', async () => {
    const { distributor } = await site();
    for (const from of [owner, pauser, funder, stranger]) {
      expect(await refusal(from, distributor.publish(1n, id('a'), 1n))).toEqual({
        name: 'AccessControlUnauthorizedAccount',
        args: { account: from, neededRole: PUBLISHER_ROLE },
      });
    }
  });
});

describe('pausing', () => {
  test('stops claims alone, by the pauser; the owner ends it', async () => {
    const { distributor, token, publish, give, tree } = await site();
    await give(100n);
    const wrong = await tree([stranger, 100n]);
    await publish(wrong);
    expect((await refusal(pauser, distributor.unpause())).name).toBe('AccessControlUnauthorizedAccount');
    expect((await refusal(owner, distributor.unpause())).name).toBe('ExpectedPause');
    const pause = await chain.send(pauser, distributor.pause());
    expect(pause.logs).toHaveLength(1);
    expect(await distributor.paused()).toBe(true);
    expect((await refusal(pauser, distributor.pause())).name).toBe('EnforcedPause');
    expect((await refusal(stranger, distributor.claim(claimOf(wrong, stranger)))).name).toBe('EnforcedPause');

    await give(50n);
    const right = await tree([alice, 150n]);
    await publish(right);
    for (const from of [pauser, publisher, stranger]) {
      expect(await refusal(from, distributor.unpause())).toEqual({
        name: 'AccessControlUnauthorizedAccount',
        args: { account: from, neededRole: zeroPadValue('0x00', 32) },
      });
    }
    await chain.send(owner, distributor.unpause());
    expect(await distributor.paused()).toBe(false);
    await chain.send(alice, distributor.claim(claimOf(right, alice)));
    expect(await token.balanceOf(alice)).toBe(150n);
  });

  test('only the pauser pauses', async () => {
    const { distributor } = await site();
    for (const from of [owner, publisher, stranger]) {
      expect(await refusal(from, distributor.pause())).toEqual({
        name: 'AccessControlUnauthorizedAccount',
        args: { account: from, neededRole: PAUSER_ROLE },
      });
    }
  });
});

describe('who may', () => {
  owned({
    chain: () => chain,
    deployed: async () => (await site()).distributor.address,
    owner: () => owner,
    role: PUBLISHER_ROLE,
    holder: () => publisher,
    stranger: () => stranger,
  });

  test('roles are given at the deployment', async () => {
    const { distributor } = await site();
    const read = new RoyaltyDistributor(chain.provider, distributor.address);
    expect(await read.owner()).toBe(owner);
    expect(await read.hasRole(PUBLISHER_ROLE, publisher)).toBe(true);
    expect(await read.hasRole(PAUSER_ROLE, pauser)).toBe(true);
    expect(await read.hasRole(PAUSER_ROLE, publisher)).toBe(false);
  });
});

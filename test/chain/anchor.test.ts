import { AbiCoder, id, keccak256, zeroPadValue } from 'ethers';
import { beforeAll, describe, expect, test } from 'vitest';
import { readOwnArtifact } from '../../src/chain/artifact.ts';
import { ANCHOR_ABI, type AnchoredEpoch, AttributionAnchor } from '../../src/chain/attribution-anchor.ts';
import { PUBLISHER_ROLE } from '../../src/chain/roles.ts';
import { Anvil } from '../kit/anvil.ts';
import { OWNER_DELAY, owned } from './owned.ts';

const FIRST = 5n;

let chain: Anvil;
let owner: string;
let publisher: string;
let stranger: string;

beforeAll(async () => {
  chain = await Anvil.start();
  owner = chain.account(1);
  publisher = chain.account(2);
  stranger = chain.account(3);
});

/** The epochs of a log from the first that is anchored here; each grows by ten leaves. */
function epoch(number: bigint): AnchoredEpoch {
  return {
    number,
    size: number * 10n,
    root: id(`root ${number}`),
    previousRoot: id(`root ${number - 1n}`),
  };
}

async function deployed(): Promise<AttributionAnchor> {
  const artifact = await readOwnArtifact('AttributionAnchor');
  const address = await chain.deploy(chain.account(0), artifact, [FIRST, OWNER_DELAY, owner, publisher]);
  return new AttributionAnchor(chain.provider, address);
}

/** Anchors the first `count` epochs. */
async function anchored(count: number): Promise<AttributionAnchor> {
  const anchor = await deployed();
  for (let done = 0n; done < count; done += 1n) {
    const number = FIRST + done;
    await chain.send(publisher, anchor.anchor(epoch(number), done === 0n ? null : epoch(number - 1n)));
  }
  return anchor;
}

function refusal(
  anchor: AttributionAnchor,
  given: AnchoredEpoch,
  previous: AnchoredEpoch | null,
  from = publisher,
) {
  return chain.refusal(from, anchor.anchor(given, previous), ANCHOR_ABI);
}

/** The hash that docs/reference/contracts.md describes. */
function commitment({ number, root, size, previousRoot }: AnchoredEpoch): string {
  const types = ['uint64', 'bytes32', 'uint64', 'bytes32'];
  return keccak256(AbiCoder.defaultAbiCoder().encode(types, [number, root, size, previousRoot]));
}

describe('anchoring', () => {
  test('stores one hash of an epoch, and says its values in an event', async () => {
    const anchor = await deployed();
    const receipt = await chain.send(publisher, anchor.anchor(epoch(5n), null));
    expect(await anchor.commitment(5n)).toBe(commitment(epoch(5n)));
    expect(receipt.logs).toHaveLength(1);
    expect(anchor.anchoredIn(receipt)).toMatchObject([
      { ...epoch(5n), transactionHash: receipt.hash, blockNumber: receipt.blockNumber },
    ]);
    const slots = await chain.changedSlots(receipt.hash, anchor.address);
    expect([...slots.values()]).toEqual([commitment(epoch(5n))]);
    expect(await anchor.commitment(4n)).toBeNull();
    expect(await anchor.commitment(6n)).toBeNull();
  });

  test('a claimed epoch is checked against the hash in each of its values', async () => {
    const anchor = await anchored(2);
    const right = epoch(6n);
    expect(await anchor.isAnchored(right)).toBe(true);
    expect(await anchor.isAnchored({ ...right, number: 5n })).toBe(false);
    expect(await anchor.isAnchored({ ...right, number: 7n })).toBe(false);
    expect(await anchor.isAnchored({ ...right, size: right.size + 1n })).toBe(false);
    expect(await anchor.isAnchored({ ...right, root: id('other') })).toBe(false);
    expect(await anchor.isAnchored({ ...right, previousRoot: id('other') })).toBe(false);
  });

  test('the same epoch again changes nothing and says nothing, also when later ones follow', async () => {
    const anchor = await anchored(3);
    for (const number of [5n, 6n, 7n]) {
      const call = anchor.anchor(epoch(number), null);
      expect(await chain.provider.call({ from: publisher, ...call })).toBe(zeroPadValue('0x00', 32));
      expect((await chain.send(publisher, call)).logs).toEqual([]);
      expect(await anchor.commitment(number)).toBe(commitment(epoch(number)));
    }
    expect(await chain.provider.call({ from: publisher, ...anchor.anchor(epoch(8n), epoch(7n)) })).toBe(
      zeroPadValue('0x01', 32),
    );
  });

  test('a closed epoch takes no other root, size or previous root', async () => {
    const anchor = await anchored(2);
    for (const change of [{ root: id('other') }, { size: 61n }, { previousRoot: id('other') }]) {
      const other = { ...epoch(6n), ...change };
      expect(await refusal(anchor, other, epoch(5n))).toEqual({
        name: 'EpochClosed',
        args: { number: '6', committed: commitment(epoch(6n)), given: commitment(other) },
      });
    }
    expect((await refusal(anchor, { ...epoch(5n), root: id('other') }, null)).name).toBe('EpochClosed');
  });

  test('epochs have no gap, and none is before the first', async () => {
    const anchor = await anchored(1);
    expect(await refusal(anchor, epoch(7n), epoch(6n))).toEqual({
      name: 'EpochOutOfOrder',
      args: { number: '7' },
    });
    expect(await refusal(anchor, epoch(4n), null)).toEqual({
      name: 'EpochOutOfOrder',
      args: { number: '4' },
    });
    expect(await refusal(anchor, epoch(0n), null)).toEqual({
      name: 'EpochOutOfOrder',
      args: { number: '0' },
    });
  });

  test('an epoch names the root that was anchored before it', async () => {
    const anchor = await anchored(1);
    const forked = { ...epoch(6n), previousRoot: id('fork') };
    expect(await refusal(anchor, forked, epoch(5n))).toMatchObject({
      name: 'PreviousEpochDiffers',
      args: { number: '6', committed: commitment(epoch(5n)) },
    });
    for (const change of [{ size: 51n }, { previousRoot: id('other') }]) {
      const wrong = { ...epoch(5n), ...change };
      expect((await refusal(anchor, epoch(6n), wrong)).name).toBe('PreviousEpochDiffers');
    }
  });

  test('a log may stay as long as it was, and never becomes shorter', async () => {
    const anchor = await anchored(1);
    expect(await refusal(anchor, { ...epoch(6n), size: 49n }, epoch(5n))).toEqual({
      name: 'SizeFell',
      args: { number: '6', previousSize: '50', size: '49' },
    });
    await chain.send(publisher, anchor.anchor({ ...epoch(6n), size: 50n }, epoch(5n)));
  });

  test('the next epoch is found however many there are', async () => {
    const anchor = await deployed();
    expect(await anchor.firstEpoch()).toBe(5n);
    for (let number = 5n; number < 25n; number += 1n) {
      expect(await anchor.nextEpoch()).toBe(number);
      await chain.send(publisher, anchor.anchor(epoch(number), number === 5n ? null : epoch(number - 1n)));
    }
    expect(await anchor.nextEpoch()).toBe(25n);
    const events = await anchor.anchored({ fromBlock: 0, toBlock: 'latest' });
    expect(events.map(({ number }) => number)).toEqual(
      Array.from({ length: 20 }, (_, index) => BigInt(index + 5)),
    );
  });

  test('costs at most 60,000 gas', async () => {
    const anchor = await anchored(2);
    const { gasUsed } = await chain.send(publisher, anchor.anchor(epoch(7n), epoch(6n)));
    expect(Number(gasUsed)).toBeLessThanOrEqual(60_000);
    const again = await chain.send(publisher, anchor.anchor(epoch(7n), epoch(6n)));
    expect(Number(again.gasUsed)).toBeLessThanOrEqual(30_000);
  });
});

describe('who may', () => {
  test('only publishers anchor, also what is anchored already', async () => {
    const anchor = await anchored(1);
    for (const from of [stranger, owner]) {
      for (const call of [epoch(5n), epoch(6n)]) {
        expect(await refusal(anchor, call, epoch(5n), from)).toEqual({
          name: 'AccessControlUnauthorizedAccount',
          args: { account: from, neededRole: PUBLISHER_ROLE },
        });
      }
    }
  });

  owned({
    chain: () => chain,
    deployed: async () => (await deployed()).address,
    owner: () => owner,
    role: PUBLISHER_ROLE,
    holder: () => publisher,
    stranger: () => stranger,
  });
});

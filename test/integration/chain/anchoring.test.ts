import { randomBytes } from 'node:crypto';
import { Interface, type Wallet } from 'ethers';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { SYSTEM_ACTOR } from '../../../src/auth/principal.ts';
import { Anchorer } from '../../../src/chain/anchoring/anchorer.ts';
import { AnchorReader, type AnchorState } from '../../../src/chain/anchoring/reader.ts';
import { AnchorStore } from '../../../src/chain/anchoring/store.ts';
import { type AnchoredEpoch, AttributionAnchor } from '../../../src/chain/attribution-anchor.ts';
import { openProvider } from '../../../src/chain/connect.ts';
import { OUTBOX_ERRORS } from '../../../src/chain/outbox/errors.ts';
import { RpcNode } from '../../../src/chain/outbox/node.ts';
import type { OutboxSender } from '../../../src/chain/outbox/sender.ts';
import { PUBLISHER_ROLE } from '../../../src/chain/roles.ts';
import { ChainStatusService } from '../../../src/chain/status.ts';
import { sqlState } from '../../../src/db/errors.ts';
import { atFileEnd } from '../../kit/file-end.ts';
import { OutboxKit } from './kit.ts';
import { FaultyRpc } from './proxy.ts';

const FINALITY = 3;
const ROLES = new Interface([
  'function grantRole(bytes32 role, address account)',
  'function revokeRole(bytes32 role, address account)',
]);

let kit: OutboxKit;
let rpc: FaultyRpc;
let wallet: Wallet;
let sender: OutboxSender;
let anchor: AttributionAnchor;
let anchorer: Anchorer;
let reader: AnchorReader;
/** What the anchorer has asked the database. */
const queries: string[] = [];
/** The last epoch that there is; each test closes its own after it, and its contract begins with them. */
let last: { number: bigint; size: bigint; digest: string } = {
  number: 0n,
  size: 0n,
  digest: '00'.repeat(32),
};

beforeAll(async () => {
  kit = await OutboxKit.open();
  rpc = await FaultyRpc.before(kit.chain.url);
});
beforeEach(async () => {
  rpc.fate = () => 'ANSWERED';
  rpc.lie = () => undefined;
  wallet = await kit.account();
  sender = kit.sender(wallet, { url: rpc.url });
  await use(await kit.anchorContract(last.number + 1n, wallet.address));
});

/** Anchors in a contract from now on. */
async function use(contract: AttributionAnchor): Promise<void> {
  const { chainId } = kit.chain;
  const provider = openProvider({ rpcUrl: rpc.url, chainId, timeoutMs: 5_000, pollingMs: 50 });
  atFileEnd(() => provider.destroy());
  const place = { chainId, contract: contract.address };
  const { clock, outbox } = kit;
  const { database } = kit.db;
  const watched: Pick<typeof database, 'querySystem' | 'withSystemPg'> = {
    querySystem: (text, values) => {
      queries.push(text);
      return database.querySystem(text, values);
    },
    withSystemPg: (work) => database.withSystemPg(work),
  };
  anchor = contract;
  anchorer = new Anchorer(
    { chainId, finality: FINALITY },
    {
      store: new AnchorStore(place, { database: watched, clock, outbox }),
      anchor: new AttributionAnchor(provider, contract.address),
      node: new RpcNode(provider, OUTBOX_ERRORS),
    },
  );
  reader = new AnchorReader(place, database);
}

/** Closes an epoch, as far as the anchorer knows of it. */
async function close(): Promise<AnchoredEpoch> {
  const previous = last;
  const digest = randomBytes(32).toString('hex');
  last = { number: previous.number + 1n, size: previous.size + 10n, digest };
  await kit.db.admin(
    `INSERT INTO epoch (number, first_size, size, root, digest, previous, closed_at, document)
     VALUES ($1, $2, $3, $4, decode($5, 'hex'), decode($6, 'hex'), now(), '{}')`,
    [
      ...[String(last.number), String(previous.size), String(last.size), randomBytes(32)],
      ...[digest, previous.digest],
    ],
  );
  return {
    number: last.number,
    size: last.size,
    root: `0x${digest}`,
    previousRoot: `0x${previous.digest}`,
  };
}

async function closed(many: number): Promise<readonly [AnchoredEpoch, ...AnchoredEpoch[]]> {
  const first = await close();
  const others: AnchoredEpoch[] = [];
  for (let i = 1; i < many; i += 1) others.push(await close());
  return [first, ...others];
}

/** One turn of the server, and a block. */
async function turn(blocks = 1): Promise<void> {
  await anchorer.run();
  await sender.run();
  await kit.mine(blocks);
}

async function states(epochs: readonly AnchoredEpoch[]): Promise<readonly (AnchorState | undefined)[]> {
  const anchors = await reader.of(epochs.map(({ number }) => number));
  return epochs.map(({ number }) => anchors.find(({ epoch }) => epoch === number)?.state);
}

async function status() {
  const site = { chainId: kit.chain.chainId, anchor: anchor.address, distributor: null, token: null };
  return new ChainStatusService({ site, account: wallet.address }, { database: kit.db.database }).status(
    SYSTEM_ACTOR,
  );
}

test('closed epochs are anchored in their order, one after the other, and each once', async () => {
  const epochs = await closed(3);
  expect(await states(epochs)).toEqual(['WAITING', 'WAITING', 'WAITING']);
  await anchorer.run();
  expect(await states(epochs)).toEqual(['QUEUED', 'WAITING', 'WAITING']);
  expect(await status()).toMatchObject({
    queued: 1,
    sent: 0,
    notAnchored: 3,
    lastAnchored: null,
    problem: null,
  });
  await sender.run();
  expect(await states(epochs)).toEqual(['SENT', 'WAITING', 'WAITING']);
  await kit.mine();
  await sender.run();
  expect(await states(epochs)).toEqual(['INCLUDED', 'WAITING', 'WAITING']);
  for (let i = 0; i < 6; i += 1) await turn();
  await anchorer.run();
  expect(await states(epochs)).toEqual(['ANCHORED', 'ANCHORED', 'ANCHORED']);
  const logs = await anchor.anchored({ fromBlock: 0, toBlock: 'latest' });
  expect(logs.map(({ number, size, root, previousRoot }) => ({ number, size, root, previousRoot }))).toEqual(
    epochs,
  );
  const anchors = await reader.of(epochs.map(({ number }) => number));
  expect(anchors.map(({ transaction, block }) => ({ transaction, block }))).toEqual(
    logs.map(({ transactionHash, blockNumber: number, blockHash: hash }) => ({
      transaction: transactionHash,
      block: { number, hash },
    })),
  );
  expect(await kit.chain.provider.getTransactionCount(wallet.address)).toBe(3);
  expect(await status()).toMatchObject({
    ...{ queued: 0, sent: 0, included: 0, notAnchored: 0, lastAnchored: last.number, problem: null },
    ...{ account: wallet.address, anchor: anchor.address },
  });
});

test('an anchor whose block is replaced comes again', async () => {
  const epochs = await closed(2);
  await turn();
  await turn();
  await sender.run();
  expect(await states(epochs)).toEqual(['INCLUDED', 'INCLUDED']);
  await kit.chain.ask('anvil_reorg', 2, []);
  expect(await anchor.nextEpoch()).toBe(epochs[0].number);
  await sender.run();
  expect(await states(epochs)).toEqual(['SENT', 'SENT']);
  for (let i = 0; i < 4; i += 1) await turn();
  await anchorer.run();
  expect(await states(epochs)).toEqual(['ANCHORED', 'ANCHORED']);
  expect(await anchor.anchored({ fromBlock: 0, toBlock: 'latest' })).toHaveLength(2);
});

test('after an outage everything that was closed meanwhile is anchored in its order', async () => {
  rpc.fate = () => 'BROKEN';
  const epochs = await closed(3);
  for (let i = 0; i < 2; i += 1) {
    expect(await anchorer.run()).toBe('TROUBLED');
    await sender.run();
  }
  expect((await status()).problem).toMatchObject({ code: 'CHAIN_UNREACHABLE' });
  rpc.fate = () => 'ANSWERED';
  for (let i = 0; i < 7; i += 1) await turn();
  await anchorer.run();
  expect(await states(epochs)).toEqual(['ANCHORED', 'ANCHORED', 'ANCHORED']);
  expect((await status()).problem).toBeNull();
});

describe('an epoch that the contract has already', () => {
  const byAnother = (epoch: AnchoredEpoch, before: AnchoredEpoch | null) =>
    kit.atOnce(async () => {
      await kit.chain.ask('anvil_impersonateAccount', wallet.address);
      await kit.chain.send(wallet.address, anchor.anchor(epoch, before));
    });

  test('is recognised, when that is final, and nothing is sent', async () => {
    const [first, ...others] = await closed(2);
    await byAnother(first, null);
    await anchorer.run();
    expect(await states([first])).toEqual(['WAITING']);
    await kit.mine(FINALITY);
    for (let i = 0; i < 4; i += 1) await turn();
    await anchorer.run();
    expect(await states([first, ...others])).toEqual(['ANCHORED', 'ANCHORED']);
    const [found] = await reader.of([first.number]);
    expect(found).toMatchObject({ transaction: null, block: null });
    expect(await kit.chain.provider.getTransactionCount(wallet.address)).toBe(2);
  });

  test('with other values stops anchoring for good, and nothing else', async () => {
    const [first, ...others] = await closed(2);
    await byAnother({ ...first, size: first.size + 1n }, null);
    expect(await anchorer.run()).toBe('DONE');
    expect(await states([first])).toEqual(['WAITING']);
    await kit.mine(FINALITY);
    expect(await anchorer.run()).toBe('TROUBLED');
    expect((await status()).problem).toMatchObject({ code: 'CHAIN_ANCHOR_DOUBTFUL' });
    expect(await states([first])).toEqual(['WAITING']);
    // The next look finds the same, on the same chain.
    expect(await anchorer.run()).toBe('STOPPED');
    expect(await states([first, ...others])).toEqual(['DIFFERS', 'WAITING']);
    expect(await anchorer.run()).toBe('STOPPED');
    expect((await status()).problem).toMatchObject({ code: 'CHAIN_ANCHOR_DIFFERS' });
    const forget = kit.db.admin(
      `UPDATE anchor_contract SET problem_code = NULL, problem = NULL, problem_at = NULL WHERE address = $1`,
      [anchor.address],
    );
    expect(await forget.then(() => null, sqlState)).toBe('42501');

    const payee = await kit.pay();
    await sender.run();
    await kit.mine();
    expect(await kit.balance(payee.address)).toBe(1n);
    // Another contract, which begins after what differs, goes on.
    await use(await kit.anchorContract(last.number, wallet.address));
    for (let i = 0; i < 4; i += 1) await turn();
    await anchorer.run();
    expect(await states(others)).toEqual(['ANCHORED']);
    expect(await states([first])).toEqual([undefined]);
  });
});

describe('an answer of another node', () => {
  const other = `0x${'ab'.repeat(32)}`;
  const lied = () => {
    rpc.lie = (method) => (method === 'eth_call' ? other : undefined);
  };

  test('ends nothing when it comes once, or another time with other values', async () => {
    const [epoch] = await closed(1);
    for (let i = 0; i < 2; i += 1) {
      await anchorer.run();
      lied();
      expect(await anchorer.run()).toBe('TROUBLED');
      rpc.lie = () => undefined;
    }
    let many = 1;
    rpc.lie = (method) =>
      method === 'eth_call' ? `0x${(many++).toString(16).padStart(2, '0').repeat(32)}` : undefined;
    for (let i = 0; i < 3; i += 1) expect(await anchorer.run()).toBe('TROUBLED');
    rpc.lie = () => undefined;
    for (let i = 0; i < 4; i += 1) await turn();
    expect(await anchorer.run()).toBe('DONE');
    expect(await states([epoch])).toEqual(['ANCHORED']);
    expect((await status()).problem).toBeNull();
  });

  test('ends nothing when the chain behind it is another one each time', async () => {
    const [epoch] = await closed(1);
    await kit.mine(5);
    await anchorer.run();
    lied();
    expect(await anchorer.run()).toBe('TROUBLED');
    await kit.chain.ask('anvil_reorg', 4, []);
    expect(await anchorer.run()).toBe('TROUBLED');
    rpc.lie = () => undefined;
    for (let i = 0; i < 4; i += 1) await turn();
    await anchorer.run();
    expect(await states([epoch])).toEqual(['ANCHORED']);
  });
});

test('an anchor that was final and is not there any more is said to be lost, and is not ordered again', async () => {
  const snapshot = await kit.chain.ask('evm_snapshot');
  const [epoch] = await closed(1);
  await turn(FINALITY);
  await sender.run();
  await kit.chain.ask('evm_revert', snapshot);
  expect(await anchorer.run()).toBe('TROUBLED');
  expect((await status()).problem).toMatchObject({ code: 'CHAIN_NODE_BEHIND' });
  await kit.mine(2 * FINALITY);
  for (let i = 0; i < 2; i += 1) {
    expect(await anchorer.run()).toBe('TROUBLED');
    await sender.run();
    expect((await status()).problem).toMatchObject({ code: 'CHAIN_FINALITY_BROKEN' });
  }
  expect(await states([epoch])).toEqual(['INCLUDED']);
  expect((await status()).queued).toBe(0);
});

test('what somebody else anchored while ours was on its way is not called ours', async () => {
  const [epoch] = await closed(1);
  await anchorer.run();
  rpc.fate = (method) => (method === 'eth_sendRawTransaction' ? 'BROKEN' : 'ANSWERED');
  await sender.run();
  rpc.fate = () => 'ANSWERED';
  await kit.atOnce(async () => {
    const another = kit.chain.account(0);
    const data = roleCall('grantRole', kit.chain.account(1));
    await kit.chain.send(another, { to: anchor.address, data });
    await kit.chain.send(kit.chain.account(1), anchor.anchor(epoch, null));
  });
  for (let i = 0; i < 4; i += 1) await turn();
  await anchorer.run();
  expect(await kit.chain.provider.getTransactionCount(wallet.address)).toBe(1);
  const [found] = await reader.of([epoch.number]);
  expect(found).toMatchObject({ state: 'ANCHORED', transaction: null, block: null });
});

test('what is anchored is not read again', async () => {
  const [epoch] = await closed(1);
  for (let i = 0; i < 5; i += 1) await turn();
  await anchorer.run();
  expect(await states([epoch])).toEqual(['ANCHORED']);
  await anchorer.run();
  rpc.methods.length = 0;
  queries.length = 0;
  expect(await anchorer.run()).toBe('DONE');
  expect(queries.filter((text) => text.includes('FROM epoch'))).toEqual([expect.stringContaining('max(')]);
  expect(rpc.methods).toEqual([]);
});

test('an anchor that was reverted is ordered again when nothing is in its way', async () => {
  const [epoch] = await closed(1);
  await anchorer.run();
  rpc.fate = (method) => (method === 'eth_sendRawTransaction' ? 'BROKEN' : 'ANSWERED');
  await sender.run();
  rpc.fate = () => 'ANSWERED';
  const owner = kit.chain.account(0);
  const role = (change: 'grantRole' | 'revokeRole') =>
    kit.atOnce(() => kit.chain.send(owner, { to: anchor.address, data: roleCall(change, wallet.address) }));
  await role('revokeRole');
  await turn(FINALITY);
  await sender.run();
  expect(await states([epoch])).toEqual(['WAITING']);
  await anchorer.run();
  expect(await states([epoch])).toEqual(['QUEUED']);
  await sender.run();
  expect((await status()).problem).toMatchObject({ code: 'CHAIN_REVERTED' });
  await role('grantRole');
  for (let i = 0; i < 4; i += 1) await turn();
  await anchorer.run();
  expect(await states([epoch])).toEqual(['ANCHORED']);
  expect((await status()).problem).toBeNull();
});

test('several processes that look at the same time order one transaction', async () => {
  const [epoch] = await closed(1);
  await Promise.all([anchorer.run(), anchorer.run(), anchorer.run()]);
  for (let i = 0; i < 4; i += 1) await turn();
  await anchorer.run();
  expect(await states([epoch])).toEqual(['ANCHORED']);
  expect(await kit.chain.provider.getTransactionCount(wallet.address)).toBe(1);
});

test('where there is no such contract, nothing is anchored, and it says so', async () => {
  await use(new AttributionAnchor(kit.chain.provider, wallet.address));
  await closed(1);
  expect(await anchorer.run()).toBe('TROUBLED');
  expect((await status()).problem).toMatchObject({ code: 'CHAIN_CODE_DIFFERS' });
});

function roleCall(change: 'grantRole' | 'revokeRole', account: string): string {
  return ROLES.encodeFunctionData(change, [PUBLISHER_ROLE, account]);
}

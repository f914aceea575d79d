import { Interface, keccak256, type Wallet } from 'ethers';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { AttributionAnchor } from '../../../src/chain/attribution-anchor.ts';
import type { OutboxSender } from '../../../src/chain/outbox/sender.ts';
import { PUBLISHER_ROLE } from '../../../src/chain/roles.ts';
import { BUMP_MS, GWEI, LEASE_MS, OutboxKit, type Payee } from './kit.ts';
import { FaultyRpc } from './proxy.ts';

// What can be in the way, each with what it is called, that it goes on by itself, and that it happened once in the end.

const ROLES = new Interface(['function revokeRole(bytes32 role, address account)']);

let kit: OutboxKit;
let rpc: FaultyRpc;
let wallet: Wallet;
let sender: OutboxSender;

beforeAll(async () => {
  kit = await OutboxKit.open();
  rpc = await FaultyRpc.before(kit.chain.url);
});
beforeEach(async () => {
  rpc.fate = () => 'ANSWERED';
  rpc.lie = () => undefined;
  wallet = await kit.account();
  sender = kit.sender(wallet, { url: rpc.url });
});

async function problem({ purpose }: Payee): Promise<string | null> {
  return (await kit.state(purpose)).problem?.code ?? null;
}

/** Whatever was in the way is gone: it becomes final, and was paid once. */
async function goesOn(payee: Payee): Promise<void> {
  for (let i = 0; i < 3 && (await kit.state(payee.purpose)).state !== 'FINAL'; i += 1) {
    expect(await sender.run()).toBe('DONE');
    await kit.mine(3);
  }
  await sender.run();
  expect(await kit.state(payee.purpose)).toMatchObject({ state: 'FINAL', problem: null });
  expect(await kit.balance(payee.address)).toBe(1n);
}

/** Sends a transaction of the account past the outbox. */
async function foreign(nonce: number): Promise<string> {
  const raw = await wallet.signTransaction({
    ...{ chainId: kit.chain.chainId, nonce, to: kit.chain.account(5), gasLimit: 21_000n, type: 2 },
    ...{ maxFeePerGas: 400n * GWEI, maxPriorityFeePerGas: 300n * GWEI },
  });
  await kit.chain.ask('eth_sendRawTransaction', raw);
  return keccak256(raw);
}

describe('an answer that does not come', () => {
  test('says nothing of a transaction that the node has taken', async () => {
    rpc.fate = (method) => (method === 'eth_sendRawTransaction' ? 'DONE_AND_BROKEN' : 'ANSWERED');
    const payee = await kit.pay();
    await sender.run();
    const signed = await kit.state(payee.purpose);
    expect(signed).toMatchObject({ state: 'SIGNED', problem: { code: 'CHAIN_UNREACHABLE' } });
    await kit.mine();
    await sender.run();
    expect(await kit.state(payee.purpose)).toMatchObject({
      ...{ state: 'INCLUDED', problem: null, included: { hash: signed.hashes[0] } },
    });
    rpc.fate = () => 'ANSWERED';
    await goesOn(payee);
  });

  test('says nothing of a transaction that the node never saw, which is sent again as it was', async () => {
    rpc.fate = (method) => (method === 'eth_sendRawTransaction' ? 'BROKEN' : 'ANSWERED');
    const payee = await kit.pay();
    await sender.run();
    const signed = await kit.state(payee.purpose);
    await sender.run();
    expect(await problem(payee)).toBe('CHAIN_UNREACHABLE');
    rpc.fate = () => 'ANSWERED';
    await goesOn(payee);
    expect((await kit.state(payee.purpose)).hashes).toEqual(signed.hashes);
  });

  test('of any other question changes nothing', async () => {
    const payee = await kit.pay();
    const methods = ['eth_chainId', 'eth_getBlockByNumber', 'eth_getTransactionCount', 'eth_estimateGas'];
    for (const fate of ['BROKEN', 'GATEWAY_ERROR'] as const) {
      for (const deaf of methods) {
        rpc.fate = (method) => (method === deaf ? fate : 'ANSWERED');
        expect(await sender.run(), deaf).toBe('TROUBLED');
        expect(await kit.state(payee.purpose), deaf).toMatchObject({
          ...{ state: 'QUEUED', problem: { code: 'CHAIN_UNREACHABLE' } },
        });
      }
    }
    rpc.fate = () => 'ANSWERED';
    await goesOn(payee);
  });
});

test.each([
  ['a balance that is no number', 'eth_getBalance', 'plenty'],
  ['a balance that no account can have', 'eth_getBalance', `0x1${'00'.repeat(32)}`],
  ['a nonce that is too large', 'eth_getTransactionCount', `0x${'ff'.repeat(32)}`],
  ['a nonce that is no number', 'eth_getTransactionCount', { nonce: 1 }],
  ['a block that is none', 'eth_getBlockByNumber', 'latest'],
  ['an estimate that is no number', 'eth_estimateGas', 'cheap'],
])('an answer with %s is no answer', async (_name, deaf, result) => {
  const payee = await kit.pay();
  rpc.lie = (method) => (method === deaf ? result : undefined);
  expect(await sender.run()).toBe('TROUBLED');
  expect(await problem(payee)).toBe('CHAIN_UNREACHABLE');
  rpc.lie = () => undefined;
  await goesOn(payee);
});

test('a slow node that is asked for long keeps the right to send with who asks, and for no more than can be sent', async () => {
  const many = 5;
  sender = kit.sender(wallet, { url: rpc.url, inFlightMax: 2 });
  const payees = [];
  for (let i = 0; i < many; i += 1) payees.push(await kit.pay());
  const other = kit.sender(wallet);
  const outcomes: string[] = [];
  rpc.methods.length = 0;
  rpc.lie = async (method) => {
    if (method !== 'eth_estimateGas') return;
    // Each answer takes most of what the right to send lasts, and another process would like to have it.
    kit.clock.advance(0.9 * LEASE_MS);
    outcomes.push(await other.run());
  };
  expect(await sender.run()).toBe('DONE');
  expect(outcomes).toEqual(['HELD', 'HELD']);
  rpc.lie = () => undefined;
  expect(rpc.methods.filter((method) => method === 'eth_estimateGas')).toHaveLength(2);
  const states = await Promise.all(payees.map(({ purpose }) => kit.state(purpose)));
  expect(states.map(({ state }) => state)).toEqual(['SIGNED', 'SIGNED', 'QUEUED', 'QUEUED', 'QUEUED']);
  for (const payee of payees) await goesOn(payee);
});

describe('a node', () => {
  test('that serves another chain is given nothing', async () => {
    const payee = await kit.pay();
    await kit.chain.ask('anvil_setChainId', 5);
    rpc.methods.length = 0;
    expect(await sender.run()).toBe('TROUBLED');
    await kit.chain.ask('anvil_setChainId', Number(kit.chain.chainId));
    expect(new Set(rpc.methods)).toEqual(new Set(['eth_chainId']));
    expect(await problem(payee)).toBe('CHAIN_MISMATCH');
    await goesOn(payee);
  });

  test('that has forgotten what was sent is told again', async () => {
    const payee = await kit.pay();
    await sender.run();
    await kit.chain.ask('anvil_dropAllTransactions');
    await goesOn(payee);
    expect((await kit.state(payee.purpose)).hashes).toHaveLength(1);
  });

  test('that is behind is said to be, and does not make anything happen twice', async () => {
    const payee = await kit.pay();
    await sender.run();
    const snapshot = await kit.chain.ask('evm_snapshot');
    await kit.mine(2);
    await sender.run();
    const included = await kit.state(payee.purpose);
    expect(included.state).toBe('INCLUDED');
    await kit.chain.ask('evm_revert', snapshot);
    expect(await sender.run()).toBe('TROUBLED');
    expect(await kit.state(payee.purpose)).toMatchObject({
      ...{ state: 'INCLUDED', included: included.included, problem: { code: 'CHAIN_NODE_BEHIND' } },
    });
    await kit.chain.ask('anvil_dropAllTransactions');
    await kit.mine(4);
    await goesOn(payee);
  });
});

describe('an account', () => {
  test('that has nothing waits until it has', async () => {
    await kit.fund(wallet.address, 0n);
    const payee = await kit.pay();
    await sender.run();
    expect(await kit.state(payee.purpose)).toMatchObject({
      ...{ state: 'QUEUED', problem: { code: 'CHAIN_GAS_EMPTY' } },
    });
    await kit.fund(wallet.address, 10n ** 18n);
    await goesOn(payee);
  });

  test('that became empty after something was signed goes on with the same bytes', async () => {
    const payee = await kit.pay();
    rpc.fate = (method) => (method === 'eth_sendRawTransaction' ? 'BROKEN' : 'ANSWERED');
    await sender.run();
    rpc.fate = () => 'ANSWERED';
    await kit.fund(wallet.address, 0n);
    await sender.run();
    expect(await kit.state(payee.purpose)).toMatchObject({
      ...{ state: 'SIGNED', problem: { code: 'CHAIN_GAS_EMPTY' } },
    });
    await kit.fund(wallet.address, 10n ** 18n);
    await goesOn(payee);
    expect((await kit.state(payee.purpose)).hashes).toHaveLength(1);
  });

  test('whose nonce another program took gives another one, but not before that is final', async () => {
    const payee = await kit.pay();
    rpc.fate = (method) => (method === 'eth_sendRawTransaction' ? 'BROKEN' : 'ANSWERED');
    await sender.run();
    rpc.fate = () => 'ANSWERED';
    const taker = await foreign(0);
    await kit.mine(2);
    for (let run = 0; run < 2; run += 1) {
      kit.clock.advance(2 * BUMP_MS);
      await sender.run();
      expect(await kit.state(payee.purpose)).toMatchObject({
        ...{ state: 'SIGNED', signed: { nonce: 0 }, problem: { code: 'CHAIN_NONCE_TAKEN' } },
      });
    }
    await kit.mine();
    await sender.run();
    expect(await kit.state(payee.purpose)).toMatchObject({ state: 'QUEUED', signed: null, hashes: [] });
    await sender.run();
    expect(await kit.state(payee.purpose)).toMatchObject({ state: 'SIGNED', signed: { nonce: 1 } });
    await goesOn(payee);
    const [given] = await kit.db.admin(`SELECT taken_by FROM chain_nonce WHERE account = $1 AND nonce = 0`, [
      wallet.address,
    ]);
    expect(given).toEqual({ taken_by: taker });
  });

  test('whose other program lost a transaction has a gap, which the next order fills', async () => {
    await foreign(0);
    const payee = await kit.pay();
    await kit.mine();
    await sender.run();
    expect(await kit.state(payee.purpose)).toMatchObject({ signed: { nonce: 1 } });
    // The block with the foreign transaction is replaced by an empty one, and nobody sends it again.
    await kit.chain.ask('anvil_reorg', 1, []);
    await kit.chain.ask('anvil_dropAllTransactions');
    await sender.run();
    expect(await problem(payee)).toBe('CHAIN_NONCE_GAP');
    const next = await kit.pay();
    await sender.run();
    expect(await kit.state(next.purpose)).toMatchObject({ signed: { nonce: 0 } });
    expect(await problem(payee)).toBeNull();
    await goesOn(payee);
    expect(await kit.balance(next.address)).toBe(1n);
  });

  test('that has a gap fills it by itself, when that has lasted', async () => {
    await foreign(0);
    const payee = await kit.pay();
    await kit.mine();
    await sender.run();
    await kit.chain.ask('anvil_reorg', 1, []);
    await kit.chain.ask('anvil_dropAllTransactions');
    await sender.run();
    expect(await problem(payee)).toBe('CHAIN_NONCE_GAP');
    const purpose = `fill:${wallet.address}:0`;
    expect(await kit.outbox.stateOf(purpose)).toBeNull();
    kit.clock.advance(BUMP_MS);
    expect(await sender.run()).toBe('DONE');
    expect(await kit.state(purpose)).toMatchObject({ state: 'SIGNED', signed: { nonce: 0 } });
    await goesOn(payee);
    expect((await kit.state(purpose)).state).toBe('FINAL');
    expect(await kit.chain.provider.getTransactionCount(wallet.address)).toBe(2);
  });

  test('of which the chain has lost what was final signs nothing more, and says so', async () => {
    const snapshot = await kit.chain.ask('evm_snapshot');
    const payee = await kit.pay();
    await sender.run();
    await kit.mine(3);
    await sender.run();
    expect((await kit.state(payee.purpose)).state).toBe('FINAL');
    await kit.chain.ask('evm_revert', snapshot);
    const next = await kit.pay();
    await sender.run();
    expect(await problem(next)).toBe('CHAIN_NODE_BEHIND');
    await kit.mine(5);
    expect(await sender.run()).toBe('TROUBLED');
    expect(await kit.state(next.purpose)).toMatchObject({
      ...{ state: 'QUEUED', signed: null, problem: { code: 'CHAIN_FINALITY_BROKEN' } },
    });
    // What was final is found again, and all goes on.
    const [raw] = await kit.db.admin<{ readonly raw: string }>(
      `SELECT '0x' || encode(signed, 'hex') AS raw FROM chain_attempt WHERE account = $1`,
      [wallet.address],
    );
    await kit.chain.ask('eth_sendRawTransaction', raw?.raw);
    await kit.mine();
    await goesOn(next);
  });

  test('whose key was replaced has its transactions watched and sent again by the next one', async () => {
    const payee = await kit.pay();
    await sender.run();
    await kit.chain.ask('anvil_dropAllTransactions');
    sender = kit.sender(await kit.account(), { url: rpc.url });
    await sender.run();
    expect(await kit.state(payee.purpose)).toMatchObject({ signed: { account: wallet.address } });
    await kit.mine(3);
    await goesOn(payee);
  });
});

test('fees above the ceiling are not paid, before and after something was signed', async () => {
  sender = kit.sender(wallet, { url: rpc.url, feeCeiling: 5n * GWEI });
  await kit.chain.ask('anvil_setNextBlockBaseFeePerGas', `0x${(6n * GWEI).toString(16)}`);
  await kit.mine();
  const payee = await kit.pay();
  await sender.run();
  expect(await kit.state(payee.purpose)).toMatchObject({
    state: 'QUEUED',
    problem: { code: 'CHAIN_FEES_HIGH' },
  });
  await kit.chain.ask('anvil_setNextBlockBaseFeePerGas', `0x${(3n * GWEI).toString(16)}`);
  await kit.mine();
  await sender.run();
  expect(await kit.state(payee.purpose)).toMatchObject({ state: 'SIGNED', problem: null });
  await kit.chain.ask('anvil_setNextBlockBaseFeePerGas', `0x${(9n * GWEI).toString(16)}`);
  await kit.mine();
  kit.clock.advance(BUMP_MS);
  await sender.run();
  expect(await problem(payee)).toBe('CHAIN_FEES_HIGH');
  expect((await kit.state(payee.purpose)).hashes).toHaveLength(1);
  await kit.chain.ask('anvil_setNextBlockBaseFeePerGas', `0x${GWEI.toString(16)}`);
  await goesOn(payee);
});

describe('a contract that refuses', () => {
  const epoch = (number: bigint) => {
    const root = `0x${'11'.repeat(32)}`;
    return { number, size: 10n, root, previousRoot: root };
  };
  let anchor: AttributionAnchor;
  beforeEach(async () => {
    anchor = await kit.anchorContract(1n, wallet.address);
  });

  test('is asked again later, and does not hold up what comes after', async () => {
    const purpose = `anchor:2@${anchor.address}`;
    await kit.enqueue({ purpose, call: anchor.anchor(epoch(2n), epoch(1n)) });
    const payee = await kit.pay();
    await sender.run();
    const refused = await kit.state(purpose);
    expect(refused).toMatchObject({ state: 'QUEUED', problem: { code: 'CHAIN_REVERTED' } });
    expect(refused.problem?.message).toContain('EpochOutOfOrder (number 2)');
    await goesOn(payee);
    await kit.enqueue({ purpose: `anchor:1@${anchor.address}`, call: anchor.anchor(epoch(1n), null) });
    for (let run = 0; run < 2; run += 1) {
      await sender.run();
      await kit.mine(3);
    }
    await sender.run();
    expect((await kit.state(purpose)).state).toBe('FINAL');
  });

  test('what was fine when it was sent leaves it reverted for good, with the reason', async () => {
    const purpose = `anchor:1@${anchor.address}`;
    await kit.enqueue({ purpose, call: anchor.anchor(epoch(1n), null) });
    rpc.fate = (method) => (method === 'eth_sendRawTransaction' ? 'BROKEN' : 'ANSWERED');
    await sender.run();
    rpc.fate = () => 'ANSWERED';
    // Meanwhile the role is taken away.
    const data = ROLES.encodeFunctionData('revokeRole', [PUBLISHER_ROLE, wallet.address]);
    await kit.atOnce(() => kit.chain.send(kit.chain.account(0), { to: anchor.address, data }));
    await sender.run();
    await kit.mine();
    await sender.run();
    const included = await kit.state(purpose);
    expect(included.state).toBe('INCLUDED');
    expect(included.reason).toContain('AccessControlUnauthorizedAccount');
    await kit.mine(2);
    await sender.run();
    expect(await kit.state(purpose)).toEqual({ ...included, state: 'REVERTED' });
    await sender.run();
    expect((await kit.state(purpose)).hashes).toHaveLength(1);
  });
});

test('of two senders of one account one sends, and nothing is given two nonces', async () => {
  const others = [kit.sender(wallet), kit.sender(wallet)];
  const payees = await Promise.all([kit.pay(), kit.pay(), kit.pay()]);
  const outcomes = await Promise.all([...others, sender].map((one) => one.run()));
  expect(outcomes.filter((outcome) => outcome === 'DONE').length).toBeGreaterThanOrEqual(1);
  await kit.mine();
  await Promise.all([...others, sender].map((one) => one.run()));
  await sender.run();
  await kit.mine(3);
  await sender.run();
  for (const payee of payees) await goesOn(payee);
  expect(await kit.chain.provider.getTransactionCount(wallet.address)).toBe(3);
});

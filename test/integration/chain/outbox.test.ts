import { beforeAll, describe, expect, test } from 'vitest';
import { sqlState } from '../../../src/db/errors.ts';
import { codeOf } from '../payouts/kit.ts';
import { BUMP_MS, OutboxKit } from './kit.ts';

let kit: OutboxKit;
beforeAll(async () => {
  kit = await OutboxKit.open();
});

describe('a transaction that was ordered', () => {
  test('is signed, sent, included and final, and happens once however often it is ordered', async () => {
    const sender = kit.sender(await kit.account());
    const { purpose, address, order } = await kit.pay();
    expect(await kit.state(purpose)).toMatchObject({
      state: 'QUEUED',
      signed: null,
      hashes: [],
      problem: null,
    });

    expect(await sender.run()).toBe('DONE');
    const signed = await kit.state(purpose);
    expect(signed).toMatchObject({
      state: 'SIGNED',
      signed: { account: sender.account, nonce: 0 },
      problem: null,
    });
    expect(signed.hashes).toHaveLength(1);
    await kit.enqueue(order);
    await sender.run();
    expect(await kit.state(purpose)).toEqual(signed);

    await kit.mine();
    await sender.run();
    const included = await kit.state(purpose);
    expect(included).toMatchObject({ state: 'INCLUDED', included: { hash: signed.hashes[0] } });
    await kit.mine();
    await sender.run();
    expect((await kit.state(purpose)).state).toBe('INCLUDED');
    await kit.mine();
    await sender.run();
    expect(await kit.state(purpose)).toEqual({ ...included, state: 'FINAL' });
    await kit.enqueue(order);
    await sender.run();
    await kit.mine();
    expect(await kit.balance(address)).toBe(1n);
    expect(await codeOf(kit.enqueue({ ...order, value: 2n }))).toBe('CHAIN_PURPOSE_TAKEN');
    expect(await codeOf(kit.enqueue({ ...order, call: { ...order.call, data: '0x00' } }))).toBe(
      'CHAIN_PURPOSE_TAKEN',
    );
  });

  test('is not ordered when the transaction that decided it is rolled back', async () => {
    const order = { purpose: 'never', call: { to: kit.chain.account(0), data: '0x' } };
    const failing = kit.db.database.withSystemPg(async (client) => {
      await kit.outbox.enqueue(client, order);
      throw new Error('decided otherwise');
    });
    await expect(failing).rejects.toThrow('decided otherwise');
    expect(await kit.outbox.stateOf('never')).toBeNull();
  });

  test('is sent in the order in which it was ordered, with nonces that follow each other', async () => {
    const sender = kit.sender(await kit.account());
    const payees = [await kit.pay(), await kit.pay(), await kit.pay()];
    await sender.run();
    const states = await Promise.all(payees.map(({ purpose }) => kit.state(purpose)));
    expect(states.map(({ signed }) => signed?.nonce)).toEqual([0, 1, 2]);
    await kit.mine(3);
    await sender.run();
    expect(await Promise.all(payees.map(({ address }) => kit.balance(address)))).toEqual([1n, 1n, 1n]);
  });
});

describe('the chain', () => {
  test('takes a block back, and the transaction comes again, as the same bytes', async () => {
    const sender = kit.sender(await kit.account());
    const { purpose, address } = await kit.pay();
    await sender.run();
    await kit.mine();
    await sender.run();
    const before = await kit.state(purpose);
    expect(before.state).toBe('INCLUDED');

    await kit.chain.ask('anvil_reorg', 1, []);
    expect(await kit.balance(address)).toBe(0n);
    await sender.run();
    expect(await kit.state(purpose)).toMatchObject({
      state: 'SIGNED',
      included: null,
      hashes: before.hashes,
    });
    await kit.mine(3);
    await sender.run();
    const after = await kit.state(purpose);
    expect(after).toMatchObject({ state: 'FINAL', included: { hash: before.included?.hash } });
    expect(after.included?.block.hash).not.toBe(before.included?.block.hash);
    expect(await kit.balance(address)).toBe(1n);
  });

  test('is too expensive for a transaction, which is offered more at the same nonce', async () => {
    const sender = kit.sender(await kit.account());
    const { purpose, address } = await kit.pay();
    await sender.run();
    await kit.chain.ask('anvil_dropAllTransactions');
    kit.clock.advance(BUMP_MS - 1);
    await sender.run();
    expect((await kit.state(purpose)).hashes).toHaveLength(1);
    kit.clock.advance(1);
    await sender.run();
    const raised = await kit.state(purpose);
    expect(raised).toMatchObject({ state: 'SIGNED', signed: { nonce: 0 }, problem: null });
    expect(raised.hashes).toHaveLength(2);
    const fees = await kit.db.admin<{ readonly max: string; readonly tip: string }>(
      `SELECT max_fee_wei::text AS max, priority_fee_wei::text AS tip FROM chain_attempt WHERE hash = ANY ($1) ORDER BY number`,
      [raised.hashes],
    );
    const [first, second] = fees;
    expect(BigInt(second?.max ?? 0) * 1000n).toBeGreaterThanOrEqual(BigInt(first?.max ?? 0) * 1125n);
    expect(BigInt(second?.tip ?? 0) * 1000n).toBeGreaterThanOrEqual(BigInt(first?.tip ?? 0) * 1125n);
    // The first one is what a block has in the end, and counts.
    await kit.chain.ask('anvil_dropAllTransactions');
    const [cheap] = await kit.db.admin<{ readonly raw: string }>(
      `SELECT '0x' || encode(signed, 'hex') AS raw FROM chain_attempt WHERE hash = $1`,
      [raised.hashes[0]],
    );
    await kit.chain.ask('eth_sendRawTransaction', cheap?.raw);
    await kit.mine(3);
    await sender.run();
    expect(await kit.state(purpose)).toMatchObject({ state: 'FINAL', included: { hash: raised.hashes[0] } });
    expect(await kit.balance(address)).toBe(1n);
  });
});

test('what is final never changes, and states go the way that they may', async () => {
  const sender = kit.sender(await kit.account());
  const done = await kit.pay();
  await sender.run();
  await kit.mine(3);
  await sender.run();
  const waiting = await kit.pay();
  const refused = async (sql: string, purpose: string): Promise<string | null> => {
    try {
      await kit.db.admin(sql, [purpose]);
      return null;
    } catch (error) {
      return sqlState(error);
    }
  };
  const set = (change: string) => `UPDATE chain_transaction SET ${change} WHERE purpose = $1`;
  for (const change of ["state = 'INCLUDED'", "state = 'SIGNED'", "problem = 'x'", "purpose = 'other'"]) {
    expect(await refused(set(change), done.purpose), change).toBe('42501');
  }
  for (const change of ["state = 'SIGNED'", "state = 'FINAL'", 'value_wei = 2']) {
    expect(await refused(set(change), waiting.purpose), change).toBe('42501');
  }
  expect(await refused('DELETE FROM chain_transaction WHERE purpose = $1', done.purpose)).toBe('42501');
  // Two nonces for one purpose.
  expect(
    await refused(
      `INSERT INTO chain_nonce (chain_id, account, nonce, transaction_id, gas)
       SELECT t.chain_id, '${sender.account}', 77, t.id, 1 FROM chain_transaction t WHERE purpose = $1`,
      done.purpose,
    ),
  ).toBe('42501');
  await sender.run();
});

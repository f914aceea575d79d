import { Interface, type Provider } from 'ethers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { sqlState } from '../../../../src/db/errors.ts';
import { PatchbayError } from '../../../../src/kernel/errors.ts';
import type { ChainReader } from '../../../../src/payouts/chain/types.ts';
import { resultsFile } from '../../../unit/payouts/files.ts';
import { codeOf, newCurrency, UNIT } from '../kit.ts';
import { type ChainBase, fund, fundUntil, openChainBase, openWorld } from './kit.ts';

let base: ChainBase;
beforeAll(async () => {
  base = await openChainBase();
});
afterAll(() => base.db.dispose());

const TRANSFER = new Interface(['function transfer(address to, uint256 value) returns (bool)']);

test('a tree of somebody who has the publisher’s key is found, is told, and ends all payments', async () => {
  const world = await openWorld(base);
  const { chain, publisher } = base;
  const { site, kit } = world;
  const account = await world.wallet();
  const who = await world.beneficiary(account);
  await world.earn(who, 20n * UNIT);
  const batch = await world.pay();
  await world.send();
  await site.give(20_000_000n);
  await world.earn(who, 20n * UNIT);
  const draft = await kit.create(world.currency, null, 'CHAIN');
  await kit.payouts.batches.approve(kit.approver, draft.id);

  const thief = await world.wallet();
  const stolen = await site.tree([thief, 20_000_000n]);
  await chain.ask('anvil_impersonateAccount', publisher.address);
  await chain.send(publisher.address, site.distributor.publish(2n, stolen.root, stolen.total));
  await chain.ask('anvil_stopImpersonatingAccount', publisher.address);

  expect(await world.payouts.work()).toMatchObject({ trees: [], foreign: 2n });
  expect(await world.states(batch.id)).toEqual(['SENDING']);
  expect(await codeOf(kit.payouts.batches.submit(kit.drafter, draft.id))).toBe('PAYOUT_RAIL');
  // What was not handed over is free again; what is in a tree is not.
  expect((await kit.payouts.batches.cancel(kit.drafter, draft.id)).state).toBe('CANCELLED');
  expect(await codeOf(kit.payouts.batches.cancel(kit.drafter, batch.id))).toBe('PAYOUT_STATE');
  expect(await world.differences()).toEqual([`CHAIN_PUBLISHED null ${stolen.root}`]);
  const told = await base.db.admin(
    `SELECT payload ->> 'root' AS root FROM outbox_event WHERE kind = 'payout_tree.foreign'
     AND subject_id = (SELECT id FROM payout_distributor WHERE address = $1)`,
    [site.distributor.address],
  );
  expect(told).toEqual([{ root: stolen.root }]);
  // No further draft is approved, either.
  await world.earn(who, 20n * UNIT);
  const { id } = await kit.create(world.currency, null, 'CHAIN');
  expect(await codeOf(kit.payouts.batches.approve(kit.approver, id))).toBe('RECONCILIATION_FAILED');
});

test('a plain transfer is paid in too; a token that keeps a fee is not, and what it took from a claim is seen', async () => {
  const world = await openWorld(base);
  const { chain } = base;
  const { site } = world;
  const account = await world.wallet();
  await world.earn(await world.beneficiary(account), 20n * UNIT);
  const batch = await world.pay();
  await site.tokens.mint(base.publisher.address, 20_000_000n);
  await site.tokens.setFee(100n);
  const first = await fund(world, 1_000_000n, 'with a fee');
  // First the allowance, and when that is final the payment.
  const refused = await fundUntil(world, ({ problem }) => problem !== null, 1_000_000n, 'with a fee');
  expect(refused).toMatchObject({
    ...{ id: first.id, state: 'QUEUED', transaction: null },
    problem: expect.stringContaining('InexactTransfer'),
  });
  await site.tokens.setFee(0n);
  const paidIn = await fundUntil(world, ({ state }) => state === 'FINAL', 1_000_000n, 'with a fee');
  expect(paidIn).toMatchObject({ state: 'FINAL', problem: null });

  const stranger = chain.account(5);
  await site.tokens.mint(stranger, 30_000_000n);
  const data = TRANSFER.encodeFunctionData('transfer', [site.distributor.address, 30_000_000n]);
  await chain.send(stranger, { to: site.token.address, data });
  await world.settle();
  expect(await world.states(batch.id)).toEqual(['PAID']);
  expect(await codeOf(fund(world))).toBe('PAYOUT_FUNDED');
  expect(await world.differences()).toEqual([]);
  // The token's own account of things goes wrong: something leaves without a claim.
  await chain.ask('anvil_impersonateAccount', site.distributor.address);
  await chain.ask('anvil_setBalance', site.distributor.address, '0xde0b6b3a7640000');
  const away = TRANSFER.encodeFunctionData('transfer', [stranger, 7n]);
  await chain.send(site.distributor.address, { to: site.token.address, data: away });
  // It may be the node that has not told all; the second look, some time later, believes it.
  expect(await codeOf(world.payouts.work())).toBe('CHAIN_NODE_BEHIND');
  world.kit.clock.advance(16 * 60_000);
  await world.payouts.work();
  expect(await world.differences()).toEqual(['CHAIN_BALANCE 31000000 30999993']);
  await chain.ask('anvil_mine', '0x2');
  expect(await codeOf(world.payouts.work())).toBeNull();
});

test('what cannot be paid on a chain is refused in words', async () => {
  const world = await openWorld(base);
  const { kit, site } = world;
  const who = await world.beneficiary(await world.wallet());
  const bank = await kit.beneficiary(world.currency);
  const set = (accountReference: string) =>
    kit.payouts.destinations.set(who.principal, {
      ...{ idempotencyKey: accountReference, kind: 'CHAIN', accountName: 'A', accountReference },
    });
  expect(await codeOf(set(site.distributor.address))).toBe('BAD_INPUT');
  expect(await codeOf(set(site.token.address.toLowerCase()))).toBe('BAD_INPUT');
  await world.earn(who, 20n * UNIT);
  await world.earn(bank, 20n * UNIT);
  // Each rail pays those whom it reaches.
  const batch = await world.pay();
  const payouts = await kit.payoutsOf(batch.id);
  expect(payouts.map(({ tenantId }) => tenantId)).toEqual([who.tenantId]);
  const byFile = await kit.submitted(world.currency);
  expect((await kit.payoutsOf(byFile.id)).map(({ tenantId }) => tenantId)).toEqual([bank.tenantId]);
  const [payout] = payouts;
  const [other] = await kit.payoutsOf(byFile.id);
  if (payout === undefined || other === undefined) throw new Error('There are payouts.');
  // A bank knows nothing of it, and a tree is no payment of a bank.
  const said = (one: typeof payout, reference: string) =>
    kit.payouts.outcomes.importResults(
      kit.drafter,
      resultsFile([{ key: one.paymentKey, amount: one.amountNano, state: 'PAID', reference }]),
    );
  expect(await codeOf(said(payout, 'B'))).toBe('PAYOUT_STATE');
  expect(await codeOf(said(other, `1:0x${'ab'.repeat(32)}`))).toBe('PAYOUT_FILE');
  // Nor does the database believe that it is paid, or failed.
  const change = (state: string) =>
    base.db.database
      .querySystem(
        `UPDATE payout SET state = $2, bank_reference = $3, released_by = $4, release_requested_by = $4 WHERE id = $1`,
        [payout.id, state, `1:0x${'ab'.repeat(32)}`, kit.drafter.keyId],
      )
      .then(() => 'ok', sqlState);
  expect(await change('PAID')).toBe('42501');
  expect(await change('FAILED')).toBe('42501');
  // A distributor pays in one currency.
  const currency = newCurrency();
  const elsewhere = await kit.beneficiary(currency, { kind: 'CHAIN', reference: await world.wallet() });
  await kit.earn(elsewhere, currency, 20n * UNIT);
  kit.clock.advance(kit.options.holdbackMs + 1);
  expect(await codeOf(kit.create(currency, null, 'CHAIN'))).toBe('PAYOUT_RAIL');
  // So nothing is shown to be payable.
  expect(await kit.payouts.earnings.balances(elsewhere.principal, null)).toMatchObject([
    { currency, payable: 0n, carried: 20n * UNIT },
  ]);
});

test('a node that does not answer stops nothing but what needs it, and everything goes on afterwards', async () => {
  let down = false;
  const reader = (inner: ChainReader): ChainReader => ({
    account: inner.account,
    provider: async (): Promise<Provider> => {
      if (down) throw new PatchbayError('CHAIN_UNREACHABLE', 'no answer');
      return inner.provider();
    },
    finalBlock: async () => {
      if (down) throw new PatchbayError('CHAIN_UNREACHABLE', 'no answer');
      return inner.finalBlock();
    },
  });
  const world = await openWorld(base, { wrapReader: reader, blocksMax: 2 });
  const who = await world.beneficiary(await world.wallet());
  await world.earn(who, 20n * UNIT);
  down = true;
  const batch = await world.pay();
  expect(batch.state).toBe('SUBMITTED');
  expect(await codeOf(world.payouts.work())).toBe('CHAIN_UNREACHABLE');
  expect(await codeOf(fund(world))).toBe('CHAIN_UNREACHABLE');
  down = false;
  await world.site.give(20_000_000n);
  await base.chain.ask('anvil_mine', '0x9');
  await world.settle();
  expect(await world.states(batch.id)).toEqual(['PAID']);
  // Two processes that read the chain at once keep every event once.
  await base.chain.ask('anvil_mine', '0x9');
  await Promise.all([world.payouts.work(), world.another().work()]);
  expect(await world.differences()).toEqual([]);
});

test('a tree that the contract refused in a block is published again', async () => {
  const world = await openWorld(base, {
    wrapOutbox: (outbox) => ({
      enqueue: (client, order) => outbox.enqueue(client, order),
      // As if the gas had run out.
      statesOf: async (purposes) => {
        const states = new Map(await outbox.statesOf(purposes));
        for (const [purpose, status] of states) {
          if (/^publish:.*:1$/.test(purpose)) states.set(purpose, { ...status, state: 'REVERTED' });
        }
        return states;
      },
    }),
  });
  const who = await world.beneficiary(await world.wallet());
  await world.earn(who, 20n * UNIT);
  const batch = await world.pay();
  await world.site.give(20_000_000n);
  expect((await world.payouts.work()).republished).toEqual([1n]);
  expect((await world.payouts.work()).republished).toEqual([]);
  await world.settle();
  expect(await world.states(batch.id)).toEqual(['PAID']);
  const purposes = await base.db.admin<{ purpose: string }>(
    `SELECT purpose FROM chain_transaction WHERE purpose LIKE $1 ORDER BY purpose`,
    [`publish:%${world.site.distributor.address}%`],
  );
  expect(purposes.map(({ purpose }) => purpose.split(':').slice(3).join(':'))).toEqual(['1', '1:2']);
});

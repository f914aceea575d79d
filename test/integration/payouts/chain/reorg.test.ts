import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { codeOf, UNIT } from '../kit.ts';
import { type ChainBase, openChainBase, openWorld } from './kit.ts';

const DEPTH = 8;
const snapshot = z.string();

let base: ChainBase;
beforeAll(async () => {
  base = await openChainBase(DEPTH);
  await mine(DEPTH);
});
afterAll(() => base.db.dispose());

const mine = (blocks: number) => base.chain.ask('anvil_mine', `0x${blocks.toString(16)}`);

test('a distributor that is not final yet is waited for', async () => {
  const world = await openWorld(base, { isFinal: false });
  expect(await codeOf(world.payouts.work())).toBe('PAYOUT_RAIL');
  expect(await codeOf(world.payouts.rail.terms(world.currency))).toBe('PAYOUT_RAIL');
  await mine(DEPTH);
  await world.payouts.work();
  expect(await codeOf(world.payouts.rail.terms(world.currency))).toBeNull();
});

test('what is published and paid in counts when it is final; a chain that is rolled back before pays nobody twice or never', async () => {
  const world = await openWorld(base);
  const { site, kit } = world;
  const account = await world.wallet();
  const who = await world.beneficiary(account);
  await world.earn(who, 20n * UNIT);
  const before = snapshot.parse(await base.chain.ask('evm_snapshot'));
  const batch = await world.pay();
  await base.sender.run();
  await site.give(20_000_000n);
  await base.sender.run();
  // In a block, and not deep enough: whoever claims now may do so, and nothing is paid in the books.
  expect(await world.payouts.work()).toMatchObject({ trees: [] });
  expect(await world.states(batch.id)).toEqual(['SENDING']);
  const find = () => world.payouts.claims.find(who.principal, { tenantId: null, account: null });
  expect(await find()).toMatchObject({ sequence: 1n, cumulative: 20_000_000n });

  expect(await base.chain.ask('evm_revert', before)).toBe(true);
  expect(await site.distributor.sequence()).toBe(0n);
  await mine(DEPTH);
  await world.send();
  expect(await world.payouts.work()).toMatchObject({ trees: [] });
  expect(await world.states(batch.id)).toEqual(['SENDING']);

  // The same bytes again, and this time they stay.
  expect(await site.distributor.sequence()).toBe(1n);
  await mine(DEPTH);
  await world.send();
  expect(await world.payouts.work()).toMatchObject({ trees: [], missing: 20_000_000n });
  await site.give(20_000_000n);
  expect(await world.payouts.work()).toMatchObject({ trees: [], missing: 20_000_000n });
  await mine(DEPTH);
  expect(await world.payouts.work()).toMatchObject({ trees: [{ sequence: 1n, payouts: 1 }], missing: 0n });
  expect(await world.states(batch.id)).toEqual(['PAID']);
  expect(await kit.paidOut(world.currency)).toBe(20n * UNIT);
  expect(await world.differences()).toEqual([]);
  const claim = await find();
  if (claim === null) throw new Error('There is a claim.');
  await world.claim(claim);
  expect(await site.token.balanceOf(account)).toBe(20_000_000n);
});

test('a chain that goes back behind what was final is told, and nothing more is read from it', async () => {
  const world = await openWorld(base);
  const before = snapshot.parse(await base.chain.ask('evm_snapshot'));
  await mine(2 * DEPTH);
  await world.payouts.work();
  expect(await base.chain.ask('evm_revert', before)).toBe(true);
  // Other blocks than before: their times differ.
  await base.chain.ask('evm_increaseTime', 1_000);
  await mine(3 * DEPTH);
  expect(await codeOf(world.payouts.work())).toBe('CHAIN_FINALITY_BROKEN');
});

import { randomUUID } from 'node:crypto';
import { getAddress, type Provider } from 'ethers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Funding } from '../../../../src/payouts/chain/funding.ts';
import type { ChainReader, TransactionStatus } from '../../../../src/payouts/chain/types.ts';
import { payoutSite } from '../../../chain/payout-site.ts';
import { codeOf, newCurrency, UNIT } from '../kit.ts';
import { type ChainBase, type ChainWorld, fund, fundUntil, openChainBase, openWorld } from './kit.ts';

let base: ChainBase;
beforeAll(async () => {
  base = await openChainBase();
});
afterAll(() => base.db.dispose());

/** A draft in the currency that is approved. */
async function approved(world: ChainWorld, currency: string): Promise<string> {
  const { kit } = world;
  const who = await kit.beneficiary(currency, { kind: 'CHAIN', reference: await world.wallet() });
  await kit.earn(who, currency, 20n * UNIT);
  kit.clock.advance(kit.options.holdbackMs + 1);
  const { id } = await kit.create(currency, null, 'CHAIN');
  await kit.payouts.batches.approve(kit.approver, id);
  return id;
}

test('what the rail refuses is still approved, and what was begun and is in no tree can be cancelled', async () => {
  const world = await openWorld(base);
  const { kit } = world;
  const { batches } = kit.payouts;
  const first = await approved(world, world.currency);
  const refused = await approved(world, newCurrency());
  const begun = await approved(world, newCurrency());
  // As if it had been handed over at the same moment as the first.
  await base.db.database.withSystemPg(async (client) => {
    const at = new Date(kit.clock.nowMs());
    await client.query(`UPDATE payout_batch SET state = 'SUBMITTING', submitting_at = $2 WHERE id = $1`, [
      begun,
      at,
    ]);
    await client.query(`UPDATE payout SET state = 'SENDING', state_changed_at = $2 WHERE batch_id = $1`, [
      begun,
      at,
    ]);
  });
  await batches.submit(kit.drafter, first);
  expect(await codeOf(batches.submit(kit.drafter, refused))).toBe('PAYOUT_RAIL');
  expect(await world.states(refused)).toEqual(['PENDING']);
  expect(await codeOf(batches.submit(kit.drafter, begun))).toBe('PAYOUT_RAIL');
  expect((await batches.resume()).failed.map(({ batchId }) => batchId)).toEqual([begun]);
  for (const id of [refused, begun]) {
    expect((await batches.cancel(kit.drafter, id)).state).toBe('CANCELLED');
    expect(await world.states(id)).toEqual(['CANCELLED']);
  }
  expect(await codeOf(batches.cancel(kit.drafter, first))).toBe('PAYOUT_STATE');
  // Nor does the database let go of what is in a tree, or make a tree of what was let go.
  const cancel = base.db.database.querySystem(
    `UPDATE payout_batch SET state = 'CANCELLED', submitting_at = NULL, closed_at = now() WHERE id = $1`,
    [first],
  );
  await expect(cancel).rejects.toMatchObject({ code: '42501' });
  const [payout] = await kit.payoutsOf(begun);
  if (payout === undefined) throw new Error('There is a payout.');
  const { paymentKey: key, tenantId: beneficiary, amountNano: amount, destination } = payout;
  const { accountName, accountReference } = destination;
  const late = world.payouts.rail.submit({
    ...{ batchId: begun, currency: world.currency },
    payments: [{ key, beneficiary, accountName, accountReference, amount }],
  });
  await expect(late).rejects.toMatchObject({ constraint: 'payout_tree_of_cancelled' });
});

test('events that a node which lags leaves out are not lost', async () => {
  let lags = false;
  const lagging = (provider: Provider): Provider =>
    new Proxy(provider, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        if (name === 'getLogs' && lags) return async () => [];
        return value.bind(target);
      },
    });
  const world = await openWorld(base, {
    wrapReader: (inner: ChainReader): ChainReader => ({
      account: inner.account,
      provider: async () => lagging(await inner.provider()),
      finalBlock: () => inner.finalBlock(),
    }),
  });
  const who = await world.beneficiary(await world.wallet());
  await world.earn(who, 20n * UNIT);
  const batch = await world.pay();
  const eachIsTold = async () => {
    lags = true;
    expect(await codeOf(world.payouts.work())).toBe('CHAIN_NODE_BEHIND');
    lags = false;
    await world.payouts.work();
  };
  await world.send();
  await eachIsTold();
  await world.site.give(20_000_000n);
  await eachIsTold();
  expect(await world.states(batch.id)).toEqual(['PAID']);
  const claim = await world.payouts.claims.find(who.principal, { tenantId: null, account: null });
  if (claim === null) throw new Error('There is a claim.');
  await world.claim(claim);
  await eachIsTold();
  expect(await world.differences()).toEqual([]);
});

test('a funding whose allowance was refused is never paid in, whatever is allowed later', async () => {
  let refused: string | null = null;
  const world = await openWorld(base, {
    wrapOutbox: (outbox) => ({
      enqueue: (client, order) => outbox.enqueue(client, order),
      statesOf: async (purposes) => {
        const states = new Map<string, TransactionStatus>(await outbox.statesOf(purposes));
        const status = states.get(`fund:${refused}:approve:1`);
        if (status !== undefined) states.set(`fund:${refused}:approve:1`, { ...status, state: 'REVERTED' });
        return states;
      },
    }),
  });
  await world.site.tokens.mint(base.publisher.address, 50n);
  const [key, other] = [randomUUID(), randomUUID()];
  const first = await fund(world, 10n, key);
  refused = first.id;
  // Its allowance comes to be there all the same: this is what a later one would give.
  const isEnd = ({ state }: Funding): boolean => state === 'REVERTED' || state === 'FINAL';
  while ((await world.site.token.allowance(base.publisher.address, world.site.distributor.address)) === 0n) {
    await world.send();
  }
  expect(await fundUntil(world, isEnd, 10n, key)).toMatchObject({ id: first.id, state: 'REVERTED' });
  const second = await fund(world, 10n, other);
  expect(await fundUntil(world, isEnd, 10n, other)).toMatchObject({
    ...{ id: second.id, state: 'FINAL', problem: null },
  });
  expect(await world.site.token.balanceOf(world.site.distributor.address)).toBe(10n);
  const purposes = await base.db.admin<{ purpose: string }>(
    `SELECT purpose FROM chain_transaction WHERE purpose LIKE 'fund:%' ORDER BY position`,
  );
  expect(purposes.map(({ purpose }) => purpose)).toEqual([
    `fund:${first.id}:approve:1`,
    `fund:${second.id}:clear:1`,
    `fund:${second.id}:approve:1`,
    `fund:${second.id}`,
  ]);
});

test('a distributor that was replaced is still followed, settled and claimed from', async () => {
  const world = await openWorld(base);
  const { chain, publisher } = base;
  const who = await world.beneficiary(await world.wallet());
  await world.earn(who, 20n * UNIT);
  const batch = await world.pay();
  await world.send();
  const owner = chain.account(0);
  const people = { owner, publisher: publisher.address, pauser: owner, funder: chain.account(1) };
  const site = await payoutSite(chain, people);
  const place = {
    distributor: getAddress(site.distributor.address),
    token: getAddress(site.token.address),
  };
  const later = world.another({}, place);
  const own = async () => {
    const { earlier } = await later.work();
    return earlier.find(({ distributor }) => distributor === world.site.distributor.address);
  };
  expect(await own()).toMatchObject({ worked: { trees: [], missing: 20_000_000n } });
  await world.site.give(20_000_000n);
  expect(await own()).toMatchObject({ worked: { trees: [{ sequence: 1n, payouts: 1 }] } });
  expect(await world.states(batch.id)).toEqual(['PAID']);
  const wanted = { tenantId: null, account: null };
  expect(await later.claims.find(who.principal, wanted)).toMatchObject({
    ...{ distributor: world.site.distributor.address, cumulative: 20_000_000n, otherDistributors: [] },
  });
  const elsewhere = { ...wanted, distributor: place.distributor };
  expect(await later.claims.find(who.principal, elsewhere)).toBeNull();
});

test('what is wrong with many trees of one distributor hides nothing of another, and stops no other', async () => {
  const [robbed, touched, sound] = [await openWorld(base), await openWorld(base), await openWorld(base)];
  const foreign = (world: ChainWorld, many: number) =>
    base.db.admin(
      `INSERT INTO payout_chain_event (distributor_id, block_number, log_index, block_hash, transaction_hash, kind, sequence,
         root, units, seen_at)
       SELECT d.id, 1, n, sha256('a'), sha256('b'), 'PUBLISHED', n, sha256('c'), 1, now()
       FROM payout_distributor d, generate_series(1, $2::integer) n WHERE d.address = $1`,
      [world.site.distributor.address, many],
    );
  await foreign(robbed, 1_001);
  await foreign(touched, 1);
  expect(await codeOf(approved(touched, touched.currency))).toBe('RECONCILIATION_FAILED');
  expect(await codeOf(approved(sound, sound.currency))).toBeNull();
});

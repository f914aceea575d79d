import { afterAll, beforeAll, expect, test } from 'vitest';
import { verifyClaim } from '../../../../src/chain/payout-tree.ts';
import { verifyLedger } from '../../../../src/ledger/verify.ts';
import type { PayoutClaim } from '../../../../src/payouts/chain/claims.ts';
import { codeOf, UNIT } from '../kit.ts';
import { type ChainBase, type ChainWorld, fund, fundUntil, openChainBase, openWorld } from './kit.ts';

let base: ChainBase;
beforeAll(async () => {
  base = await openChainBase();
});
afterAll(() => base.db.dispose());

async function claimFor(
  world: ChainWorld,
  tenantId: string,
  account: string | null = null,
): Promise<PayoutClaim> {
  const claim = await world.payouts.claims.find(world.kit.drafter, { tenantId, account });
  if (claim === null) throw new Error('There is a claim.');
  return claim;
}

const trees = async (world: ChainWorld) =>
  (await world.payouts.trees.list(world.kit.drafter, { first: 100, after: null })).items.filter(
    ({ distributor }) => distributor === world.site.distributor.address,
  );

test('a batch is published, paid in, paid, claimed and reconciled, and the next carries what was rounded away', async () => {
  const world = await openWorld(base);
  const { site, kit } = world;
  const [a, b] = [await world.wallet(), await world.wallet()];
  const [ada, ben] = [await world.beneficiary(a), await world.beneficiary(b)];
  // Of a token with six decimals, 1,000 nano-units are the least.
  await world.earn(ada, 20n * UNIT + 1_600n);
  await world.earn(ben, 30n * UNIT + 999n);
  const batch = await world.pay();
  expect(batch).toMatchObject({ state: 'SUBMITTED', rail: 'CHAIN', totalNano: 50n * UNIT + 2_599n });
  expect(batch.railReference).toBe(`31337:${site.distributor.address}:1`);
  expect(await world.states(batch.id)).toEqual(['SENDING', 'SENDING']);
  expect(await world.payouts.claims.find(ada.principal, { tenantId: null, account: null })).toBeNull();

  // Published and not paid in: the beneficiaries are not paid yet.
  await world.send();
  expect(await world.payouts.work()).toMatchObject({ trees: [], missing: 50_000_001n, foreign: null });
  expect(await world.states(batch.id)).toEqual(['SENDING', 'SENDING']);
  expect(await trees(world)).toMatchObject([
    { sequence: 1n, state: 'FINAL', total: 50_000_001n, accounts: 2 },
  ]);

  expect(await codeOf(fund(world))).toBe('PAYOUT_TOKENS_MISSING');
  await site.tokens.mint(base.publisher.address, 60_000_000n);
  const key = 'first';
  const funding = await fund(world, null, key);
  expect(funding).toMatchObject({ units: 50_000_001n, state: 'QUEUED', problem: null });
  expect(await codeOf(fund(world))).toBe('PAYOUT_FUNDING_OPEN');
  const paidIn = await fundUntil(world, ({ state }) => state === 'FINAL', null, key);
  expect(paidIn).toMatchObject({ id: funding.id, state: 'FINAL', units: 50_000_001n });
  expect(await codeOf(fund(world))).toBe('PAYOUT_FUNDED');
  expect(await world.payouts.work()).toMatchObject({ trees: [{ sequence: 1n, payouts: 2 }], missing: 0n });

  const [tree] = await trees(world);
  expect(tree).toMatchObject({ state: 'SETTLED', problem: null });
  const paid = await kit.payoutsOf(batch.id);
  expect(paid.map(({ state, bankReference }) => [state, bankReference])).toEqual(
    paid.map(() => ['PAID', `1:${tree?.transaction}`]),
  );
  expect((await kit.payouts.batches.get(kit.drafter, batch.id))?.state).toBe('SETTLED');
  expect(await kit.paidOut(world.currency)).toBe(50n * UNIT + 2_599n);
  expect((await kit.balance(ada)).posted).toBe(0n);

  const claim = await claimFor(world, ada.tenantId);
  expect(claim).toMatchObject({ account: a, cumulative: 20_000_001n, restNano: 600n, document: null });
  expect(verifyClaim(site.scope, claim.root, claim)).toBe(true);
  await world.claim(claim);
  expect(await site.token.balanceOf(a)).toBe(20_000_001n);
  await world.payouts.work();
  expect(await world.differences()).toEqual([]);

  // The rest of 600 and 999 nano-units is part of what comes next.
  await world.earn(ada, 10n * UNIT + 400n);
  await world.earn(ben, 10n * UNIT + 2n);
  const second = await world.pay();
  await site.give(20_000_002n);
  await world.settle();
  expect(await world.states(second.id)).toEqual(['PAID', 'PAID']);
  const [mine, other] = [await claimFor(world, ada.tenantId), await claimFor(world, ben.tenantId)];
  expect(mine).toMatchObject({ sequence: 2n, cumulative: 30_000_002n, restNano: 0n });
  expect(mine.payouts.map(({ amountNano }) => amountNano)).toEqual([20n * UNIT + 1_600n, 10n * UNIT + 400n]);
  expect(other).toMatchObject({ sequence: 2n, cumulative: 40_000_001n, restNano: 1n });
  await world.claim(mine);
  await world.claim(other);
  expect(await site.token.balanceOf(a)).toBe(30_000_002n);
  expect(await site.token.balanceOf(b)).toBe(40_000_001n);
  await world.payouts.work();
  expect(await world.differences()).toEqual([]);
  await kit.sealer.run();
  expect((await verifyLedger(base.db.database)).problems).toEqual([]);
});

test('two beneficiaries share a wallet, and one who changes the wallet has a claim for each', async () => {
  const world = await openWorld(base);
  const { kit, site } = world;
  const [shared, later] = [await world.wallet(), await world.wallet()];
  const [one, two] = [await world.beneficiary(shared), await world.beneficiary(shared)];
  // Each is rounded down by itself.
  await world.earn(one, 10n * UNIT + 700n);
  await world.earn(two, 10n * UNIT + 700n);
  await world.pay();
  await world.kit.payouts.destinations.set(one.principal, {
    ...{ idempotencyKey: 'moved', kind: 'CHAIN', accountName: 'One', accountReference: later.toLowerCase() },
  });
  kit.clock.advance(kit.options.destinationDelayMs + 1);
  await world.earn(one, 15n * UNIT + 300n);
  await world.pay();
  await site.give(40_000_000n);
  await world.settle();
  const claims = await Promise.all([
    claimFor(world, one.tenantId),
    claimFor(world, one.tenantId, shared),
    claimFor(world, two.tenantId),
  ]);
  expect(claims.map(({ account, cumulative, restNano }) => [account, cumulative, restNano])).toEqual([
    [later, 15_000_000n, 300n],
    [shared, 20_000_000n, 700n],
    [shared, 20_000_000n, 700n],
  ]);
  expect(claims[0]?.otherAccounts).toEqual([shared]);
  expect(claims[1]?.payouts).toHaveLength(1);
  for (const claim of claims.slice(0, 2)) await world.claim(claim);
  expect(await site.token.balanceOf(shared)).toBe(20_000_000n);
  expect(await site.token.balanceOf(later)).toBe(15_000_000n);
  await world.payouts.work();
  expect(await world.differences()).toEqual([]);
  // Tokens of somebody else count as paid in; they are more than is owed.
  expect(await codeOf(fund(world))).toBe('PAYOUT_FUNDED');
});

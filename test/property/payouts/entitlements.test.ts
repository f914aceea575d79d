import { getAddress, toBeHex } from 'ethers';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PayoutTree } from '../../../src/chain/payout-tree.ts';
import { toTokenUnits } from '../../../src/chain/token-units.ts';
import { entitlementsOf, leastNano, type PaidForAccount } from '../../../src/payouts/chain/entitlements.ts';

const SEED = Number(process.env['PATCHBAY_TEST_SEED'] ?? 20_261_129);
const address = (n: number): string => getAddress(toBeHex(n + 1, 20));
const SCOPE = { chainId: 31_337n, distributor: address(14), token: address(13) };

/** Some beneficiaries share accounts, and some are paid to several. */
const payment: fc.Arbitrary<PaidForAccount> = fc.record({
  beneficiary: fc.constantFrom('a', 'b', 'c'),
  account: fc.integer({ min: 0, max: 3 }).map(address),
  amountNano: fc.oneof(fc.bigInt(1n, 5_000n), fc.bigInt(1n, 10n ** 18n)),
});
const batches = fc.array(fc.array(payment, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 6 });
const decimals = fc.constantFrom(0, 2, 6, 9, 18);

/** What each beneficiary was paid for each account, by another way than the code under test. */
function sums(paid: readonly PaidForAccount[]): readonly PaidForAccount[] {
  const keys = [...new Set(paid.map(({ beneficiary, account }) => `${beneficiary} ${account}`))];
  return keys.map((key) => {
    const own = paid.filter(({ beneficiary, account }) => `${beneficiary} ${account}` === key);
    const amountNano = own.reduce((sum, one) => sum + one.amountNano, 0n);
    const [beneficiary = '', account = ''] = key.split(' ');
    return { beneficiary, account, amountNano };
  });
}

test(`whatever is paid in whatever batches, all claims together pay every nano-unit once, but for what the token cannot express (seed ${SEED})`, async () => {
  await fc.assert(
    fc.asyncProperty(batches, decimals, async (drawn, places) => {
      const paid: PaidForAccount[] = [];
      const claimed = new Map<string, bigint>();
      let before: PayoutTree | null = null;
      for (const batch of drawn) {
        paid.push(...batch);
        const entitlements = entitlementsOf(paid, places);
        if (entitlements.length === 0) continue;
        const tree: PayoutTree = await PayoutTree.build(SCOPE, entitlements);
        expect(before === null ? [] : tree.belowEarlier(before)).toEqual([]);
        before = tree;
        // Only some claim each time; what they leave is in the next tree.
        for (const { account, cumulative } of entitlements.slice(1)) claimed.set(account, cumulative);
      }
      const last = entitlementsOf(paid, places);
      for (const { account, cumulative } of last) {
        expect((claimed.get(account) ?? 0n) <= cumulative).toBe(true);
        claimed.set(account, cumulative);
      }
      // In nano-units, so far as both can be compared: floor and rest of each beneficiary make up its sum.
      const unit = leastNano(places);
      const expected = new Map<string, bigint>();
      for (const { account, amountNano } of sums(paid)) {
        const { units, restNano } = toTokenUnits(amountNano, places);
        expect(restNano < unit && (places >= 9 || units * unit + restNano === amountNano)).toBe(true);
        expected.set(account, (expected.get(account) ?? 0n) + units);
      }
      for (const [account, units] of expected) expect(claimed.get(account) ?? 0n).toBe(units);
      expect([...claimed.keys()].every((account) => expected.has(account))).toBe(true);
    }),
    { seed: SEED, numRuns: 100 },
  );
});

test('one batch after the other, nobody is rounded twice', () => {
  const thirds = Array.from({ length: 3 }, () => ({
    ...{ beneficiary: 'a', account: address(0), amountNano: 333_334n },
  }));
  expect(thirds.map((_, i) => entitlementsOf(thirds.slice(0, i + 1), 3))).toEqual([
    [],
    [],
    [{ account: address(0), cumulative: 1n }],
  ]);
});

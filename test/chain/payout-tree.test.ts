import { StandardMerkleTree } from '@openzeppelin/merkle-tree';
import { concat, getAddress, keccak256, toBeHex, ZeroAddress, zeroPadValue } from 'ethers';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PayoutTree, payoutLeaf, verifyClaim } from '../../src/chain/payout-tree.ts';
import { toTokenUnits } from '../../src/chain/token-units.ts';

const SEED = Number(process.env['PATCHBAY_TEST_SEED'] ?? 20_261_129);

const scope = {
  chainId: 31_337n,
  distributor: '0x5FbDB2315678afecb367f032d93F642f64180aa3',
  token: '0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512',
};

function account(number: number): string {
  return getAddress(zeroPadValue(toBeHex(number), 20));
}

function entitled(...amounts: readonly bigint[]) {
  return amounts.map((cumulative, index) => ({ account: account(index + 1), cumulative }));
}

test('a leaf is the hash of the hash of five words', () => {
  const alice = '0x70997970C51812dc3A010C7d01b50e0d17dc79C8';
  const words = [
    '0000000000000000000000000000000000000000000000000000000000007a69',
    '0000000000000000000000005fbdb2315678afecb367f032d93f642f64180aa3',
    '000000000000000000000000e7f1725e7734ce288f8367e1bb143e90bb3f0512',
    '00000000000000000000000070997970c51812dc3a010c7d01b50e0d17dc79c8',
    '00000000000000000000000000000000000000000000000000000000000f4240',
  ];
  const expected = keccak256(keccak256(`0x${words.join('')}`));
  expect(payoutLeaf(scope, { account: alice, cumulative: 1_000_000n })).toBe(expected);
  // The example of docs/reference/contracts.md.
  expect(expected).toBe('0xe1cb7ed3cac1dd251d8358c20ae557611ffb21240f20598ee6fa457fd7ab5889');
});

test('a tree of one is its leaf, and a tree of two hashes them in sorted order', async () => {
  const one = await PayoutTree.build(scope, entitled(5n));
  expect(one.root).toBe(payoutLeaf(scope, { account: account(1), cumulative: 5n }));
  expect(one.claimOf(account(1))).toEqual({ account: account(1), cumulative: 5n, proof: [] });
  const two = await PayoutTree.build(scope, entitled(5n, 6n));
  const leaves = entitled(5n, 6n).map((each) => payoutLeaf(scope, each));
  expect(two.root).toBe(keccak256(concat(leaves.sort())));
});

test(`trees and proofs are those of OpenZeppelin's library (seed ${SEED})`, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 1_000 }), fc.bigInt(1n, 2n ** 256n - 1n)), {
        selector: ([number]) => number,
        minLength: 1,
        maxLength: 17,
      }),
      async (drawn) => {
        const entitlements = drawn.map(([number, cumulative]) => ({ account: account(number), cumulative }));
        const tree = await PayoutTree.build(scope, entitlements);
        const oracle = StandardMerkleTree.of(
          entitlements.map((each) => [
            scope.chainId,
            scope.distributor,
            scope.token,
            each.account,
            each.cumulative,
          ]),
          ['uint256', 'address', 'address', 'address', 'uint256'],
        );
        expect(tree.root).toBe(oracle.root);
        expect(tree.total).toBe(entitlements.reduce((sum, { cumulative }) => sum + cumulative, 0n));
        entitlements.forEach((each, index) => {
          const claim = tree.claimOf(each.account.toLowerCase());
          expect(claim).toEqual({ ...each, proof: oracle.getProof(index) });
          if (claim === null) return;
          expect(verifyClaim(scope, tree.root, claim)).toBe(true);
          expect(verifyClaim(scope, tree.root, { ...claim, cumulative: claim.cumulative - 1n })).toBe(false);
          expect(verifyClaim({ ...scope, chainId: 1n }, tree.root, claim)).toBe(false);
          const damaged = [...claim.proof, '0x00'];
          expect(verifyClaim(scope, tree.root, { ...claim, proof: damaged })).toBe(false);
        });
      },
    ),
    { seed: SEED, numRuns: 20 },
  );
});

test('the order in which entitlements come does not matter', async () => {
  const forth = entitled(1n, 2n, 3n, 4n, 5n, 6n, 7n);
  const back = await PayoutTree.build(scope, [...forth].reverse());
  expect(back.root).toBe((await PayoutTree.build(scope, forth)).root);
});

test('entitlements of one wallet are added up, and those of nothing are left out', async () => {
  const tree = await PayoutTree.build(scope, [
    ...entitled(5n, 0n, 7n),
    { account: account(1).toLowerCase(), cumulative: 6n },
  ]);
  expect(tree.claimOf(account(1))?.cumulative).toBe(11n);
  expect(tree.claimOf(account(2))).toBeNull();
  expect(tree.total).toBe(18n);
  const same = await PayoutTree.build(scope, [
    { account: account(3), cumulative: 7n },
    { account: account(1), cumulative: 11n },
  ]);
  expect(tree.root).toBe(same.root);
});

test('accounts with less than in an earlier tree are found, those who left it too', async () => {
  const earlier = await PayoutTree.build(scope, entitled(5n, 6n, 7n));
  const higher = await PayoutTree.build(scope, entitled(5n, 7n, 7n, 1n));
  expect(higher.belowEarlier(earlier)).toEqual([]);
  const lower = await PayoutTree.build(scope, entitled(4n, 6n));
  expect(new Set(lower.belowEarlier(earlier))).toEqual(new Set([account(1), account(3)]));
});

test.each([
  ['nobody', []],
  ['nobody who has earned something', entitled(0n)],
  ['the zero address', [{ account: ZeroAddress, cumulative: 1n }]],
  ['a negative amount', entitled(-1n)],
  ['an amount beyond 256 bits', entitled(2n ** 256n)],
  ['amounts of one wallet beyond 256 bits', [...entitled(2n ** 255n), ...entitled(2n ** 255n)]],
])('a tree of %s is refused', async (_, entitlements) => {
  await expect(PayoutTree.build(scope, entitlements)).rejects.toThrow(RangeError);
});

test('an address whose checksum is wrong is refused', async () => {
  const slip = '0x70997970C51812dc3A010C7d01b50e0d17dc79c8';
  await expect(PayoutTree.build(scope, [{ account: slip, cumulative: 1n }])).rejects.toThrow('checksum');
});

test.each([
  [1_234_567_891n, 9, 1_234_567_891n, 0n],
  [1_234_567_891n, 6, 1_234_567n, 891n],
  [1_234_567_891n, 0, 1n, 234_567_891n],
  [1_234_567_891n, 2, 123n, 4_567_891n],
  [1_234_567_891n, 18, 1_234_567_891_000_000_000n, 0n],
  [999n, 6, 0n, 999n],
  [0n, 6, 0n, 0n],
])('%d nano-units in %d decimals are %d and a rest of %d', (nano, decimals, units, restNano) => {
  expect(toTokenUnits(nano, decimals)).toEqual({ units, restNano });
});

test('an amount below zero and decimals that no token has are refused', () => {
  expect(() => toTokenUnits(-1n, 6)).toThrow(RangeError);
  for (const decimals of [-1, 1.5, 256]) expect(() => toTokenUnits(1n, decimals)).toThrow(RangeError);
});

test(`what is rounded away in one payout is in the next: all payouts together miss less than one unit (seed ${SEED})`, () => {
  fc.assert(
    fc.property(
      fc.array(fc.bigInt(0n, 10n ** 12n), { minLength: 1, maxLength: 20 }),
      fc.nat(18),
      (earned, decimals) => {
        let total = 0n;
        let paid = 0n;
        for (const nano of earned) {
          total += nano;
          const { units, restNano } = toTokenUnits(total, decimals);
          expect(units >= paid).toBe(true);
          paid = units;
          const unitNano = decimals >= 9 ? 1n : 10n ** BigInt(9 - decimals);
          expect(restNano < unitNano).toBe(true);
          const paidNano = decimals >= 9 ? paid / 10n ** BigInt(decimals - 9) : paid * unitNano;
          expect(paidNano + restNano).toBe(total);
        }
      },
    ),
    { seed: SEED, numRuns: 100 },
  );
});

import { at } from '../unit/verifier/vectors.ts';
import { WALLET } from './books.ts';
import type { Fraud } from './detector.ts';
import { amount, chainWith, closed, earnedBy, ofTenant, ofVersion, paid } from './lies.ts';
import { type Issued, OWNER, PARTNER } from './operator.ts';
import { recharged, Scenario } from './scenario.ts';

/** Amounts that are too high or too low, and money that goes elsewhere. */
export const MONEY_FRAUDS: readonly Fraud[] = [
  {
    name: 'a request is charged more than its price gives',
    plant: async () => {
      const lie: (facts: Issued['facts'], place: number) => Issued['facts'] = (facts, place) =>
        place === 2 ? recharged(facts, ({ output }) => ({ output: output + 1n })) : facts;
      return { documents: await (await Scenario.play({ lie })).tenant() };
    },
    code: 'RECEIPT_FALSE',
    convinces: 'anyone',
    evidence: ['receipt-2'],
    needs: ['receipt-2'],
  },
  {
    name: 'a tenant is charged more than its receipts say',
    plant: async () => {
      const lie = ofTenant((account) => [amount(account, (sum) => sum + 1n)]);
      const scenario = await Scenario.play({ closings: { 1: () => ({ account: lie }) } });
      return { documents: await scenario.tenant() };
    },
    code: 'OVERCHARGED',
    convinces: 'anyone',
    evidence: ['statement-1', 'epoch-1', 'receipt-0', 'receipt-2'],
    needs: ['statement-1', 'receipt-0', 'receipt-2'],
  },
  {
    name: 'an owner earns less than the receipts say',
    plant: async () => {
      const lie = ofVersion((account) => {
        const royalties = JSON.parse(JSON.stringify(account['royalties']));
        const [mine] = royalties[0].earned;
        mine.amount = String(BigInt(mine.amount) - 1_000n);
        royalties[0].fee = String(BigInt(royalties[0].fee) + 1_000n);
        return [{ ...account, royalties }];
      });
      const scenario = await Scenario.play({ closings: { 1: () => ({ account: lie }) } });
      return { documents: await scenario.owner() };
    },
    code: 'UNDERPAID',
    convinces: 'anyone',
    evidence: ['statement-1', 'epoch-1', 'receipt-0', 'receipt-1', 'receipt-2', 'receipt-3'],
    needs: ['statement-1', 'receipt'],
  },
  {
    name: 'the fee of a receipt is too high',
    plant: async () => {
      const lie: (facts: Issued['facts'], place: number) => Issued['facts'] = (facts, place) =>
        place === 1 ? recharged(facts, ({ fee }) => ({ fee: fee + 1n })) : facts;
      return { documents: await (await Scenario.play({ lie })).owner() };
    },
    code: 'RECEIPT_FALSE',
    convinces: 'anyone',
    evidence: ['receipt-1'],
    needs: ['receipt-1'],
  },
  {
    name: 'a claim pays less than was earned',
    plant: async () => {
      const scenario = await Scenario.play();
      const claim = await scenario.books.claim({ payouts: paid(earnedBy(scenario, OWNER) - 5_000n) });
      return { documents: { ...(await scenario.owner()), claim } };
    },
    code: 'CLAIM_UNDERPAID',
    convinces: 'holder',
    evidence: ['claim', 'receipt-0', 'receipt-6'],
    needs: ['claim', 'receipt-6'],
  },
  {
    name: 'a claim can be drawn for less than its own payouts',
    plant: async () => {
      const scenario = await Scenario.play();
      const payouts = paid(earnedBy(scenario, OWNER));
      const claim = await scenario.books.claim({
        payouts,
        cumulative: earnedBy(scenario, OWNER) / 1_000n - 1n,
      });
      return { documents: { ...(await scenario.owner()), claim } };
    },
    code: 'CLAIM_FALSE',
    convinces: 'anyone',
    evidence: ['claim'],
    needs: ['claim'],
  },
  {
    name: 'a later claim takes back what an earlier one had',
    plant: async () => {
      const scenario = await Scenario.play();
      const sum = earnedBy(scenario, OWNER);
      const earlier = await scenario.books.claim({ payouts: paid(sum + 9_000n) });
      const claim = await scenario.books.claim({ sequence: 2, payouts: paid(sum) });
      return { documents: { ...(await scenario.owner()), earlier, claim } };
    },
    code: 'CLAIM_FELL',
    convinces: 'anyone',
    evidence: ['earlier', 'claim'],
    needs: ['earlier', 'claim'],
  },
  {
    name: 'two claims of one tree say different things',
    plant: async () => {
      const scenario = await Scenario.play();
      const sum = earnedBy(scenario, OWNER);
      const claim = await scenario.books.claim({ payouts: paid(sum) });
      const other = await scenario.books.claim({ payouts: paid(sum + 4_000n) });
      return { documents: { ...(await scenario.owner()), claim, other } };
    },
    code: 'CLAIMS_CONTRADICT',
    convinces: 'anyone',
    evidence: ['claim', 'other'],
    needs: ['claim', 'other'],
  },
  {
    name: 'another account is paid',
    plant: async () => {
      const scenario = await Scenario.play();
      const payouts = paid(earnedBy(scenario, OWNER));
      const claim = await scenario.books.claim({ payouts, account: `0x${'ee'.repeat(20)}` });
      return { documents: { ...(await scenario.owner()), claim }, account: WALLET };
    },
    code: 'ACCOUNT_UNEXPECTED',
    convinces: 'holder',
    evidence: ['claim'],
    needs: ['claim', 'account'],
  },
  {
    name: 'the tree on the chain is not the one of the claim',
    plant: async () => {
      const scenario = await Scenario.play();
      const claim = await scenario.books.claim({ payouts: paid(earnedBy(scenario, OWNER)) });
      const chain = chainWith({
        ...{ isAnchored: true, sequence: 1n, root: `0x${'12'.repeat(32)}`, claimed: 0n },
        token: `0x${'70'.repeat(20)}`,
      });
      return { documents: { ...(await scenario.owner()), claim }, chain };
    },
    code: 'CLAIM_NOT_PUBLISHED',
    convinces: 'anyone',
    evidence: ['claim'],
    needs: ['claim', 'chain'],
  },
  {
    name: 'an owner earns nothing, and a receipt does not open its fee',
    plant: async () => {
      const lie = ofVersion((account) => {
        const royalties = JSON.parse(JSON.stringify(account['royalties']));
        const [given] = royalties;
        const amount = String(BigInt(given.royalty) - BigInt(given.fee));
        given.earned = [{ tenant: PARTNER, amount }];
        return [{ ...account, royalties }];
      });
      const scenario = await Scenario.play({ closings: { 1: () => ({ account: lie }) } });
      const documents = await scenario.owner();
      return { documents: { ...documents, 'receipt-0': closed(documents['receipt-0'], 'part.0.fee') } };
    },
    code: 'UNDERPAID',
    convinces: 'anyone',
    evidence: ['statement-1', 'epoch-1', 'receipt-1'],
    needs: ['statement-1', 'receipt'],
  },
  {
    name: "a tenant is charged more in an epoch that releases somebody else's request",
    plant: async () => {
      const lie = ofTenant((account) => [amount(account, (sum) => sum + 1n)]);
      const scenario = await Scenario.play({
        closings: {
          1: (entries) => ({
            quarantined: entries.slice(1, 2).map((entry) => ({ entry, reason: 'ENGINE_DIFFERS' })),
          }),
          2: (entries) => ({
            released: entries.slice(1, 2).map((entry) => ({ entry, epoch: 1 })),
            account: lie,
          }),
        },
      });
      return { documents: await scenario.tenant(), epoch: 2 };
    },
    code: 'OVERCHARGED',
    convinces: 'anyone',
    evidence: ['statement-2', 'epoch-2', 'receipt-4'],
    needs: ['statement-2', 'receipt-4'],
  },
  {
    name: 'a claim counts with fewer decimals than the token has',
    plant: async () => {
      const scenario = await Scenario.play();
      const claim = await scenario.books.claim({ payouts: paid(earnedBy(scenario, OWNER)), decimals: 5 });
      const chain = chainWith({
        ...{ isAnchored: true, sequence: 1n, root: at(claim, 'claim', 'root'), claimed: 0n, decimals: 6n },
        token: `0x${'70'.repeat(20)}`,
      });
      return { documents: { ...(await scenario.owner()), claim }, chain };
    },
    code: 'CLAIM_FALSE',
    convinces: 'anyone',
    evidence: ['claim'],
    needs: ['claim', 'chain'],
  },
  {
    name: 'a claim pays less than was earned, and a newer one pays in another currency',
    plant: async () => {
      const scenario = await Scenario.play();
      const claim = await scenario.books.claim({ payouts: paid(5_000n) });
      const scope = { chainId: 31_337n, distributor: `0x${'d2'.repeat(20)}`, token: `0x${'71'.repeat(20)}` };
      const other = await scenario.books.claim({
        payouts: paid(5_000n),
        sequence: 2,
        currency: 'EUR',
        scope,
      });
      return { documents: { ...(await scenario.owner()), claim, other } };
    },
    code: 'CLAIM_UNDERPAID',
    convinces: 'holder',
    evidence: ['claim', 'receipt-0'],
    needs: ['claim'],
  },
];

import type { Fraud } from './detector.ts';
import { allBut, hidden, ofVersion, SECOND, signedAnew } from './lies.ts';
import { type Issued, OWNER, TENANT_A, VERSION } from './operator.ts';
import { type Documents, renumbered, Scenario, without } from './scenario.ts';

/** Usage that is left out, changed or counted twice. */
export const USAGE_FRAUDS: readonly Fraud[] = [
  {
    name: 'a record is dropped, and its number is missing',
    plant: async () => {
      const scenario = await Scenario.play({ closings: { 1: () => ({ counted: allBut(1) }) } });
      return { documents: await scenario.owner([0, 2, 3, 4, 5, 6]) };
    },
    code: 'USAGE_UNACCOUNTED',
    convinces: 'anyone',
    evidence: ['statement-1', 'statement-2', 'epoch-2'],
    needs: ['statement-2', 'epoch-2'],
  },
  {
    name: 'a record is dropped, and statements of other epochs are held',
    plant: async () => {
      const scenario = await Scenario.play({ closings: { 1: () => ({ counted: allBut(1) }) } });
      return { documents: without(await scenario.owner([0, 2, 3, 4]), 'statement-1', 'statement-2') };
    },
    code: 'RECEIPT_MISSING',
    convinces: 'holder',
    evidence: ['receipt-0', 'receipt-2'],
    needs: ['receipt-0', ['receipt-2', 'receipt-3', 'receipt-4'], 'statement-3'],
  },
  {
    name: 'a record is dropped and the gap is closed; its tenant shows the receipt to the owner',
    plant: async () => {
      // The second request runs on the version, whose owner is not told: the numbers go on without it.
      const numbers = [1n, 1n, 2n, 3n, 4n, 5n, 6n];
      const counted = (entries: readonly Issued[], subject: string): readonly Issued[] =>
        subject === VERSION ? entries.filter(({ facts }) => facts.requestId !== SECOND) : entries;
      const scenario = await Scenario.play({
        lie: (facts, place) => renumbered(facts, numbers[place] ?? 0n),
        closings: {
          1: () => ({ counted, last: (subject, last) => (subject === VERSION ? last - 1n : last) }),
          2: () => ({ last: (subject, last) => (subject === VERSION ? last - 1n : last) }),
          3: () => ({ last: (subject, last) => (subject === VERSION ? last - 1n : last) }),
        },
      });
      return { documents: await hidden(scenario) };
    },
    code: 'RECEIPT_NOT_COUNTED',
    convinces: 'anyone',
    evidence: ['shown', 'statement-1', 'epoch-1', 'receipt-0', 'receipt-2', 'receipt-3'],
    needs: ['shown', 'statement-1', 'receipt-3'],
    silent: true,
  },
  {
    name: 'a receipt is in the log, but its epoch does not count it',
    plant: async () => {
      const scenario = await Scenario.play({ closings: { 1: () => ({ counted: allBut(2) }) } });
      return { documents: await scenario.tenant() };
    },
    code: 'RECEIPT_NOT_COUNTED',
    convinces: 'anyone',
    evidence: ['receipt-2', 'statement-1', 'epoch-1'],
    needs: ['receipt-2', 'statement-1', 'growth-4'],
  },
  {
    name: 'a count is changed in the account',
    plant: async () => {
      const lie = ofVersion((account) => [
        { ...account, completionTokens: String(Number(account['completionTokens']) - 5) },
      ]);
      const scenario = await Scenario.play({ closings: { 1: () => ({ account: lie }) } });
      return { documents: await scenario.owner() };
    },
    code: 'COUNTS_DIFFER',
    convinces: 'anyone',
    evidence: ['statement-1', 'epoch-1', 'receipt-0', 'receipt-3'],
    needs: ['statement-1', 'receipt-0', 'receipt-3'],
  },
  {
    name: 'a count is changed in a receipt that is signed again',
    plant: async () => {
      const scenario = await Scenario.play();
      const other = signedAnew(scenario, 0, ({ facts }) => ({
        ...facts,
        completionTokens: facts.completionTokens + 1,
      }));
      const again = await scenario.operator.receipt(other, TENANT_A, null);
      return { documents: { ...(await scenario.tenant()), again } };
    },
    code: 'RECEIPTS_CONTRADICT',
    convinces: 'anyone',
    evidence: ['receipt-0', 'again'],
    needs: ['receipt-0'],
  },
  {
    name: 'the digest of the adapter is changed after the receipt was issued',
    plant: async () => {
      const scenario = await Scenario.play();
      const other = signedAnew(scenario, 0, ({ facts }) => ({
        ...facts,
        parts: facts.parts.map((part) => ({
          ...part,
          adapter: part.adapter && { ...part.adapter, digest: '77'.repeat(32) },
        })),
      }));
      const again = await scenario.operator.receipt(other, OWNER, null);
      return { documents: { ...(await scenario.owner()), again } };
    },
    code: 'RECEIPTS_CONTRADICT',
    convinces: 'anyone',
    evidence: ['receipt-0', 'again'],
    needs: ['again'],
  },
  {
    name: 'a number is counted in two epochs',
    plant: async () => {
      const scenario = await Scenario.play({
        closings: { 2: (entries) => ({ counted: (range) => [...range, ...entries.slice(3, 4)] }) },
      });
      return { documents: await scenario.owner() };
    },
    code: 'NUMBER_COUNTED_TWICE',
    convinces: 'anyone',
    evidence: ['statement-1', 'epoch-1', 'statement-2', 'epoch-2'],
    needs: ['statement-1', 'statement-2'],
  },
  {
    name: 'a receipt is counted in an epoch that does not have it',
    plant: async () => {
      const counted = (entries: readonly Issued[]) => (range: readonly Issued[]) => [
        ...range,
        ...entries.slice(2, 3),
      ];
      const scenario = await Scenario.play({
        closings: { 1: () => ({ counted: allBut(2) }), 2: (entries) => ({ counted: counted(entries) }) },
      });
      return { documents: await scenario.tenant(), epoch: 2 };
    },
    code: 'NUMBER_MISPLACED',
    convinces: 'anyone',
    evidence: ['receipt-2', 'statement-2', 'epoch-2'],
    needs: ['receipt-2', 'statement-2', 'growth-6'],
  },
  {
    name: 'a request has two numbers',
    plant: async () => {
      const scenario = await Scenario.play();
      const other = signedAnew(scenario, 0, ({ facts }) => ({ ...facts, counter: { lane: 0, number: 9n } }));
      const again = await scenario.operator.receipt(other, TENANT_A, null);
      return { documents: { ...(await scenario.tenant()), again } };
    },
    code: 'RECEIPTS_CONTRADICT',
    convinces: 'anyone',
    evidence: ['receipt-0', 'again'],
    needs: ['receipt-0', 'again'],
  },
  {
    name: 'a number is given to two requests',
    plant: async () => {
      const scenario = await Scenario.play({
        lie: (facts, place) => (place === 6 ? { ...facts, counter: { lane: 0, number: 3n } } : facts),
      });
      return { documents: await scenario.tenant(), epoch: 1 };
    },
    code: 'NUMBER_TWICE',
    convinces: 'anyone',
    evidence: ['receipt-4', 'receipt-6'],
    needs: [['receipt-4'], ['receipt-6']],
  },
  {
    name: 'a leaf is in the log twice',
    plant: async () => {
      const scenario = await Scenario.play();
      const [entry] = scenario.entries;
      if (entry === undefined) throw new Error('There is no receipt.');
      scenario.operator.append(entry);
      const size = scenario.operator.leaves.length;
      const documents = await scenario.tenant();
      return {
        documents: { ...documents, again: await scenario.operator.receipt(entry, TENANT_A, size, size - 1) },
      };
    },
    code: 'LEAF_TWICE',
    convinces: 'anyone',
    evidence: ['receipt-0', 'again'],
    needs: ['receipt-0', 'again'],
  },
  {
    name: 'a quarantined request is released twice',
    plant: async () => {
      const [quarantine, release] = [
        (entries: readonly Issued[]) => ({
          quarantined: entries.slice(0, 1).map((entry) => ({ entry, reason: 'CAPTURE_DIFFERS' })),
        }),
        (entries: readonly Issued[]) => ({
          released: entries.slice(0, 1).map((entry) => ({ entry, epoch: 1 })),
        }),
      ];
      const scenario = await Scenario.play({ closings: { 1: quarantine, 2: release, 3: release } });
      return { documents: await scenario.owner() };
    },
    code: 'RELEASE_FALSE',
    convinces: 'anyone',
    evidence: ['epoch-2', 'epoch-3'],
    needs: ['epoch-2', 'epoch-3'],
  },
  {
    name: "one's own request is quarantined and never released",
    plant: async () => {
      const quarantine = (entries: readonly Issued[]) => ({
        quarantined: entries.slice(2, 3).map((entry) => ({ entry, reason: 'ENGINE_DIFFERS' })),
      });
      return { documents: await (await Scenario.play({ closings: { 1: quarantine } })).tenant() };
    },
    code: 'QUARANTINED',
    convinces: 'holder',
    evidence: ['receipt-2', 'epoch-1'],
    needs: ['receipt-2'],
  },
  {
    name: 'the last receipts are hidden from the owner',
    plant: async () => ({ documents: await (await Scenario.play()).owner([0, 1, 2]) }),
    code: 'RECEIPT_MISSING',
    convinces: 'holder',
    evidence: ['statement-1', 'epoch-1'],
    needs: ['statement-1'],
  },
  {
    name: 'the last number is said to be lower than it is',
    plant: async () => {
      const scenario = await Scenario.play({
        closings: {
          1: () => ({
            counted: allBut(2),
            last: (subject, last) => (subject === TENANT_A ? last - 1n : last),
          }),
        },
      });
      return { documents: await scenario.tenant() };
    },
    code: 'LAST_FALSE',
    convinces: 'anyone',
    evidence: ['receipt-2', 'statement-1', 'epoch-1'],
    needs: ['receipt-2', 'statement-1'],
  },
  {
    name: 'a record is dropped, and later accounts leave its lane out',
    plant: async () => ({ documents: await withoutLanes(), epoch: 3 }),
    code: 'USAGE_UNACCOUNTED',
    convinces: 'anyone',
    evidence: ['statement-1', 'statement-2', 'epoch-2'],
    needs: ['statement-1', 'statement-2', 'epoch-2'],
  },
  {
    name: 'a lane is left out of a later account',
    plant: async () => ({ documents: await withoutLanes(), epoch: 3 }),
    code: 'LAST_FALSE',
    convinces: 'anyone',
    evidence: ['statement-1', 'epoch-1', 'statement-3', 'epoch-3'],
    needs: ['statement-1', ['statement-2', 'statement-3']],
  },
];

/** An owner's documents of a version of which a record is dropped, and that has no lanes any more. */
async function withoutLanes(): Promise<Documents> {
  const account = ofVersion((given) => [
    {
      ...{ ...given, lanes: [], receipts: '0', promptTokens: '0', completionTokens: '0' },
      ...{ royalties: [], documents: [] },
    },
  ]);
  const lie = () => ({ account });
  const scenario = await Scenario.play({ unlogged: [1], closings: { 2: lie, 3: lie } });
  return scenario.owner([0, 2, 3]);
}

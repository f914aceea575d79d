import { describe, expect, test } from 'vitest';
import { walletSigner } from '../../src/proofs/keys/wallet.ts';
import { hex } from '../../src/proofs/log/documents.ts';
import { successionDigest } from '../../src/proofs/typed.ts';
import { checkOnChain } from '../../src/verifier/chain/checks.ts';
import type { ChainView } from '../../src/verifier/chain/view.ts';
import { audit } from '../../src/verifier/findings/audit.ts';
import type { Finding, FindingCode } from '../../src/verifier/findings/finding.ts';
import { isVerified } from '../../src/verifier/report.ts';
import { audited, examined } from '../unit/verifier/bundles.ts';
import { type Account, Books, WALLET } from './books.ts';
import { HOUR, type Issued, Operator, OWNER, START, TENANT_A, TENANT_B, uuid, VERSION } from './operator.ts';
import { type Documents, recharged, renumbered, Scenario, without } from './scenario.ts';

/** Who looks, with what. */
interface Detector {
  readonly documents: Documents;
  readonly kept?: Documents;
  readonly account?: string;
  readonly epoch?: number;
  /** A chain, when one is asked. */
  readonly chain?: ChainView;
}

interface Fraud {
  readonly name: string;
  readonly plant: () => Promise<Detector>;
  readonly code: FindingCode;
  readonly convinces: Finding['convinces'];
  /** Documents that the finding must name as its evidence. */
  readonly evidence: readonly string[];
  /** What the detector must hold: without any one of these, the fraud is not found. */
  readonly needs: readonly (string | readonly string[])[];
  /** Whether nothing at all is found without the first of them. */
  readonly silent?: true;
}

async function findingsOf({
  documents,
  kept = {},
  account,
  epoch = 1,
  chain,
}: Detector): Promise<readonly Finding[]> {
  const { sections, found } = await examined(documents, { kept });
  const all = [...sections];
  if (chain !== undefined) {
    const { epochs, claims } = found;
    const on = {
      epochs: epochs.epochs.values(),
      claims,
      chains: [],
      anchor: `0x${'a0'.repeat(20)}`,
      distributor: null,
    };
    for await (const section of checkOnChain(on, chain)) all.push(section);
  }
  const wrong = all.filter(({ steps }) => !isVerified(steps));
  return audit(found, wrong, { epoch: BigInt(epoch), account: account ?? null }).findings;
}

/** The detector without a document, a kept head, the account or the chain. */
function deprived(detector: Detector, what: string | readonly string[]): Detector {
  const names = typeof what === 'string' ? [what] : what;
  const { account, chain, ...rest } = detector;
  return {
    ...rest,
    documents: without(detector.documents, ...names),
    kept: names.includes('kept') ? {} : (detector.kept ?? {}),
    ...(account === undefined || names.includes('account') ? {} : { account }),
    ...(chain === undefined || names.includes('chain') ? {} : { chain }),
  };
}

const amount = (account: Account, change: (amount: bigint) => bigint): Account => {
  const charged = JSON.parse(JSON.stringify(account['charged']));
  charged[0].amount = String(change(BigInt(charged[0].amount)));
  return { ...account, charged };
};
const ofVersion = (change: (account: Account) => readonly Account[]) => (account: Account) =>
  account['subject'] === VERSION ? change(account) : [account];
const ofTenant = (change: (account: Account) => readonly Account[]) => (account: Account) =>
  account['subject'] === TENANT_A ? change(account) : [account];
/** The second request: its id follows from its place. */
const SECOND = uuid(1_002);
const allBut = (place: number) => (entries: readonly Issued[]) =>
  entries.filter((_, index) => index !== place);
const signedAnew = (
  scenario: Scenario,
  place: number,
  change: (entry: Issued) => Issued['facts'],
): Issued => {
  const entry = scenario.entries[place];
  if (entry === undefined) throw new Error('There is no such receipt.');
  return scenario.operator.issue(change(entry), entry.signedAt);
};
/** Contracts that have what they are given. */
const chainWith = (answers: Readonly<Record<string, unknown>>): ChainView => ({
  chainId: 31_337n,
  block: 100n,
  read: (_address, _abi, name) => Promise.resolve(name in answers ? [answers[name]] : null),
});
const earnedBy = (scenario: Scenario, tenant: string): bigint =>
  scenario.entries.reduce(
    (sum, { earned }) => sum + (earned.find((one) => one.tenant === tenant)?.amount ?? 0n),
    0n,
  );
const paid = (sum: bigint) => [{ amount: sum, earnedBefore: START + 4 * HOUR }];

const FRAUDS: readonly Fraud[] = [
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
    name: 'a record is dropped, and only receipts are held',
    plant: async () => {
      const scenario = await Scenario.play({ closings: { 1: () => ({ counted: allBut(1) }) } });
      return { documents: without(await scenario.owner([0, 2, 3, 4]), 'statement') };
    },
    code: 'RECEIPT_MISSING',
    convinces: 'holder',
    evidence: ['receipt-0', 'receipt-2'],
    needs: ['receipt-0', ['receipt-2', 'receipt-3', 'receipt-4']],
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
    name: 'a subject has two accounts in one epoch, one for each of those who ask',
    plant: async () => {
      const lie = ofTenant((account) => [account, amount(account, (sum) => sum + 1n)]);
      const scenario = await Scenario.play({ closings: { 1: () => ({ account: lie }) } });
      const other = await scenario.books.statement(1, TENANT_A, 1);
      return { documents: { ...without(await scenario.tenant(), 'receipt'), other } };
    },
    code: 'ACCOUNTS_CONTRADICT',
    convinces: 'anyone',
    evidence: ['statement-1', 'other', 'epoch-1'],
    needs: ['statement-1', 'other'],
  },
  {
    name: 'the log is forked, and each party is shown its own branch',
    plant: async () => {
      const scenario = await Scenario.play();
      const fork = await Scenario.play({
        lie: (facts, place) => (place === 1 ? { ...facts, finish: 'length' } : facts),
      });
      return { documents: await scenario.owner(), kept: { kept: await fork.operator.headDocument() } };
    },
    code: 'HEADS_CONTRADICT',
    convinces: 'anyone',
    evidence: ['kept', 'head'],
    needs: ['kept'],
  },
  {
    name: 'history is signed anew: another epoch of the same number',
    plant: async () => {
      const scenario = await Scenario.play();
      const anew = await new Books(scenario.operator).close({ size: 4, counted: allBut(1) });
      return { documents: { ...(await scenario.owner()), anew } };
    },
    code: 'EPOCHS_CONTRADICT',
    convinces: 'anyone',
    evidence: ['epoch-1', 'anew'],
    needs: ['anew'],
  },
  {
    name: 'an epoch follows another one than was published',
    plant: async () => {
      const scenario = await Scenario.play({ closings: { 2: () => ({ previous: '77'.repeat(32) }) } });
      return { documents: await scenario.owner() };
    },
    code: 'EPOCHS_CONTRADICT',
    convinces: 'anyone',
    evidence: ['epoch-1', 'epoch-2'],
    needs: ['epoch-2'],
  },
  {
    name: 'the whole database is written anew, and a proof is made up for a head that was kept',
    plant: async () => {
      const before = await Scenario.play();
      const anew = await Scenario.play({ lie: rewritten });
      const kept = await before.operator.headDocument(5);
      const proof = {
        ...objectOf(await anew.operator.consistency(5)),
        firstHead: objectOf(kept)['head'] ?? null,
      };
      return { documents: await anew.owner(), kept: { kept, proof } };
    },
    code: 'LOG_REWRITTEN',
    convinces: 'holder',
    evidence: ['proof'],
    needs: ['kept'],
  },
  {
    name: 'the whole database is written anew, and no proof is given for a head that was kept',
    plant: async () => {
      const before = await Scenario.play();
      const anew = await Scenario.play({ lie: rewritten });
      return { documents: await anew.owner(), kept: { kept: await before.operator.headDocument(5) } };
    },
    code: 'HEAD_UNCONNECTED',
    convinces: 'holder',
    evidence: ['kept', 'head'],
    needs: ['kept'],
  },
  {
    name: 'the whole database is written anew after its epochs were anchored',
    plant: async () => {
      const anew = await Scenario.play({ lie: rewritten });
      const chain = chainWith({ isAnchored: false, commitments: `0x${'34'.repeat(32)}` });
      return { documents: await anew.owner(), chain };
    },
    code: 'ANCHOR_DIFFERS',
    convinces: 'anyone',
    evidence: ['epoch-1'],
    needs: ['chain'],
  },
  {
    name: 'an epoch was never anchored',
    plant: async () => {
      const chain = chainWith({ isAnchored: false, commitments: `0x${'00'.repeat(32)}`, firstEpoch: 1n });
      return { documents: await (await Scenario.play()).owner(), chain };
    },
    code: 'ANCHOR_MISSING',
    convinces: 'anyone',
    evidence: ['epoch-1'],
    needs: ['chain'],
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
    name: 'a key that was replaced signs on',
    plant: async () => {
      const scenario = await Scenario.play();
      const next = walletSigner(`0x${'33'.repeat(32)}`);
      const validFrom = START + 10 * HOUR;
      const late = scenario.operator.settle({
        ...{ tenant: TENANT_B, promptTokens: 1, completionTokens: 1, at: START + 11 * HOUR },
      });
      const { log, signer } = scenario.operator;
      const endorsement = await signer.sign(successionDigest(log, { next: next.address, validFrom }));
      const keys = {
        ...{ format: 'patchbay-keys/1', log: hex(log) },
        keys: [
          {
            address: signer.address,
            validFrom: String(START - HOUR),
            validUntil: String(validFrom),
            endorsement: null,
          },
          { address: next.address, validFrom: String(validFrom), validUntil: null, endorsement },
        ],
      };
      const receipt = await scenario.operator.receipt(late, TENANT_B, null);
      // The list of before the key was replaced has the name that is left when the new one is taken away.
      return { documents: { ...(await scenario.public()), keys, late: receipt } };
    },
    code: 'KEY_NOT_VALID',
    convinces: 'anyone',
    evidence: ['late'],
    needs: ['late'],
  },
];

/** A history of which every receipt is another one. */
function rewritten(facts: Issued['facts']): Issued['facts'] {
  return { ...facts, finish: 'cancelled' };
}

function objectOf(document: Documents[string]): Documents {
  if (typeof document !== 'object' || document === null || Array.isArray(document))
    throw new Error('It is no object.');
  return document;
}

/** What an owner holds when the second request is hidden, and what its tenant shows them. */
async function hidden(scenario: Scenario): Promise<Documents> {
  return { ...(await scenario.owner([0, 2, 3, 4, 5, 6])), shown: await scenario.receipt(1, TENANT_B) };
}

describe('an honest operator', () => {
  test.each([1, 2, 3])('epoch %i: nothing is found', async (epoch) => {
    const scenario = await Scenario.play();
    const claim = await scenario.books.claim({ payouts: paid(earnedBy(scenario, OWNER)) });
    const owner = { ...(await scenario.owner()), claim };
    const kept = {
      kept: await scenario.operator.headDocument(5),
      proof: await scenario.operator.consistency(5),
    };
    expect(await findingsOf({ documents: owner, kept, account: WALLET, epoch })).toEqual([]);
    expect(await findingsOf({ documents: await scenario.tenant(), kept, epoch })).toEqual([]);
    expect((await audited(owner, { epoch })).notes).toEqual([]);
  });
});

describe.each(FRAUDS)('$name', ({ plant, code, convinces, evidence, needs, silent }) => {
  const planted = once(plant);

  test(`is found as ${code}, and what shows it is named`, async () => {
    const findings = await findingsOf(await planted());
    const found = findings.filter((finding) => finding.code === code && finding.convinces === convinces);
    expect(findings.map((finding) => `${finding.code} ${finding.convinces}`)).toContain(
      `${code} ${convinces}`,
    );
    expect(found.flatMap((finding) => finding.evidence)).toEqual(expect.arrayContaining([...evidence]));
  });

  test.each(needs.map((need) => [need]))('is not found without %s', async (need) => {
    const findings = await findingsOf(deprived(await planted(), need));
    expect(findings.filter((finding) => finding.code === code && finding.convinces === convinces)).toEqual(
      [],
    );
    if (silent && need === needs[0]) expect(findings).toEqual([]);
  });
});

function once<T>(work: () => Promise<T>): () => Promise<T> {
  let done: Promise<T> | null = null;
  return () => {
    done ??= work();
    return done;
  };
}

test('that a key was replaced is known from the list that has the next one, and from no earlier list', async () => {
  const planted = FRAUDS.find(({ code }) => code === 'KEY_NOT_VALID');
  const detector = await planted?.plant();
  if (detector === undefined) throw new Error('There is no such fraud.');
  const documents = { ...detector.documents, keys: new Operator().keys() };
  expect(await findingsOf({ ...detector, documents })).toEqual([]);
});

test('what another key signed is no evidence of anything', async () => {
  const { operator } = await Scenario.play({ operator: new Operator('44') });
  const documents = { ...(await (await Scenario.play()).owner()), keys: operator.keys() };
  await expect(findingsOf({ documents })).rejects.toMatchObject({ code: 'PROOF_EPOCH_MISSING' });
});

import { describe, expect, test } from 'vitest';
import { audited } from '../unit/verifier/bundles.ts';
import { at } from '../unit/verifier/vectors.ts';
import { WALLET } from './books.ts';
import { findingsOf } from './detector.ts';
import { chainWith, earnedBy, objectOf, paid } from './lies.ts';
import { HOUR, OWNER, START, TENANT_A, TENANT_B, VERSION } from './operator.ts';
import { type Documents, Scenario, without } from './scenario.ts';

// An operator who does nothing wrong, in situations that look as if.

const CHAIN = {
  ...{ isAnchored: false, commitments: `0x${'00'.repeat(32)}`, firstEpoch: 1n, sequence: 0n },
  ...{ root: `0x${'00'.repeat(32)}`, claimed: 0n, decimals: 6n, token: `0x${'70'.repeat(20)}` },
};

test('what was signed within the hour need not be on the chain, and then has to be', async () => {
  const scenario = await Scenario.play();
  const claim = await scenario.books.claim({ payouts: paid(earnedBy(scenario, OWNER)) });
  const documents = { ...without(await scenario.owner(), 'epoch-2', 'epoch-3'), claim };
  // The epoch closed after one hour, and the claim was signed after five.
  const at = async (time: number) =>
    (await findingsOf({ documents, chain: chainWith(CHAIN, time) })).map(({ code }) => code);
  expect(await at(START + 2 * HOUR - 1)).toEqual([]);
  expect(await at(START + 6 * HOUR - 1)).toEqual(['ANCHOR_MISSING']);
  expect(await at(START + 6 * HOUR)).toEqual(['ANCHOR_MISSING', 'CLAIM_NOT_PUBLISHED']);
});

test('a contract of which only the bundle says where it is convinces nobody else', async () => {
  const scenario = await Scenario.play();
  const claim = await scenario.books.claim({ payouts: paid(earnedBy(scenario, OWNER)) });
  const place = {
    ...{ format: 'patchbay-chain/1', log: at(scenario.epochs[0] ?? null, 'log'), chainId: '31337' },
    ...{ anchor: `0x${'a0'.repeat(20)}`, distributor: null, token: null, decimals: null },
  };
  const documents = { ...(await scenario.owner()), claim, place };
  const chain = chainWith({ ...CHAIN, commitments: `0x${'34'.repeat(32)}` });
  const convinced = async (unnamed?: true) => {
    const detector = { documents, chain, ...(unnamed && { unnamed }) };
    return new Set((await findingsOf(detector)).map(({ code, convinces }) => `${code} ${convinces}`));
  };
  expect(await convinced()).toEqual(new Set(['ANCHOR_DIFFERS anyone', 'CLAIM_NOT_PUBLISHED anyone']));
  expect(await convinced(true)).toEqual(new Set(['ANCHOR_DIFFERS holder', 'CLAIM_NOT_PUBLISHED holder']));
});

test('epochs that close late count as of their heads: what was given out meanwhile is not due', async () => {
  const lasts = new Map([
    [VERSION, 7n],
    [TENANT_A, 4n],
    [TENANT_B, 3n],
  ]);
  const late = (hours: number) => () => ({
    ...{
      closedAt: START + hours * HOUR,
      last: (subject: string, last: bigint) => lasts.get(subject) ?? last,
    },
  });
  const scenario = await Scenario.play({ closings: { 1: late(5), 2: late(6), 3: late(6) } });
  const documents = await scenario.owner();
  const early = without(documents, 'epoch-3', 'statement-3');
  for (const epoch of [1, 2]) expect(await findingsOf({ documents: early, epoch })).toEqual([]);
  expect((await audited(early, { epoch: 2 })).notes.join()).toContain('the numbers 7 of lane 0');
  expect(await findingsOf({ documents, epoch: 3 })).toEqual([]);
  expect((await audited(documents, { epoch: 3 })).notes).toEqual([]);
});

describe('an owner who uses its own adapter', () => {
  const play = (): Promise<Scenario> => {
    const last = (subject: string, given: bigint): bigint => (subject === OWNER ? 4n : given);
    const closing = () => ({ last });
    return Scenario.play({
      lie: (facts) => (facts.tenantId === TENANT_A ? { ...facts, tenantId: OWNER } : facts),
      closings: { 1: closing, 2: closing, 3: closing },
    });
  };
  const collected = async (scenario: Scenario, subjects: readonly string[], places: readonly number[]) => {
    const documents: Documents = await scenario.public();
    for (const subject of subjects)
      for (const epoch of [1, 2, 3])
        documents[`${subject}-${epoch}`] = await scenario.books.statement(epoch, subject);
    for (const place of places) documents[`receipt-${place}`] = await scenario.receipt(place, OWNER);
    return documents;
  };

  test('its account as a tenant does not name the splits that it can open', async () => {
    const documents = await collected(await play(), [OWNER, VERSION], [0, 1, 2, 3, 4, 5, 6]);
    for (const epoch of [1, 2, 3]) expect(await findingsOf({ documents, epoch })).toEqual([]);
  });

  test('its own requests open numbers of the version, whose other receipts it did not collect', async () => {
    const documents = await collected(await play(), [OWNER], [0, 2, 4, 6]);
    expect(await findingsOf({ documents })).toEqual([]);
    expect((await audited(documents, { epoch: 1 })).notes.join()).toContain(
      'the numbers 2, 4, 6 are between',
    );
  });
});

test('a tenant that is paid to two accounts has a claim for each, and their payouts are paid together', async () => {
  const scenario = await Scenario.play();
  const earned = earnedBy(scenario, OWNER);
  const half = earned / 2n;
  const second = `0x${'b1'.repeat(20)}`;
  const leaf = (account: string, amount: bigint) => ({ account, cumulative: amount / 1_000n });
  const claim = await scenario.books.claim({
    payouts: [{ amount: half, earnedBefore: START + 2 * HOUR, id: 0 }],
    others: [leaf(second, earned - half)],
  });
  const other = await scenario.books.claim({
    account: second,
    payouts: [{ amount: earned - half, earnedBefore: START + 4 * HOUR, id: 1 }],
    others: [leaf(WALLET, half)],
  });
  expect(at(claim, 'claim', 'root')).toBe(at(other, 'claim', 'root'));
  const documents = { ...(await scenario.owner()), claim, other };
  expect(await findingsOf({ documents })).toEqual([]);
  // Of two distributors, each has trees of its own.
  const scope = { chainId: 31_337n, distributor: `0x${'d2'.repeat(20)}`, token: `0x${'70'.repeat(20)}` };
  const elsewhere = await scenario.books.claim({
    scope,
    payouts: [{ amount: 1_000n, earnedBefore: START, id: 2 }],
  });
  expect(await findingsOf({ documents: { ...documents, elsewhere } })).toEqual([]);
  const { notes } = await audited({ ...(await scenario.owner()), elsewhere }, { epoch: 1 });
  expect(notes.join()).toMatch(
    /^7 receipts that earned tenant \S+ USD \d+ at or after \d+ are in no payout of a claim$/,
  );
});

test('a window of a key that nobody signed convinces nobody else', async () => {
  const scenario = await Scenario.play();
  const documents = await scenario.owner();
  const keys = objectOf(documents['keys'] ?? null);
  const [key] = Array.isArray(keys['keys']) ? keys['keys'] : [];
  const ended = { ...objectOf(key ?? null), validUntil: String(START + HOUR + 1) };
  const findings = await findingsOf({ documents: { ...documents, keys: { ...keys, keys: [ended] } } });
  expect(new Set(findings.map(({ code, convinces }) => `${code} ${convinces}`))).toEqual(
    new Set(['KEY_NOT_VALID holder']),
  );
});

test('what is not given is said, and nothing is said to be whole', async () => {
  const scenario = await Scenario.play({ unlogged: [1] });
  const documents = await scenario.owner([0, 2, 3, 4, 5, 6]);
  const notesOf = async (...names: readonly string[]) =>
    (await audited(without(documents, ...names), { epoch: 3 })).notes.join();
  expect(await notesOf('statement-1')).toContain(
    `no statement of version ${VERSION} is given for the epochs 1`,
  );
  expect(await notesOf('epoch-2')).toContain('the epochs 2 are not given');
});

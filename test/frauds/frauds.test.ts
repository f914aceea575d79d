import { describe, expect, test } from 'vitest';
import { audited } from '../unit/verifier/bundles.ts';
import { WALLET } from './books.ts';
import { deprived, findingsOf } from './detector.ts';
import { HISTORY_FRAUDS } from './history-frauds.ts';
import { earnedBy, paid } from './lies.ts';
import { MONEY_FRAUDS } from './money-frauds.ts';
import { Operator, OWNER } from './operator.ts';
import { Scenario } from './scenario.ts';
import { USAGE_FRAUDS } from './usage-frauds.ts';

const FRAUDS = [...USAGE_FRAUDS, ...MONEY_FRAUDS, ...HISTORY_FRAUDS];

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

test('what another key signed is no evidence of anything, and that is what is found', async () => {
  const { operator } = await Scenario.play({ operator: new Operator('44') });
  const documents = { ...(await (await Scenario.play()).owner()), keys: operator.keys() };
  const findings = await findingsOf({ documents });
  expect(new Set(findings.map(({ code, convinces }) => `${code} ${convinces}`))).toEqual(
    new Set(['DOCUMENT_FALSE holder', 'NOT_SIGNED holder']),
  );
  const { notes } = await audited(documents, { epoch: 1 });
  expect(notes).toContain('epoch 1 is not signed by a key that counts, so that nothing was compared with it');
  await expect(findingsOf({ documents, epoch: 4 })).rejects.toMatchObject({ code: 'PROOF_EPOCH_MISSING' });
});

import { describe, expect, test } from 'vitest';
import { epochDigest } from '../../../src/verifier/checks/epoch.ts';
import {
  accountCommitment,
  accountKey,
  accountLeaf,
  requestHash,
} from '../../../src/verifier/hashing/accounts.ts';
import { digestOf } from '../../../src/verifier/hashing/canonical.ts';
import { payoutLeaf, payoutRoot } from '../../../src/verifier/hashing/payouts.ts';
import { messageDigest } from '../../../src/verifier/hashing/signature.ts';
import { readDocument } from '../../../src/verifier/input/read.ts';
import { audited, examined, falseSteps, wholeBundle } from './bundles.ts';
import { at, bent, bytesOf, type Json, leavesOf, vector } from './vectors.ts';

const given = vector('epochs');
const { accounts = [], epochs = [], statements = [], claims = [] } = given;
const whole = wholeBundle(given);

describe('every intermediate value', () => {
  test('keys, commitments and leaves of accounts', () => {
    for (const [index, leaves] of accounts.entries()) {
      for (const { key, commitment, salt, account, leaf } of leaves) {
        expect(accountKey(given.log.id, BigInt(index + 1), account)).toBe(key);
        expect(accountCommitment(salt, { ...account })).toBe(commitment);
        expect(accountLeaf(key, commitment)).toBe(leaf);
      }
    }
    expect(accounts.map((leaves) => leaves.length)).toEqual([4, 4, 0]);
  });

  test('digests of epochs and claims, and what is signed', () => {
    for (const { digest, signed, document } of epochs) {
      const found = readDocument(bytesOf(document));
      if (found.format !== 'patchbay-epoch/1') throw new Error('It is no epoch.');
      expect(epochDigest(found)).toBe(digest);
      const values = { number: found.epoch.number, digest: `0x${digest}`, signedAt: found.signedAt };
      expect(messageDigest({ log: found.log, type: 'Epoch', values })).toBe(`0x${signed}`);
    }
    for (const { leaf, signed, document } of claims) {
      const found = readDocument(bytesOf(document));
      if (found.format !== 'patchbay-claim/1') throw new Error('It is no claim.');
      expect(payoutLeaf(found.claim)).toBe(leaf);
      expect(payoutRoot(leaf, found.claim.proof)).toBe(found.claim.root);
      const values = { digest: `0x${digestOf(found.claim)}`, signedAt: found.signedAt };
      expect(messageDigest({ log: found.log, type: 'PayoutClaim', values })).toBe(`0x${signed}`);
    }
  });

  test('requests are named by their hashes', () => {
    const listed = at(epochs[0]?.document ?? null, 'epoch', 'quarantined', 0, 'request');
    expect(requestHash(given.log.id, given.receipts[2]?.id ?? '')).toBe(listed);
  });

  test('the example of contracts.md', () => {
    const leaf = payoutLeaf({
      chainId: '31337',
      distributor: '0x5FbDB2315678afecb367f032d93F642f64180aa3',
      token: '0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512',
      account: '0x70997970C51812dc3A010C7d01b50e0d17dc79C8',
      cumulative: '1000000',
    });
    expect(leaf).toBe('0xe1cb7ed3cac1dd251d8358c20ae557611ffb21240f20598ee6fa457fd7ab5889');
  });
});

describe('all documents together', () => {
  test('everything holds, and what is compared is said', async () => {
    expect(await falseSteps(whole)).toEqual([]);
    const { sections, found } = await examined(whole);
    const all = sections.find(({ document, about }) => document === null && about === 'all documents');
    expect(all?.steps.map(({ step, result }) => [step, result])).toEqual([
      ['log', 'true'],
      ['heads', 'true'],
      ['heads.connected', 'true'],
      ['epochs', 'true'],
      ['epochs.complete', 'true'],
      ['accounts', 'true'],
      // Some parties' statements of some epochs are not among them.
      ['accounts.complete', 'unchecked'],
      ['receipts', 'true'],
      ['claims', 'true'],
    ]);
    // Three views of some, and each receipt once.
    expect(found.records.map(({ names }) => names.length)).toEqual([2, 1, 3, 2, 2, 1, 2]);
  });

  test.each([1, 2])(
    'an audit of epoch %i finds nothing but what was quarantined and not released',
    async (epoch) => {
      const { findings } = await audited(whole, { epoch });
      expect(findings).toEqual([]);
    },
  );

  test('statements for the first and the last place, and for an epoch without accounts', () => {
    const absences = statements.map((one) => at(one, 'absent')).filter((absent) => absent !== null);
    const kinds = new Set(
      absences.map((absent) => `${at(absent, 'before') !== null} ${at(absent, 'after') !== null}`),
    );
    expect([...kinds].sort()).toEqual(['false false', 'false true', 'true false', 'true true']);
  });
});

test('what was quarantined is told to whom it belongs, until an epoch releases it', async () => {
  const { 'epochs/1': _, 'epochs/2': __, ...early } = whole;
  const { findings } = await audited(early, { epoch: 1 });
  expect(findings.map(({ code, convinces }) => [code, convinces])).toEqual([['QUARANTINED', 'holder']]);
  expect(findings[0]?.message).toContain('CAPTURE_DIFFERS');
});

/** Every change of one text. Somebody else who has no account either may have the same neighbours. */
const changes = (document: Json): readonly [string, Json][] =>
  [...leavesOf(document)].flatMap(({ place, value }) => {
    if (typeof value !== 'string') return [];
    if (place[0] === 'subject' && at(document, 'present') === null) return [];
    return [[place.join('.'), bent(document, place, flipped(value))] as [string, Json]];
  });

/** Another value of the same form. */
function flipped(value: string): string {
  const last = value.at(-1) ?? '';
  const other = /[0-9]/.test(last) ? (last === '1' ? '2' : '1') : last === 'a' ? 'b' : 'a';
  return value.slice(0, -1) + other;
}

describe.each([
  ['epochs/0', 'an epoch with a quarantined receipt'],
  ['epochs/1', 'an epoch that releases'],
  ['statements/0', 'a statement of a tenant'],
  ['statements/6', 'a statement of a version'],
  ['statements/13', 'a statement that there is no account'],
  ['claims/0', 'a claim'],
])('%s, %s', (name) => {
  test('whatever is changed in it is found, or refused', async () => {
    const document = whole[name] ?? null;
    const alone = {
      keys: given.keys,
      ...(name.startsWith('statements/')
        ? { first: whole['epochs/0'] ?? null, second: whole['epochs/1'] ?? null }
        : {}),
    };
    expect(await falseSteps({ ...alone, [name]: document })).toEqual([]);
    for (const [place, other] of changes(document)) {
      expect([place, await falseSteps({ ...alone, [name]: other })]).not.toEqual([place, []]);
    }
  });
});

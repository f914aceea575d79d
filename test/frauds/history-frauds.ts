import { walletSigner } from '../../src/proofs/keys/wallet.ts';
import { hex } from '../../src/proofs/log/documents.ts';
import { successionDigest } from '../../src/proofs/typed.ts';
import { Books } from './books.ts';
import type { Fraud } from './detector.ts';
import { allBut, amount, chainWith, objectOf, ofTenant, rewritten } from './lies.ts';
import { HOUR, START, TENANT_A, TENANT_B } from './operator.ts';
import { Scenario, without } from './scenario.ts';

/** Logs that are forked, histories that are written anew, and keys that sign when they may not. */
export const HISTORY_FRAUDS: readonly Fraud[] = [
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
  {
    name: 'an epoch says that it closed before it was signed, so that nothing of it is ever due',
    plant: async () => {
      const lie = () => ({ closedAt: START + 1, signedAt: START + 2 * HOUR });
      return { documents: await (await Scenario.play({ closings: { 2: lie } })).owner() };
    },
    code: 'EPOCH_FALSE',
    convinces: 'anyone',
    evidence: ['epoch-2'],
    needs: ['epoch-2'],
  },
  {
    name: 'an epoch says that it closed before the one that it follows',
    plant: async () => {
      const lie = () => ({ closedAt: START + 1 });
      return { documents: await (await Scenario.play({ closings: { 2: lie } })).owner() };
    },
    code: 'EPOCHS_CONTRADICT',
    convinces: 'anyone',
    evidence: ['epoch-1', 'epoch-2'],
    needs: ['epoch-2'],
  },
  {
    name: 'the whole database is written anew, and the log is shorter than the one that was kept',
    plant: async () => {
      const kept = await (await Scenario.play()).operator.headDocument(7);
      const anew = await Scenario.play({ lie: rewritten, unlogged: [6] });
      const documents = without(await anew.owner([0, 1, 2, 3, 4, 5]), 'epoch-3', 'statement-3', 'growth-6');
      return { documents, kept: { kept } };
    },
    code: 'HEAD_UNCONNECTED',
    convinces: 'holder',
    evidence: ['kept', 'epoch-1'],
    needs: ['kept'],
  },
];

import { expect, test } from 'vitest';
import { type AnchorSituation, decideAnchor, type Match } from '../../../src/chain/anchoring/plan.ts';
import type { TransactionState, TransactionStatus } from '../../../src/chain/outbox/types.ts';

const MATCHES: readonly Match[] = ['NONE', 'SAME', 'OTHER'];
const STATES: readonly (TransactionState | null)[] = [
  null,
  'QUEUED',
  'SIGNED',
  'INCLUDED',
  'FINAL',
  'REVERTED',
];
const INCLUDED = { hash: '0x1', block: { number: 1, hash: '0x2' } };

function situation(state: TransactionState | null, newest: Match, final: Match): AnchorSituation {
  const transaction: TransactionStatus | null =
    state === null
      ? null
      : { purpose: 'p', state, signed: null, hashes: [], included: INCLUDED, reason: null, problem: null };
  return { orders: state === null ? 0 : 1, transaction, newest, final };
}

test.each([
  ['nothing is there, and nothing was ordered', null, 'NONE', 'NONE', { kind: 'ORDER' }],
  ['its transaction was refused', 'REVERTED', 'NONE', 'NONE', { kind: 'ORDER' }],
  ['its transaction waits', 'QUEUED', 'NONE', 'NONE', { kind: 'WAIT', goOn: false }],
  ['its transaction is on its way', 'SIGNED', 'NONE', 'NONE', { kind: 'WAIT', goOn: false }],
  ['its transaction is in a block', 'INCLUDED', 'SAME', 'NONE', { kind: 'WAIT', goOn: true }],
  ['its transaction is final', 'FINAL', 'SAME', 'SAME', { kind: 'ANCHORED', included: INCLUDED }],
  ['what was final is not there', 'FINAL', 'NONE', 'NONE', { kind: 'LOST', included: INCLUDED }],
  ['another one is where it was final', 'FINAL', 'OTHER', 'NONE', { kind: 'LOST', included: INCLUDED }],
  ['it is final a moment sooner than its epoch', 'FINAL', 'SAME', 'NONE', { kind: 'WAIT', goOn: true }],
  ['somebody else anchored it for good', null, 'SAME', 'SAME', { kind: 'ANCHORED', included: null }],
  ['somebody else was quicker', 'QUEUED', 'SAME', 'SAME', { kind: 'ANCHORED', included: null }],
  ['that can still be taken back', null, 'SAME', 'NONE', { kind: 'WAIT', goOn: true }],
  ['another one is there, not for good', null, 'OTHER', 'NONE', { kind: 'WAIT', goOn: false }],
  ['another one is there for good', null, 'OTHER', 'OTHER', { kind: 'DIFFERS' }],
] as const)('when %s', (_name, state, newest, final, step) => {
  expect(decideAnchor(situation(state, newest, final))).toEqual(step);
});

test('in no situation is something ordered while an order is open, or anchored that is not there for good', () => {
  for (const state of STATES) {
    for (const newest of MATCHES) {
      for (const final of MATCHES) {
        const step = decideAnchor(situation(state, newest, final));
        const name = `${state} ${newest} ${final}`;
        expect(step.kind === 'DIFFERS', name).toBe(final === 'OTHER');
        if (step.kind === 'ANCHORED') expect(final, name).toBe('SAME');
        if (step.kind === 'ORDER')
          expect([state === null || state === 'REVERTED', newest], name).toEqual([true, 'NONE']);
      }
    }
  }
});

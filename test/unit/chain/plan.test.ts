import { describe, expect, test } from 'vitest';
import { makePlan, type Situation } from '../../../src/chain/outbox/plan.ts';
import type {
  Attempt,
  IncludedTransaction,
  OpenTransaction,
  QueuedTransaction,
  SignedTransaction,
} from '../../../src/chain/outbox/types.ts';
import type { ChainView } from '../../../src/chain/outbox/view.ts';

const OPTIONS = { bumpMs: 1_000, feeCeiling: 1_000n, inFlightMax: 3 };
const NOW = 100_000;
const CALL = { to: `0x${'11'.repeat(20)}`, data: '0x' };
const block = (number: number, fork = 'a') => ({ number, hash: `block ${number}${fork}` });

function attempt(nonce: number, number = 1, signedAtMs = NOW): Attempt {
  const fees = { maxFee: 100n * BigInt(number), priorityFee: 10n };
  return { hash: `${nonce}/${number}`, number, raw: `raw ${nonce}/${number}`, fees, signedAtMs };
}

function queued(id: string, value = 0n): QueuedTransaction {
  return { state: 'QUEUED', id, purpose: id, call: CALL, value, problem: null };
}

function signed(nonce: number, attempts: readonly Attempt[] = [attempt(nonce)]): SignedTransaction {
  return { ...queued(`n${nonce}`), state: 'SIGNED', nonce, gas: 10n, attempts };
}

function included(nonce: number, at = block(5), succeeded = true): IncludedTransaction {
  return { ...signed(nonce), state: 'INCLUDED', block: at, succeeded };
}

function plan(
  open: readonly OpenTransaction[],
  view: Partial<ChainView> = {},
  rest: Partial<Omit<Situation, 'open' | 'view'>> = {},
) {
  const used = view.used ?? 0;
  const quotes = new Map(
    open.filter(({ state }) => state === 'QUEUED').map(({ id }) => [id, { kind: 'gas', gas: 10n }] as const),
  );
  const given = new Set(open.flatMap((one) => (one.state === 'QUEUED' ? [] : [one.nonce])));
  return makePlan(
    {
      open,
      given,
      view: {
        head: block(10),
        finalNumber: 7,
        used,
        balance: 1_000_000n,
        market: { baseFee: 20n, tip: 10n },
        receipts: new Map(),
        blocks: new Map(),
        takenBy: new Map(),
        quotes,
        ...view,
      },
      canSign: true,
      mayGive: true,
      fills: new Map(),
      nowMs: NOW,
      ...rest,
    },
    OPTIONS,
  );
}

const codes = ({ problems }: ReturnType<typeof plan>) =>
  Object.fromEntries([...problems].map(([id, { code }]) => [id, code]));
const sent = ({ sends }: ReturnType<typeof plan>) =>
  sends.map((send) => `${send.kind} ${send.nonce}${send.kind === 'SIGN' ? `/${send.number}` : ''}`);

describe('what is queued', () => {
  test('gets the lowest nonces that were never given out', () => {
    const open = [signed(4), queued('a'), queued('b')];
    expect(sent(plan(open, { used: 3 }, { given: new Set([4, 5]) }))).toEqual([
      'SIGN 3/1',
      'AGAIN 4',
      'SIGN 6/1',
    ]);
  });

  test('waits while as much as may be is on its way', () => {
    expect(sent(plan([signed(0), signed(1), queued('a'), queued('b')]))).toEqual([
      'AGAIN 0',
      'AGAIN 1',
      'SIGN 2/1',
    ]);
  });

  test('that would be refused is passed over', () => {
    const problem = { code: 'CHAIN_REVERTED', message: 'no' } as const;
    const quotes = new Map([
      ['a', { kind: 'problem', problem }],
      ['b', { kind: 'gas', gas: 10n }],
    ] as const);
    const made = plan([queued('a'), queued('b')], { quotes });
    expect(sent(made)).toEqual(['SIGN 0/1']);
    expect(codes(made)).toEqual({ a: 'CHAIN_REVERTED' });
  });

  test('waits for coins, which what is on its way has first', () => {
    // 10 gas at 50, and what goes along; what is on its way takes 10 at 100.
    expect(codes(plan([queued('a', 500n)], { balance: 999n }))).toEqual({ a: 'CHAIN_GAS_EMPTY' });
    expect(sent(plan([queued('a', 500n)], { balance: 1_000n }))).toEqual(['SIGN 0/1']);
    expect(codes(plan([signed(0), queued('a', 500n)], { balance: 1_999n }))).toEqual({
      a: 'CHAIN_GAS_EMPTY',
    });
    expect(codes(plan([queued('a'), queued('b')], { balance: 999n }))).toEqual({ b: 'CHAIN_GAS_EMPTY' });
  });

  test('waits while gas is above the ceiling', () => {
    const made = plan([queued('a')], { market: { baseFee: 1_001n, tip: 0n } });
    expect(codes(made)).toEqual({ a: 'CHAIN_FEES_HIGH' });
    expect(made.sends).toEqual([]);
  });
});

describe('what is signed', () => {
  test('is sent again as it is, newest attempt first, in the order of nonces', () => {
    const made = plan([signed(1), signed(0, [attempt(0, 1), attempt(0, 2)])]);
    expect(made.sends.map((send) => (send.kind === 'AGAIN' ? send.attempt.raw : null))).toEqual([
      'raw 0/2',
      'raw 1/1',
    ]);
    expect(codes(made)).toEqual({});
  });

  test('is offered more when it is late, and the next in line', () => {
    const late = (nonce: number) => signed(nonce, [attempt(nonce, 1, NOW - OPTIONS.bumpMs)]);
    expect(sent(plan([late(0), late(1)]))).toEqual(['SIGN 0/2', 'AGAIN 1']);
    expect(sent(plan([signed(0, [attempt(0, 1, NOW - OPTIONS.bumpMs + 1)])]))).toEqual(['AGAIN 0']);
    expect(codes(plan([late(0)], {}, { canSign: false }))).toEqual({ n0: 'CHAIN_KEY' });
    expect(codes(plan([late(0)], { balance: 1_000n }))).toEqual({ n0: 'CHAIN_GAS_EMPTY' });
    const dear = signed(0, [attempt(0, 10, NOW - OPTIONS.bumpMs)]);
    const stuck = plan([dear]);
    expect(codes(stuck)).toEqual({ n0: 'CHAIN_FEES_HIGH' });
    expect(sent(stuck)).toEqual(['AGAIN 0']);
  });

  test.each([1, 2])('is included by attempt %i', (number) => {
    const receipts = new Map([[`0/${number}`, { block: block(9), succeeded: true }]]);
    const made = plan([signed(0, [attempt(0, 1), attempt(0, 2)])], {
      used: 1,
      receipts,
      blocks: new Map([[9, 'block 9a']]),
    });
    expect(made.moves).toEqual([
      { kind: 'INCLUDE', id: 'n0', hash: `0/${number}`, block: block(9), succeeded: true },
    ]);
    expect(made.sends).toEqual([]);
  });

  test('is final at once when its block is', () => {
    const receipts = new Map([['0/1', { block: block(7), succeeded: false }]]);
    const made = plan([signed(0)], { used: 1, receipts, blocks: new Map([[7, 'block 7a']]) });
    expect(made.moves.map(({ kind }) => kind)).toEqual(['INCLUDE', 'FINISH']);
    expect(made.moves.at(-1)).toEqual({ kind: 'FINISH', id: 'n0', succeeded: false });
  });

  test('with a receipt of a block that is not on the chain is in no block', () => {
    const receipts = new Map([['0/1', { block: block(9, 'b'), succeeded: true }]]);
    expect(plan([signed(0)], { receipts, blocks: new Map([[9, 'block 9a']]) }).moves).toEqual([]);
  });

  test('keeps its nonce until another transaction is known to have it for good', () => {
    const waiting = plan([signed(0)], { used: 1 });
    expect(waiting).toMatchObject({ moves: [], sends: [] });
    expect(codes(waiting)).toEqual({ n0: 'CHAIN_NONCE_TAKEN' });
    const lost = plan([signed(0)], { used: 1, takenBy: new Map([[0, 'other']]) });
    expect(lost.moves).toEqual([{ kind: 'LOSE', id: 'n0', nonce: 0, takenBy: 'other' }]);
    expect(lost.sends).toEqual([]);
  });

  test('above a nonce that nobody has waits, and says so', () => {
    const made = plan([signed(1), signed(2)]);
    expect(codes(made)).toEqual({ n1: 'CHAIN_NONCE_GAP', n2: 'CHAIN_NONCE_GAP' });
    expect(sent(made)).toEqual(['AGAIN 1', 'AGAIN 2']);
    expect(codes(plan([signed(1), queued('a')]))).toEqual({});
  });
});

describe('a gap', () => {
  const late = (nonce: number) => signed(nonce, [attempt(nonce, 1, NOW - OPTIONS.bumpMs)]);
  const fills = new Map([[0, queued('fill')]]);
  const quotes = new Map([['fill', { kind: 'gas', gas: 10n }]] as const);

  test('is filled when what comes after it has waited for long, even where no more may be on its way', () => {
    const open = [signed(1), signed(2), signed(3)];
    expect(sent(plan(open, { quotes }, { fills }))).toEqual(['AGAIN 1', 'AGAIN 2', 'AGAIN 3']);
    const filled = plan([late(1), signed(2), signed(3)], { quotes }, { fills });
    expect(sent(filled)).toEqual(['SIGN 0/1', 'AGAIN 1', 'AGAIN 2', 'AGAIN 3']);
    expect(filled.sends[0]).toMatchObject({ isFill: true });
    expect(codes(filled)).toEqual({});
  });

  test('is filled by what is queued, if anything is', () => {
    const both = new Map([...quotes, ['a', { kind: 'gas', gas: 10n }] as const]);
    const made = plan([late(1), queued('a')], { quotes: both }, { fills });
    expect(made.sends).toMatchObject([{ nonce: 0, isFill: false }, { kind: 'AGAIN' }]);
  });

  test('that cannot be paid for stays, and says so', () => {
    expect(codes(plan([late(1)], { quotes, balance: 1_499n }, { fills }))).toEqual({ n1: 'CHAIN_GAS_EMPTY' });
    expect(sent(plan([late(1)], { quotes, balance: 1_500n }, { fills }))).toEqual(['SIGN 0/1', 'AGAIN 1']);
  });

  test('of a transaction that was final is not filled, and nothing is signed above it', () => {
    const made = plan([late(1), queued('a')], {}, { given: new Set([0, 1]), mayGive: false });
    expect(sent(made)).toEqual(['AGAIN 1']);
    expect(codes(made)).toEqual({});
  });
});

describe('what is in a block', () => {
  test('waits for its depth, and is then at its end', () => {
    const blocks = new Map([
      [8, 'block 8a'],
      [7, 'block 7a'],
    ]);
    expect(plan([included(0, block(8))], { blocks }).moves).toEqual([]);
    expect(plan([included(0, block(7))], { blocks }).moves).toEqual([
      { kind: 'FINISH', id: 'n0', succeeded: true },
    ]);
    expect(plan([included(0, block(7))], { blocks, finalNumber: null }).moves).toEqual([]);
  });

  test('is taken back when the chain has another block there, and goes on at once', () => {
    const blocks = new Map([[5, 'block 5b']]);
    const back = plan([included(0)], { blocks });
    expect(back.moves).toEqual([{ kind: 'TAKE_BACK', id: 'n0' }]);
    expect(sent(back)).toEqual(['AGAIN 0']);
    const receipts = new Map([['0/1', { block: block(6, 'b'), succeeded: true }]]);
    const moved = plan([included(0)], { used: 1, receipts, blocks: new Map([...blocks, [6, 'block 6b']]) });
    expect(moved.moves.map(({ kind }) => kind)).toEqual(['TAKE_BACK', 'INCLUDE', 'FINISH']);
    const lost = plan([included(0)], { used: 1, blocks, takenBy: new Map([[0, 'other']]) });
    expect(lost.moves.map(({ kind }) => kind)).toEqual(['TAKE_BACK', 'LOSE']);
  });

  test('stays there while the node does not know the block', () => {
    expect(plan([included(0)])).toMatchObject({ moves: [], sends: [] });
  });
});

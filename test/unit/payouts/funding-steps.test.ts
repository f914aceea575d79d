import { expect, test } from 'vitest';
import { DISTRIBUTOR_ABI } from '../../../src/chain/royalty-distributor.ts';
import { TOKEN_ABI } from '../../../src/chain/token.ts';
import { fundingProgress, fundingPurposes, nextOrder } from '../../../src/payouts/chain/funding-steps.ts';
import type { TransactionState, TransactionStatus } from '../../../src/payouts/chain/types.ts';

const address = (digit: string) => `0x${digit.repeat(40)}`;
const [OURS, ROTATED] = [address('1'), address('2')];
const distributor = {
  ...{ id: 'd', chainId: 1n, decimals: 6 },
  ...{ distributor: address('3'), token: address('4') },
};
const funding = { id: 'f', units: 5n, clears: false };

function status(state: TransactionState, account: string | null = OURS): TransactionStatus {
  return {
    state,
    signed: account === null ? null : { account },
    included: null,
    reason: null,
    problem: null,
  };
}

/** What is ordered next, in words. */
function next(
  states: Readonly<Record<string, TransactionStatus>>,
  { account = OURS, clears = false }: { readonly account?: string | null; readonly clears?: boolean } = {},
): string | null {
  const progress = fundingProgress('f', new Map(Object.entries(states)));
  const order = nextOrder(distributor, { ...funding, clears }, progress, account);
  if (order === null) return null;
  const abi = order.call.to === distributor.token ? TOKEN_ABI : DISTRIBUTOR_ABI;
  const parsed = abi.parseTransaction(order.call);
  return `${order.purpose} ${parsed?.name} ${parsed?.args.at(-1)}`;
}

test('an allowance, and once it is final the payment', () => {
  expect(next({})).toBe('fund:f:approve:1 approve 5');
  for (const state of ['QUEUED', 'SIGNED', 'INCLUDED'] as const) {
    expect(next({ 'fund:f:approve:1': status(state) })).toBeNull();
  }
  expect(next({ 'fund:f:approve:1': status('FINAL') })).toBe('fund:f fund 5');
  for (const state of ['QUEUED', 'SIGNED', 'INCLUDED', 'FINAL', 'REVERTED'] as const) {
    expect(next({ 'fund:f:approve:1': status('FINAL'), 'fund:f': status(state) })).toBeNull();
  }
});

test('what is left of an earlier allowance is taken back first', () => {
  expect(next({}, { clears: true })).toBe('fund:f:clear:1 approve 0');
  expect(next({ 'fund:f:clear:1': status('INCLUDED') })).toBeNull();
  for (const state of ['FINAL', 'REVERTED'] as const) {
    expect(next({ 'fund:f:clear:1': status(state) })).toBe('fund:f:approve:1 approve 5');
  }
});

test('a refused allowance ends it, and nothing is paid in by a later one', () => {
  expect(next({ 'fund:f:approve:1': status('REVERTED') })).toBeNull();
});

test('another account allows it anew before it pays, as often as the account changes', () => {
  const again = 'fund:f:clear:2 approve 0';
  const approved = { 'fund:f:approve:1': status('FINAL') };
  expect(next(approved, { account: ROTATED })).toBe(again);
  expect(next({ ...approved, 'fund:f': status('QUEUED', null) }, { account: ROTATED })).toBe(again);
  expect(next({ ...approved, 'fund:f': status('SIGNED') }, { account: ROTATED })).toBeNull();
  const cleared = { ...approved, 'fund:f:clear:2': status('FINAL', ROTATED) };
  expect(next(cleared, { account: ROTATED })).toBe('fund:f:approve:2 approve 5');
  const anew = { ...cleared, 'fund:f:approve:2': status('FINAL', ROTATED) };
  expect(next(anew, { account: ROTATED })).toBe('fund:f fund 5');
  // Ordered already, it waits for no more than an allowance.
  const refused = { ...cleared, 'fund:f:approve:2': status('REVERTED'), 'fund:f': status('QUEUED') };
  expect(next(refused, { account: ROTATED })).toBe('fund:f:clear:3 approve 0');
  // Whoever has no key does not know better.
  expect(next(approved, { account: null })).toBe('fund:f fund 5');
  const all = fundingPurposes('f').filter((purpose) => purpose !== 'fund:f');
  const each = Object.fromEntries(all.map((purpose) => [purpose, status('FINAL')]));
  expect(next(each, { account: ROTATED })).toBeNull();
});

import { describe, expect, test } from 'vitest';
import { checkBudget, LIMIT_MAX } from '../../../src/billing/budget-terms.ts';
import { toEntries } from '../../../src/billing/entries.ts';
import { checkMove, type MoveInput } from '../../../src/billing/funds-terms.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';

/** The field that is blamed; null when nothing is. */
function blamed(check: () => void): string | null {
  try {
    check();
    return null;
  } catch (error) {
    if (!(error instanceof PatchbayError) || error.code !== 'BAD_INPUT') throw error;
    return error.field ?? '';
  }
}

describe('a budget', () => {
  test.each([
    [0n, [], null],
    [LIMIT_MAX, [1, 1_000_000], null],
    [-1n, null, 'limit'],
    [LIMIT_MAX + 1n, null, 'limit'],
    [1n, [0], 'alertsPpm'],
    [1n, [1_000_001], 'alertsPpm'],
    [1n, [0.5], 'alertsPpm'],
    [1n, Array.from({ length: 11 }, (_, index) => index + 1), 'alertsPpm'],
  ] as const)('with limit %s and thresholds %j blames %s', (limit, alerts, field) => {
    expect(blamed(() => checkBudget(limit, alerts))).toBe(field);
  });
});

describe('a move of money', () => {
  const move = (over: Partial<MoveInput>): MoveInput => ({
    idempotencyKey: 'k',
    tenantId: 't',
    kind: 'TOP_UP',
    amount: 1n,
    reason: null,
    ...over,
  });

  test.each([
    [{}, null],
    [{ amount: 10n ** 18n }, null],
    [{ amount: 10n ** 18n + 1n }, 'amount'],
    [{ amount: 0n }, 'amount'],
    [{ amount: -1n }, 'amount'],
    [{ kind: 'REFUND', reason: 'outage', amount: -1n }, 'amount'],
    [{ kind: 'REFUND' }, 'reason'],
    [{ kind: 'CORRECTION', reason: '  ' }, 'reason'],
    [{ kind: 'CORRECTION', reason: 'wrong price', amount: -(10n ** 18n) }, null],
    [{ kind: 'CORRECTION', reason: 'x', amount: 0n }, 'amount'],
    [{ reason: 'x'.repeat(501) }, 'reason'],
  ] as const)('%o blames %s', (over, field) => {
    expect(blamed(() => checkMove(move(over)))).toBe(field);
  });
});

test('entries keep digits past 2^53 and get their own lines, in order', () => {
  const createdAt = new Date(0);
  const row = {
    id: 'a',
    kind: 'SINGLE' as const,
    asset: 'USD',
    amount: '9007199254740993',
    held: '0',
    pending_id: null,
    reference_type: 'top_up',
    reference_id: null,
    created_at: createdAt,
  };
  const line = (transfer: string, amount: string) => ({
    transfer_id: transfer,
    account: 'CUSTOMER' as const,
    amount,
    subject_id: null,
  });
  const [first, second] = toEntries(
    [row, { ...row, id: 'b' }],
    [line('a', '9007199254740993'), line('c', '5'), line('a', '-1')],
  );
  expect(first).toMatchObject({ amount: 9_007_199_254_740_993n, currency: 'USD', createdAt });
  expect(first?.lines.map(({ amount }) => amount)).toEqual([9_007_199_254_740_993n, -1n]);
  expect(second?.lines).toEqual([]);
});

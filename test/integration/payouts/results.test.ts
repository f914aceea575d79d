import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Payout } from '../../../src/payouts/types.ts';
import { resultsFile, type Said } from '../../unit/payouts/files.ts';
import { type Beneficiary, codeOf, newCurrency, openPayoutsKit, type PayoutsKit, UNIT } from './kit.ts';

let kit: PayoutsKit;
beforeAll(async () => {
  kit = await openPayoutsKit();
});
afterAll(() => kit.dispose());

interface Sent {
  readonly currency: string;
  readonly batchId: string;
  readonly who: readonly Beneficiary[];
  /** In the order of `who`. */
  readonly payouts: readonly Payout[];
}

/** A batch that the bank has, with a payout for each amount. */
async function sent(...amounts: readonly bigint[]): Promise<Sent> {
  const currency = newCurrency();
  const who: Beneficiary[] = [];
  for (const amount of amounts) {
    const one = await kit.beneficiary(currency);
    await kit.earn(one, currency, amount);
    who.push(one);
  }
  kit.clock.advance(kit.options.holdbackMs + 1);
  const { id: batchId } = await kit.submitted(currency);
  const found = await kit.payoutsOf(batchId);
  const payouts = who.flatMap(({ tenantId }) => found.filter((payout) => payout.tenantId === tenantId));
  return { currency, batchId, who, payouts };
}

const said = (payout: Payout | undefined, state: string, reference: string | null = 'B-1'): Said => ({
  ...{ key: payout?.paymentKey ?? '', amount: payout?.amountNano ?? 0n, state, reference },
});
const stateOf = async (batchId: string) => (await kit.payouts.batches.get(kit.drafter, batchId))?.state;
const importing = (content: string) => kit.payouts.outcomes.importResults(kit.drafter, content);

test('paid goes out, failed comes back and is paid anew, unknown stays held until somebody finds out', async () => {
  const { currency, batchId, who, payouts } = await sent(20n * UNIT, 30n * UNIT, 40n * UNIT);
  const [paid, failed, unknown] = payouts;
  const taken = await kit.say([
    said(paid, 'PAID'),
    said(failed, 'FAILED', null),
    said(unknown, 'UNKNOWN', null),
  ]);
  expect(taken).toMatchObject({ resultCount: 3, appliedCount: 3, totalNano: 90n * UNIT });
  const balances = await Promise.all(who.map((one) => kit.balance(one)));
  expect(balances.map(({ posted, held }) => [posted, held])).toEqual([
    [0n, 0n],
    [30n * UNIT, 0n],
    [40n * UNIT, 40n * UNIT],
  ]);
  expect(await kit.paidOut(currency)).toBe(20n * UNIT);
  expect(await stateOf(batchId)).toBe('SUBMITTED');

  kit.clock.advance(1);
  const again = await kit.create(currency);
  const [retry] = await kit.payoutsOf(again.id);
  expect(again).toMatchObject({ payoutCount: 1, totalNano: 30n * UNIT });
  expect(retry?.tenantId).toBe(failed?.tenantId);
  expect(retry?.paymentKey).not.toBe(failed?.paymentKey);

  const { outcomes } = kit.payouts;
  const input = { payoutId: unknown?.id ?? '', outcome: 'PAID', bankReference: 'B-9' } as const;
  const resolved = await outcomes.resolveUnknown(kit.approver, input);
  expect(resolved).toMatchObject({ state: 'PAID', bankReference: 'B-9' });
  expect(await outcomes.resolveUnknown(kit.approver, input)).toEqual(resolved);
  expect(await codeOf(outcomes.resolveUnknown(kit.approver, { ...input, outcome: 'FAILED' }))).toBe(
    'PAYOUT_STATE',
  );
  expect(await stateOf(batchId)).toBe('SETTLED');
  expect(await kit.paidOut(currency)).toBe(60n * UNIT);
  expect(await kit.events(unknown?.id ?? '')).toEqual(['PENDING', 'SENDING', 'UNKNOWN', 'PAID']);
  const audit = await kit.db.admin(
    `SELECT tenant_id, before ->> 'state' AS before, after ->> 'state' AS after FROM audit_log WHERE action = 'payout.resolve' AND target_id = $1`,
    [unknown?.id],
  );
  expect(audit).toEqual([{ tenant_id: unknown?.tenantId, before: 'UNKNOWN', after: 'PAID' }]);
});

describe('a file', () => {
  test('that comes again changes nothing, in whatever form it says the same', async () => {
    const { currency, payouts } = await sent(20n * UNIT, 30n * UNIT);
    const results = payouts.map((payout) => said(payout, 'PAID', `B-${payout.id}`));
    const content = resultsFile(results);
    const first = await importing(content);
    kit.clock.advance(1_000);
    expect(await importing(content)).toEqual(first);
    const other = await importing(resultsFile(results.toReversed(), { hash: false }));
    expect(other).toMatchObject({ resultCount: 2, appliedCount: 0 });
    expect(other.id).not.toBe(first.id);
    expect(await kit.paidOut(currency)).toBe(50n * UNIT);
  });

  test('is taken in once when it comes many times at once', async () => {
    const { currency, payouts } = await sent(20n * UNIT, 30n * UNIT);
    const content = resultsFile(payouts.map((payout) => said(payout, 'PAID')));
    const all = await Promise.all(Array.from({ length: 5 }, () => importing(content)));
    expect(new Set(all.map(({ id }) => id)).size).toBe(1);
    expect(await kit.paidOut(currency)).toBe(50n * UNIT);
  });

  test('can be about several batches, and about a part of one', async () => {
    const [one, two] = [await sent(20n * UNIT, 30n * UNIT), await sent(40n * UNIT)];
    await kit.say([said(one.payouts[1], 'PAID'), said(two.payouts[0], 'PAID')]);
    expect([await stateOf(one.batchId), await stateOf(two.batchId)]).toEqual(['SUBMITTED', 'SETTLED']);
    await kit.say([said(one.payouts[0], 'FAILED', null)]);
    expect(await stateOf(one.batchId)).toBe('SETTLED');
  });

  test('is kept whole, with what each line said', async () => {
    const { payouts } = await sent(20n * UNIT);
    const content = resultsFile([said(payouts[0], 'PAID', 'Ä-1')]);
    const { id } = await importing(content);
    expect(await kit.db.admin('SELECT content FROM payout_import WHERE id = $1', [id])).toEqual([
      { content },
    ]);
    expect(
      await kit.db.admin(
        'SELECT line, payout_id, state, bank_reference FROM payout_result WHERE import_id = $1',
        [id],
      ),
    ).toEqual([{ line: 2, payout_id: payouts[0]?.id, state: 'PAID', bank_reference: 'Ä-1' }]);
  });
});

describe('a file with one wrong line takes nothing in, and the line is named:', () => {
  test('a key that no payout has, a wrong amount, what contradicts, and what was not sent', async () => {
    const { currency, batchId, payouts, who } = await sent(20n * UNIT, 30n * UNIT);
    const [one, two] = payouts;
    await kit.say([said(one, 'PAID', 'B-1')]);
    // Drafted and not handed over.
    const late = await kit.beneficiary(currency);
    await kit.earn(late, currency, 50n * UNIT);
    kit.clock.advance(kit.options.holdbackMs + 1);
    const [pending] = await kit.payoutsOf((await kit.create(currency)).id);
    const good = said(two, 'PAID', 'B-2');
    const cases: readonly (readonly [Said, string, string])[] = [
      [{ ...said(one, 'PAID'), key: 'c'.repeat(64) }, 'PAYOUT_FILE', 'No payout has the key'],
      [
        { ...said(one, 'PAID'), amount: 20n * UNIT + 1n },
        'PAYOUT_FILE',
        'The amount is not the one of the payout',
      ],
      [
        said(one, 'FAILED', 'B-1'),
        'PAYOUT_STATE',
        'The payout is PAID with the reference B-1, and the file says FAILED',
      ],
      [said(one, 'UNKNOWN', 'B-1'), 'PAYOUT_STATE', 'The payout is PAID'],
      // Paid by another payment of the bank: it was paid twice.
      [
        said(one, 'PAID', 'B-3'),
        'PAYOUT_STATE',
        'The payout is PAID with the reference B-1, and the file says PAID',
      ],
      [said(pending, 'PAID'), 'PAYOUT_STATE', 'The payout is PENDING'],
    ];
    for (const [wrong, code, message] of cases) {
      await expect(importing(resultsFile([good, wrong]))).rejects.toMatchObject({
        ...{
          code,
          field: 'content',
          meta: { line: 3 },
          message: expect.stringContaining(`Line 3: ${message}`),
        },
      });
    }
    expect((await kit.payoutsOf(batchId)).map(({ state }) => state).sort()).toEqual(['PAID', 'SENDING']);
    expect(await kit.paidOut(currency)).toBe(20n * UNIT);
    const [, second] = who;
    if (second === undefined) throw new Error('There are two.');
    expect((await kit.balance(second)).held).toBe(30n * UNIT);
    // Corrected, the rest of it is not lost.
    await kit.say([good]);
    expect(await stateOf(batchId)).toBe('SETTLED');
  });
});

describe('a payout is resolved by hand', () => {
  test('only when it is unknown, and with a reference when it was paid', async () => {
    const { payouts } = await sent(20n * UNIT);
    const { outcomes } = kit.payouts;
    const payoutId = payouts[0]?.id ?? '';
    const resolve = (outcome: 'PAID' | 'FAILED', bankReference: string | null) =>
      codeOf(outcomes.resolveUnknown(kit.drafter, { payoutId, outcome, bankReference }));
    expect(await resolve('PAID', 'B-1')).toBe('PAYOUT_STATE');
    await kit.say([said(payouts[0], 'UNKNOWN', null)]);
    expect(await resolve('PAID', null)).toBe('BAD_INPUT');
    expect(await resolve('PAID', 'a\nb')).toBe('BAD_INPUT');
    expect(await resolve('FAILED', null)).toBeNull();
    const stranger = { payoutId: randomUUID(), outcome: 'FAILED', bankReference: null } as const;
    expect(await codeOf(outcomes.resolveUnknown(kit.drafter, stranger))).toBe('NOT_FOUND');
  });
});

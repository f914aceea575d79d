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

/** Every payment of the bank has a reference of its own. */
const said = (
  payout: Payout | undefined,
  state: string,
  reference: string | null = `B-${payout?.id}`,
): Said => ({
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

describe('a payment that came back', () => {
  test('is the beneficiary’s again, once, and is paid with a later batch', async () => {
    const { currency, batchId, who, payouts } = await sent(20n * UNIT);
    const [payout] = payouts;
    const [one] = who;
    if (one === undefined) throw new Error('There is one.');
    await expect(kit.say([said(payout, 'RETURNED', 'R-1')])).rejects.toMatchObject({ code: 'PAYOUT_STATE' });
    await kit.say([said(payout, 'PAID', 'B-20')]);
    // That it failed contradicts that it was paid; what it is called is in the error.
    await expect(kit.say([said(payout, 'FAILED', 'B-20')])).rejects.toMatchObject({
      message: expect.stringContaining('RETURNED'),
    });
    const file = resultsFile([said(payout, 'RETURNED', 'R-1')]);
    const back = await importing(file);
    expect(await importing(file)).toEqual(back);
    // In other words, and what was true before.
    for (const result of [said(payout, 'RETURNED', 'R-1'), said(payout, 'PAID', 'B-20')]) {
      const again = await importing(resultsFile([result], { hash: false, eol: '\n' }));
      expect(again.appliedCount).toBe(0);
    }
    await expect(kit.say([said(payout, 'RETURNED', 'R-2')])).rejects.toMatchObject({ code: 'PAYOUT_STATE' });
    expect(await kit.payoutsOf(batchId)).toMatchObject([
      { state: 'RETURNED', bankReference: 'B-20', returnReference: 'R-1' },
    ]);
    expect(await stateOf(batchId)).toBe('SETTLED');
    expect(await kit.paidOut(currency)).toBe(0n);
    expect(await kit.balance(one)).toMatchObject({ posted: 20n * UNIT, held: 0n });
    expect(await kit.events(payout?.id ?? '')).toEqual(['PENDING', 'SENDING', 'PAID', 'RETURNED']);
    const period = new Date(kit.clock.nowMs()).toISOString().slice(0, 7);
    const statement = await kit.payouts.earnings.statement(one.principal, {
      tenantId: null,
      currency,
      period,
    });
    expect(statement).toMatchObject({
      paid: 20n * UNIT,
      returned: 20n * UNIT,
      corrections: [],
      closing: 20n * UNIT,
    });
    // It is past the holdback window again, in which another destination can be named.
    expect(await codeOf(kit.create(currency))).toBe('PAYOUT_NOTHING_DUE');
    kit.clock.advance(kit.options.holdbackMs + 1);
    expect(await kit.create(currency)).toMatchObject({ payoutCount: 1, totalNano: 20n * UNIT });
  });
});

describe('one payment of the bank', () => {
  test('pays one payout, whatever becomes of it', async () => {
    const { payouts } = await sent(20n * UNIT, 30n * UNIT, 40n * UNIT);
    const [one, two, three] = payouts;
    const twice = [said(one, 'PAID', 'B-30'), said(two, 'PAID', 'B-30')];
    const refused = {
      code: 'PAYOUT_STATE',
      message: expect.stringContaining('B-30 has paid another payout'),
    };
    await expect(kit.say(twice)).rejects.toMatchObject({ ...refused, meta: { line: 3 } });
    await kit.say([said(one, 'PAID', 'B-30'), said(three, 'UNKNOWN', null)]);
    await expect(kit.say([said(two, 'PAID', 'B-30')])).rejects.toMatchObject({
      ...refused,
      meta: { line: 2 },
    });
    await kit.say([said(one, 'RETURNED', 'R-30')]);
    const input = { payoutId: three?.id ?? '', outcome: 'PAID', bankReference: 'B-30' } as const;
    await expect(kit.payouts.outcomes.resolveUnknown(kit.drafter, input)).rejects.toMatchObject({
      ...{ code: 'PAYOUT_STATE', field: 'bankReference' },
    });
    // The database says so too.
    const behind = kit.db.admin(
      `DO $$ BEGIN SET LOCAL session_replication_role = replica;
         UPDATE payout SET state = 'PAID', bank_reference = 'B-30' WHERE id = '${two?.id}'; END $$`,
    );
    await expect(behind).rejects.toMatchObject({ constraint: 'payout_bank_reference_key' });
  });
});

describe('of a large batch', () => {
  test('that a payment failed or came back is said by two people', async () => {
    const large = kit.options.secondPersonAboveNano + UNIT;
    const { currency, batchId, payouts } = await sent(large, 20n * UNIT, 30n * UNIT);
    const [one, two, three] = payouts;
    const { outcomes } = kit.payouts;
    const waits = { code: 'PAYOUT_SECOND_PERSON' };
    const states = async () => {
      const found = await kit.payoutsOf(batchId);
      return payouts.map(({ id }) => found.find((payout) => payout.id === id)?.state);
    };
    const failed = resultsFile([
      said(one, 'FAILED', null),
      said(two, 'PAID', 'B-40'),
      said(three, 'UNKNOWN', null),
    ]);
    // Whoever says it once more is still one person.
    for (let i = 0; i < 2; i += 1) await expect(importing(failed)).rejects.toMatchObject(waits);
    expect(await states()).toEqual(['SENDING', 'SENDING', 'SENDING']);
    expect(await kit.paidOut(currency)).toBe(0n);
    expect(await outcomes.importResults(kit.approver, failed)).toMatchObject({ appliedCount: 3 });
    expect(await states()).toEqual(['FAILED', 'PAID', 'UNKNOWN']);

    const back = resultsFile([said(two, 'RETURNED', 'R-40')]);
    await expect(importing(back)).rejects.toMatchObject(waits);
    await outcomes.importResults(kit.approver, back);
    const input = { payoutId: three?.id ?? '', outcome: 'FAILED', bankReference: null } as const;
    await expect(outcomes.resolveUnknown(kit.approver, input)).rejects.toMatchObject(waits);
    expect((await outcomes.resolveUnknown(kit.drafter, input)).state).toBe('FAILED');
    expect(await states()).toEqual(['FAILED', 'RETURNED', 'FAILED']);
    expect(await stateOf(batchId)).toBe('SETTLED');
    const audit = await kit.db.admin<{ action: string }>(
      `SELECT action FROM audit_log WHERE action = 'payout.requestRelease' AND actor_key_id = ANY ($1)`,
      [[kit.drafter.keyId, kit.approver.keyId]],
    );
    expect(audit).toHaveLength(4);
  });

  test('is what the database wants as well', async () => {
    const { payouts } = await sent(kit.options.secondPersonAboveNano + UNIT);
    const release = (first: string | null, second: string | null) =>
      kit.db.database.withSystemPg((client) =>
        client.query(
          `UPDATE payout SET state = 'FAILED', release_requested_by = $1, released_by = $2 WHERE id = $3`,
          [first, second, payouts[0]?.id],
        ),
      );
    const { keyId } = kit.drafter;
    await expect(release(keyId, keyId)).rejects.toMatchObject({ constraint: 'payout_second_person' });
    await expect(release(null, keyId)).rejects.toMatchObject({ code: '42501' });
  });
});

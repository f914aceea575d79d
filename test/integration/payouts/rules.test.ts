import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sqlState } from '../../../src/db/errors.ts';
import { newId } from '../../../src/kernel/ids.ts';
import { runOn, voidAll } from '../../../src/ledger/statements.ts';
import { type Beneficiary, newCurrency, openPayoutsKit, type PayoutsKit, UNIT } from './kit.ts';

// What the database refuses, whatever the program does: everything here goes past the services.

let kit: PayoutsKit;
let who: Beneficiary;
let batchId: string;
let payoutId: string;
let holdId: string;

beforeAll(async () => {
  kit = await openPayoutsKit();
  const currency = newCurrency();
  who = await kit.beneficiary(currency);
  await kit.earn(who, currency, 20n * UNIT);
  kit.clock.advance(kit.options.holdbackMs + 1);
  ({ id: batchId } = await kit.submitted(currency));
  [{ id: payoutId, hold_id: holdId } = { id: '', hold_id: '' }] = await kit.db.admin<{
    id: string;
    hold_id: string;
  }>('SELECT id, hold_id FROM payout WHERE batch_id = $1', [batchId]);
});
afterAll(() => kit.dispose());

/** The SQLSTATE, and constraint, that statements of the program end with; `ok` when they commit. */
async function outcome(...statements: readonly (readonly [string, ...unknown[]])[]): Promise<string> {
  try {
    await kit.db.database.withSystemPg(async (client) => {
      for (const [text, ...values] of statements) await client.query(text, values);
    });
    return 'ok';
  } catch (error) {
    const constraint =
      typeof error === 'object' && error !== null && 'constraint' in error ? ` ${error.constraint}` : '';
    return `${sqlState(error)}${constraint === ' undefined' ? '' : constraint}`;
  }
}

const setPayout = (state: string, reference: string | null = null) =>
  [
    `UPDATE payout SET state = $1, bank_reference = $2, release_requested_by = $4, released_by = $4 WHERE id = $3`,
    ...[state, reference, payoutId, kit.drafter.keyId],
  ] as const;

describe('a payout', () => {
  test('does not change its state without the ledger, nor the ledger without it', async () => {
    expect(await outcome(setPayout('PAID', 'B'))).toBe('23514 payout_fits_ledger');
    expect(await outcome(setPayout('FAILED'))).toBe('23514 payout_fits_ledger');
    // Paid, and the money given back.
    const released = kit.db.database.withSystemPg(async (client) => {
      await client.query('UPDATE payout SET state = $1, bank_reference = $2 WHERE id = $3', [
        'PAID',
        'B',
        payoutId,
      ]);
      await voidAll(runOn(client), [{ id: newId(kit.clock), holdId }], null);
    });
    await expect(released).rejects.toMatchObject({ constraint: 'payout_fits_ledger' });
  });

  test('goes forward only', async () => {
    for (const state of ['PENDING', 'CANCELLED', 'SENDING', 'RETURNED'])
      expect(await outcome(setPayout(state))).toBe('42501');
    expect(await outcome(setPayout('SENT'))).toMatch(/^42501|^23514/);
    expect(await outcome(setPayout('PAID'))).toBe('23514 payout_paid_by');
  });

  test('keeps what it pays, and is never removed, not even by the owner of the database', async () => {
    for (const change of [
      'amount_nano = amount_nano + 1',
      `payment_key = sha256('x')`,
      'hold_id = gen_random_uuid()',
    ]) {
      expect(await outcome([`UPDATE payout SET ${change}`])).toBe('42501');
      await expect(kit.db.admin(`UPDATE payout SET ${change}`)).rejects.toMatchObject({ code: '42501' });
    }
    const tables = ['payout_destination', 'payout_import', 'payout_result', 'payout_release'];
    for (const table of ['payout', 'payout_batch', ...tables]) {
      expect(await outcome([`DELETE FROM ${table}`])).toBe('42501');
      await expect(kit.db.admin(`TRUNCATE ${table} CASCADE`)).rejects.toMatchObject({ code: '42501' });
    }
    for (const table of ['payout', 'payout_batch', 'payout_destination']) {
      await expect(kit.db.admin(`DELETE FROM ${table}`)).rejects.toMatchObject({ code: '42501' });
    }
  });

  test('cannot be added to a batch later, nor with a key that is not the one of its content', async () => {
    const copy = (changes: object) =>
      [
        `INSERT INTO payout SELECT (jsonb_populate_record(p, $1)).* FROM payout p WHERE p.id = $2`,
        JSON.stringify({
          id: newId(kit.clock),
          hold_id: newId(kit.clock),
          line: 2,
          state: 'PENDING',
          ...changes,
        }),
        payoutId,
      ] as const;
    expect(await outcome(copy({}))).toBe('23514 payout_fits_batch');
    const currency = newCurrency();
    const other = await kit.beneficiary(currency);
    await kit.earn(other, currency, 20n * UNIT);
    kit.clock.advance(kit.options.holdbackMs + 1);
    const draft = await kit.create(currency);
    const values = { batch_id: draft.id, currency, earned_before: draft.earnedBefore.toISOString() };
    expect(await outcome(copy(values))).toBe('23514 payout_fits_batch');
    expect(await outcome(copy({ ...values, line: 1 }))).toBe('23514 payout_key_of_content');
  });
});

describe('a batch', () => {
  const set = (text: string) => [`UPDATE payout_batch SET ${text} WHERE id = $1`, batchId] as const;

  test('goes forward only, and keeps what it pays', async () => {
    for (const state of ['DRAFT', 'APPROVED', 'SUBMITTING', 'CANCELLED', 'SUBMITTED']) {
      expect(await outcome(set(`state = '${state}'`)), state).toBe('42501');
    }
    await expect(kit.db.admin(`UPDATE payout_batch SET total_nano = total_nano + 1`)).rejects.toMatchObject({
      code: '42501',
    });
    expect(await outcome(set(`approved_by = drafted_by`))).toBe('42501');
  });

  test('is not settled while a payout is open', async () => {
    expect(await outcome(set(`state = 'SETTLED', closed_at = now()`))).toBe(
      '23514 payout_batch_fits_payouts',
    );
  });

  test('begins as an operator’s draft, and its payouts are all of it', async () => {
    const row = (changes: object) =>
      [
        `INSERT INTO payout_batch SELECT (jsonb_populate_record(b, $1)).* FROM payout_batch b WHERE b.id = $2`,
        JSON.stringify({
          ...{
            id: newId(kit.clock),
            state: 'DRAFT',
            approved_by: null,
            approved_at: null,
            submitting_at: null,
          },
          ...{ submitted_at: null, rail_reference: null, rail_sha256: null, ...changes },
        }),
        batchId,
      ] as const;
    expect(await outcome(row({}))).toBe('23514 payout_batch_adds_up');
    expect(await outcome(row({ drafted_by: who.principal.keyId }))).toBe('42501');
    expect(
      await outcome(row({ state: 'APPROVED', approved_by: kit.approver.keyId, approved_at: new Date() })),
    ).toBe('42501');
  });

  test('is approved by an operator only', async () => {
    const currency = newCurrency();
    const other = await kit.beneficiary(currency);
    await kit.earn(other, currency, 20n * UNIT);
    kit.clock.advance(kit.options.holdbackMs + 1);
    const { id } = await kit.create(currency);
    const text = `UPDATE payout_batch SET state = 'APPROVED', approved_by = $1, approved_at = now() WHERE id = $2`;
    expect(await outcome([text, other.principal.keyId, id])).toBe('42501');
    expect(
      await outcome([
        `UPDATE payout_batch SET state = 'SUBMITTING', submitting_at = now() WHERE id = $1`,
        id,
      ]),
    ).toBe('42501');
  });
});

describe('a tenant', () => {
  test('sees its own payouts and destinations, no batch, and writes nothing but destinations', async () => {
    const other = await kit.beneficiary(newCurrency(), null);
    const count = (tenantId: string, table: string) =>
      kit.db.database.withTenantPg(
        tenantId,
        async (client) => (await client.query(`SELECT id FROM ${table}`)).rowCount,
      );
    expect([await count(who.tenantId, 'payout'), await count(who.tenantId, 'payout_destination')]).toEqual([
      1, 1,
    ]);
    expect([
      await count(other.tenantId, 'payout'),
      await count(other.tenantId, 'payout_destination'),
    ]).toEqual([0, 0]);
    for (const text of [
      'SELECT id FROM payout_batch',
      'SELECT id FROM payout_import',
      'SELECT line FROM payout_result',
      'SELECT created_at FROM payout_release',
      `UPDATE payout SET state = 'FAILED'`,
      `UPDATE payout_destination SET account_reference = 'EVIL1'`,
      `SELECT patchbay.earnings_payable('{}', now())`,
      `SELECT patchbay.earnings_statement('${who.tenantId}', 'USD', now(), now())`,
    ]) {
      const attempt = kit.db.database.withTenantPg(other.tenantId, (client) => client.query(text));
      await expect(attempt, text).rejects.toMatchObject({ code: '42501' });
    }
    const forged = kit.db.database.withTenantPg(other.tenantId, (client) =>
      client.query(`INSERT INTO payout_destination VALUES ($1, $2, 'FILE', 'Eve', 'EVIL1', now(), now())`, [
        newId(kit.clock),
        who.tenantId,
      ]),
    );
    await expect(forged).rejects.toMatchObject({ code: '42501' });
  });
});

import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { SQLSTATE, sqlState } from '../../../src/db/errors.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { newId } from '../../../src/kernel/ids.ts';
import { captureAll, holdAll, postAll, runAlone } from '../../../src/ledger/statements.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import {
  type Customer,
  capture,
  codeOf,
  createLedger,
  credit,
  hold,
  type TestLedger,
  transfer,
} from './kit.ts';

// What the database enforces whoever writes: these tests go around the functions, as superuser with triggers.

let db: TestDatabase;
let ledger: TestLedger;
let customer: Customer;
beforeAll(async () => {
  db = await createTestDatabase();
  ledger = await createLedger(db);
});
beforeEach(async () => {
  customer = await ledger.customer(1_000n);
});
afterAll(() => db.dispose());

async function refusal(text: string, values: readonly unknown[] = []): Promise<string> {
  try {
    await db.admin(text, values);
    return 'accepted';
  } catch (error) {
    const rule = error instanceof Error && 'constraint' in error ? String(error.constraint) : '';
    return rule === '' || rule === 'undefined' ? String(sqlState(error)) : rule;
  }
}

/** Inserts a transfer with its postings in one statement, so in one transaction. */
function write(
  kind: string,
  amount: string,
  lines: readonly (readonly [string, string])[],
  more = {},
): string {
  const fields = {
    id: `'${newId(systemClock)}'`,
    tenant_id: `'${customer.tenantId}'`,
    kind: `'${kind}'`,
    asset: `'USD'`,
    amount,
    lines: String(lines.length),
    held: '0',
    business_key: `'${newId(systemClock)}'`,
    reference_type: `'test'`,
    created_at: `'2026-01-01'`,
    ...more,
  };
  const postings = lines.map(
    ([account, value], index) =>
      `SELECT ${fields.id}::uuid, ${index + 1}, '${account}'::uuid,
        (SELECT tenant_id FROM ledger_account WHERE id = '${account}'), ${value}, '2026-01-01'::timestamptz`,
  );
  return `WITH t AS (INSERT INTO ledger_transfer (${Object.keys(fields).join(', ')})
      VALUES (${Object.values(fields).join(', ')}))
    INSERT INTO ledger_posting (transfer_id, line, account_id, tenant_id, amount, created_at)
    ${postings.length > 0 ? postings.join(' UNION ALL ') : 'SELECT NULL, 1, NULL, NULL, 1, NULL WHERE false'}`;
}

describe('the database', () => {
  test('accepts a balanced transfer, and counts it', async () => {
    const lines = [
      [customer.accountId, '-5'],
      [ledger.fee, '5'],
    ] as const;
    expect(await refusal(write('SINGLE', '5', lines))).toBe('accepted');
    const [balance] = await ledger.service.balances([customer.accountId]);
    expect(balance?.posted).toBe(995n);
  });

  test('refuses at commit what does not sum to zero, or to the amount, or lacks a line', async () => {
    const pay = (left: string, right: string) => [
      [customer.accountId, left] as const,
      [ledger.fee, right] as const,
    ];
    expect(await refusal(write('SINGLE', '5', pay('-5', '4')))).toBe('ledger_transfer_balanced');
    expect(await refusal(write('SINGLE', '6', pay('-5', '5')))).toBe('ledger_transfer_balanced');
    expect(await refusal(write('SINGLE', '5', pay('-5', '5'), { lines: '3' }))).toBe(
      'ledger_transfer_balanced',
    );
    expect(await refusal(write('SINGLE', '5', [], { lines: '2' }))).toBe('ledger_transfer_balanced');
    expect(await refusal(write('SINGLE', '5', [], { lines: '0' }))).toBe('ledger_transfer_lines_of_amount');
  });

  test('the check waits for the end of the transaction, and no longer', async () => {
    const text = write('SINGLE', '5', [], { lines: '2' });
    expect(await refusal(`BEGIN; ${text}; SELECT 1; ROLLBACK`)).toBe('accepted');
    expect(await refusal(`BEGIN; ${text}; COMMIT`)).toBe('ledger_transfer_balanced');
  });

  test('takes no posting later, of another asset, or under another tenant', async () => {
    const done = transfer(customer, 'done', ledger.cash, 5n);
    await ledger.service.post(done);
    const late = `INSERT INTO ledger_posting SELECT transfer_id, 3, account_id, tenant_id, 1, NULL, created_at
      FROM ledger_posting WHERE transfer_id = $1 AND line = 1`;
    expect(await refusal(late, [done.id])).toBe('ledger_posting_fits');
    const euro = await ledger.service.openAccount(customer.tenantId, 'CUSTOMER', 'EUR');
    const mixed = [
      [customer.accountId, '-5'],
      [euro, '5'],
    ] as const;
    expect(await refusal(write('SINGLE', '5', mixed))).toBe('ledger_posting_fits');
  });

  test.each(['ledger_account', 'ledger_limit', 'ledger_transfer', 'ledger_posting', 'ledger_batch'])(
    '%s is append-only, for its owner too',
    async (table) => {
      await ledger.service.setCreditLimit(customer.accountId, 5n, 'limit');
      await ledger.sealer.run();
      const [row] = await db.admin<{ column: string }>(
        `SELECT column_name AS "column" FROM information_schema.columns WHERE table_name = '${table}' LIMIT 1`,
      );
      expect(await refusal(`UPDATE ${table} SET ${row?.column} = ${row?.column}`)).toBe('42501');
      expect(await refusal(`DELETE FROM ${table}`)).toBe('42501');
      expect(await refusal(`TRUNCATE ${table}`)).toBe('42501');
    },
  );

  test('resolves a hold once, whoever inserts the second resolution', async () => {
    const held = hold(customer.accountId, 10n);
    await ledger.service.hold(held, 'request');
    await ledger.service.capture(capture(held.id, [credit(ledger.fee, 4n)]));
    const again = write('VOID', '0', [], {
      account_id: `'${customer.accountId}'`,
      held: '10',
      pending_id: `'${held.id}'`,
      business_key: 'NULL',
    });
    expect(await refusal(again)).toBe('ledger_transfer_pending_id_key');
  });

  test('resolves a hold only as what it is', async () => {
    const held = hold(customer.accountId, 10n);
    await ledger.service.hold(held, 'request');
    const resolve = (more: object) =>
      write('VOID', '0', [], {
        account_id: `'${customer.accountId}'`,
        held: '10',
        pending_id: `'${held.id}'`,
        business_key: 'NULL',
        ...more,
      });
    expect(await refusal(resolve({ held: '9' }))).toBe('ledger_transfer_fits_pending');
    expect(await refusal(resolve({ account_id: `'${ledger.fee}'` }))).toBe('ledger_transfer_fits_pending');
    expect(await refusal(resolve({ pending_id: `'${newId(systemClock)}'` }))).toBe(
      'ledger_transfer_fits_pending',
    );
    expect(await refusal(resolve({ business_key: `'x'` }))).toBe('ledger_transfer_key');
    // A POST must take the money from the account that was held.
    const other = [
      [ledger.cash, '-4'],
      [ledger.fee, '4'],
    ] as const;
    const post = write('POST', '4', other, {
      account_id: `'${customer.accountId}'`,
      held: '10',
      pending_id: `'${held.id}'`,
      business_key: 'NULL',
    });
    expect(await refusal(post)).toBe('ledger_transfer_balanced');
    expect(await refusal(resolve({}))).toBe('accepted');
  });

  test('lets no balance pass its limit', async () => {
    const take = (amount: string) =>
      write('SINGLE', amount, [
        [customer.accountId, `-${amount}`],
        [ledger.fee, amount],
      ]);
    expect(await refusal(take('1001'))).toBe('ledger_balance_within_limit');
    await ledger.service.setCreditLimit(customer.accountId, 1n, 'limit');
    expect(await refusal(take('1001'))).toBe('accepted');
    expect(await refusal(take('1'))).toBe('ledger_balance_within_limit');
    expect(await codeOf(ledger.service.setCreditLimit(customer.accountId, 0n, 'lower'))).toBe(
      'BUDGET_EXCEEDED',
    );
  });

  test('a role of the program can write no table of the ledger itself', async () => {
    const rows = await db.admin(
      `SELECT c.relname, role, privilege FROM pg_class c, unnest(ARRAY['patchbay_app', 'patchbay_system']) role,
         unnest(ARRAY['INSERT', 'UPDATE', 'DELETE']) privilege
       WHERE c.relname LIKE 'ledger\\_%' AND c.relkind = 'r'
         AND (has_table_privilege(role, c.oid, privilege) OR has_any_column_privilege(role, c.oid, 'UPDATE'))`,
    );
    expect(rows).toEqual([]);
  });
});

describe('amounts', () => {
  test('beyond 2^53 are exact, up to the largest, which is refused beyond', async () => {
    const rich = await ledger.customer(10n ** 18n);
    await ledger.topUp(rich, 1n);
    const held = hold(rich.accountId, 10n ** 18n);
    await ledger.service.hold(held, 'request');
    const [before] = await ledger.service.balances([rich.accountId]);
    expect(before).toMatchObject({ posted: 10n ** 18n + 1n, held: 10n ** 18n, available: 1n });
    await ledger.service.capture(capture(held.id, [credit(ledger.fee, 2n ** 53n + 1n)]));
    const [after] = await ledger.service.balances([rich.accountId]);
    expect(after?.available).toBe(10n ** 18n - 2n ** 53n);
    expect(await codeOf(ledger.topUp(rich, 10n ** 18n + 1n))).toBe('LEDGER_INVALID');
    expect(await codeOf(ledger.topUp(rich, 2n ** 63n))).toBe('LEDGER_INVALID');
  });

  test('sums of accounts without a limit pass 2^63', async () => {
    const beneficiary = await ledger.beneficiary();
    for (let i = 0; i < 10; i++) {
      const rich = await ledger.customer(10n ** 18n);
      const held = hold(rich.accountId, 10n ** 18n);
      await ledger.service.hold(held, 'request');
      await ledger.service.capture(capture(held.id, [credit(beneficiary.accountId, 10n ** 18n)]));
      if (i % 3 === 0) await ledger.sealer.run();
    }
    const [balance] = await ledger.service.balances([beneficiary.accountId]);
    expect(balance?.posted).toBe(10n ** 19n);
    await ledger.sealer.run();
    expect(await ledger.service.balances([beneficiary.accountId])).toEqual([balance]);
  });

  test('of nothing are held and captured', async () => {
    const poor = await ledger.customer();
    const held = hold(poor.accountId, 0n);
    expect((await ledger.service.hold(held, 'request')).outcome).toBe('HELD');
    expect((await ledger.service.capture(capture(held.id, []))).outcome).toBe('POSTED');
  });
});

describe('batches', () => {
  const run = () => runAlone(db.database);

  test('let in each hold that fits behind those before it, and say why others are not', async () => {
    const asked = [700n, 400n, 300n, 1n].map((amount) => hold(customer.accountId, amount));
    const unknown = hold(newId(systemClock), 1n);
    const results = await holdAll(run(), [...asked, unknown], 'request', null);
    expect(results.map(({ outcome }) => outcome)).toEqual(['HELD', 'REFUSED', 'HELD', 'REFUSED', 'UNKNOWN']);
    expect(results[1]?.available).toBe(1_000n);
  });

  test('a hold beyond the balance is BUDGET_EXCEEDED with what is available', async () => {
    const asked = hold(customer.accountId, 1_001n);
    const error = await ledger.service.hold(asked, 'request').catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(PatchbayError);
    expect(error).toMatchObject({
      code: 'BUDGET_EXCEEDED',
      meta: { amount: '1001', available: '1000', accountId: customer.accountId },
    });
  });

  test('a capture whose credits are not its amount undoes its call', async () => {
    const held = hold(customer.accountId, 10n);
    await ledger.service.hold(held, 'request');
    const wrong = { ...capture(held.id, [credit(ledger.fee, 4n)]), amount: 5n };
    expect(await codeOf(ledger.service.capture(wrong))).toBe('LEDGER_INVALID');
    const stranger = capture(held.id, [credit(newId(systemClock), 4n)]);
    expect(await codeOf(ledger.service.capture(stranger))).not.toBeNull();
    expect(await codeOf(ledger.service.capture(capture(held.id, [credit(ledger.fee, 11n)])))).toBe(
      'LEDGER_INVALID',
    );
    expect(await codeOf(ledger.service.void({ id: newId(systemClock), holdId: held.id }))).toBeNull();
  });

  test('the same twice in a batch is made once', async () => {
    const held = hold(customer.accountId, 10n);
    const twice = await holdAll(run(), [held, { ...held, id: newId(systemClock) }], 'request', null);
    expect(twice).toEqual([
      { id: held.id, outcome: 'HELD', available: 1_000n },
      { id: held.id, outcome: 'REPLAYED', available: 1_000n },
    ]);
    const first = capture(held.id, [credit(ledger.fee, 4n)]);
    const others = [first, capture(held.id, [credit(ledger.base, 4n)]), capture(held.id, [])];
    const results = await captureAll(run(), [first, ...others], null);
    expect(results.map(({ outcome }) => outcome)).toEqual(['POSTED', 'REPLAYED', 'RESOLVED', 'RESOLVED']);
    const paid = transfer(customer, 'paid', ledger.cash, 5n);
    const posted = await postAll(
      run(),
      [paid, paid, { ...paid, lines: transfer(customer, 'paid', ledger.cash, 6n).lines }],
      null,
    );
    expect(posted.map(({ outcome }) => outcome)).toEqual(['POSTED', 'REPLAYED', 'CONFLICT']);
  });

  test('a payout holds earnings, sealed or not, and no more than those', async () => {
    const owner = await ledger.beneficiary();
    for (const amount of [30n, 20n]) {
      const held = hold(customer.accountId, amount);
      await ledger.service.hold(held, 'request');
      await ledger.service.capture(capture(held.id, [credit(owner.accountId, amount)]));
      if (amount === 30n) await ledger.sealer.run();
    }
    expect(await codeOf(ledger.service.hold(hold(owner.accountId, 51n), 'payout'))).toBe('BUDGET_EXCEEDED');
    const payout = hold(owner.accountId, 40n);
    await ledger.service.hold(payout, 'payout');
    expect(await codeOf(ledger.service.hold(hold(owner.accountId, 11n), 'payout'))).toBe('BUDGET_EXCEEDED');
    await ledger.service.capture(capture(payout.id, [credit(ledger.cash, 40n)]));
    const [balance] = await ledger.service.balances([owner.accountId]);
    expect(balance).toMatchObject({ posted: 10n, held: 0n, available: 10n });
  });

  test('two uses of a key at once on two accounts: one is made, the other is told', async () => {
    const second = {
      tenantId: customer.tenantId,
      accountId: await ledger.service.openAccount(customer.tenantId, 'EARNINGS', 'USD'),
    };
    const results = await Promise.all(
      [customer.accountId, second.accountId].map((accountId) =>
        codeOf(ledger.service.hold(hold(accountId, 0n, { key: 'one key' }), 'request')),
      ),
    );
    expect(results.toSorted()).toEqual(['LEDGER_CONFLICT', null].toSorted());
  });

  test('the system role needs no more than the functions', async () => {
    const direct = db.database.querySystem('DELETE FROM ledger_open_hold', []);
    const state = await direct.then(() => null, sqlState);
    expect(state).toBe(SQLSTATE.insufficientPrivilege);
  });
});

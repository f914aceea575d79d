import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { FACT_COLUMNS } from '../../../src/ledger/encoding.ts';
import { type LedgerReport, verifyLedger } from '../../../src/ledger/verify.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { capture, createLedger, credit, hold, type TestLedger } from './kit.ts';

let db: TestDatabase;
let ledger: TestLedger;
let superuser: pg.Client;
beforeAll(async () => {
  db = await createTestDatabase();
  superuser = new pg.Client({ connectionString: db.adminUrl });
  await superuser.connect();
  await superuser.query('SET session_replication_role = replica');
  ledger = await createLedger(db);
  const customer = await ledger.customer(10n ** 17n + 1n);
  const owner = await ledger.beneficiary();
  await ledger.service.setCreditLimit(customer.accountId, 500n, 'limit');
  for (let i = 0n; i < 3n; i++) {
    const expiresAt = i === 0n ? new Date(ledger.clock.nowMs() + 1000) : null;
    const asked = hold(customer.accountId, 100n + i, { referenceId: customer.tenantId, expiresAt });
    await ledger.service.hold(asked, 'request');
    // The last one stays open.
    if (i < 2n) {
      const credits = [credit(ledger.fee, 10n), credit(owner.accountId, 20n + i, customer.tenantId)];
      await ledger.service.capture(capture(asked.id, credits));
    }
    await ledger.sealer.run();
  }
  const open = hold(customer.accountId, 9n, { expiresAt: new Date(ledger.clock.nowMs() + 99) });
  await ledger.service.hold(open, 'request');
});
afterAll(async () => {
  await superuser.end();
  await db.dispose();
});

/** What a superuser can do who also disables the triggers, and takes it back afterwards. */
async function tampered(statements: string): Promise<LedgerReport> {
  await superuser.query(statements);
  return verifyLedger(db.database);
}

/** Changes one row with the triggers disabled; returns where it is now. */
async function update(
  table: string,
  assignment: string,
  ctid: string,
  values: readonly unknown[] = [],
): Promise<string> {
  const text = `UPDATE ${table} SET ${assignment} WHERE ctid = '${ctid}' RETURNING ctid::text`;
  const { rows } = await superuser.query<{ ctid: string }>(text, [...values]);
  expect(rows).toHaveLength(1);
  return rows[0]?.ctid ?? '';
}

interface Column {
  readonly table: string;
  readonly column: string;
  readonly type: string;
}

async function columns(): Promise<Column[]> {
  return db.admin<{ table: string; column: string; type: string }>(
    `SELECT table_name AS "table", column_name AS "column", udt_name AS type FROM information_schema.columns
     WHERE table_schema = 'public' AND table_name LIKE 'ledger\\_%' ORDER BY table_name, ordinal_position`,
  );
}

/** SQL for another value of the same type: the smallest change that there is. */
function flipped({ column, type }: Column): string {
  const name = `"${column}"`;
  if (type === 'uuid') {
    // The last bit of the id.
    return `coalesce(overlay(${name}::text placing to_hex((('x' || right(${name}::text, 1))::bit(4)::int) # 1)
      from 36)::uuid, '00000000-0000-7000-8000-000000000001')`;
  }
  if (type === '_uuid') return `${name}[2:] || '00000000-0000-7000-8000-000000000001'::uuid`;
  if (type === 'text') return `coalesce(${name}, '') || 'X'`;
  if (type === 'bytea') return `set_bit(${name}, 0, 1 - get_bit(${name}, 0))`;
  if (type === 'timestamptz') return `coalesce(${name} + interval '1 microsecond', now())`;
  if (type === 'bool') return `NOT ${name}`;
  // Further than the next one where another row may have that.
  const step = column === 'line' || column === 'sequence' ? 50 : 1;
  return `coalesce(${name}, 0) + ${step}`;
}

/** Tables whose rows are copied before and put back after each change. */
const TABLES = [
  'ledger_account',
  'ledger_limit',
  'ledger_transfer',
  'ledger_posting',
  'ledger_balance',
  'ledger_fold',
  'ledger_open_hold',
  'ledger_unsealed',
  'ledger_batch',
];

const restore = TABLES.map(
  (name) => `DELETE FROM ${name}; INSERT INTO ${name} SELECT * FROM saved_${name}`,
).join('; ');

async function dropChecks(): Promise<void> {
  // Checks would refuse some of the changes; whoever is superuser can drop them, and the verifier must not need them.
  const checks = await db.admin<{ text: string }>(
    `SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS text
     FROM pg_constraint WHERE contype = 'c' AND conrelid::regclass::text LIKE 'ledger\\_%'`,
  );
  for (const { text } of checks) await db.admin(text);
}

describe('ledger verify', () => {
  beforeAll(async () => {
    await dropChecks();
    for (const name of TABLES) await db.admin(`CREATE TABLE saved_${name} AS SELECT * FROM ${name}`);
  });
  beforeEach(async () => {
    await superuser.query(restore);
  });

  test('finds nothing in what nobody changed', async () => {
    const report = await verifyLedger(db.database);
    expect(report.problems).toEqual([]);
    expect(report.batches).toBe(3);
    expect(report.unsealed).toBe(1);
  });

  test('finds one changed value in every column of every ledger table, in every row', async () => {
    const all = await columns();
    expect(new Set(all.map(({ table }) => table))).toEqual(new Set(TABLES));
    const missed: string[] = [];
    let changes = 0;
    for (const table of TABLES) {
      const sealed = isFact(table) ? SEALED[table] : 'true';
      const rows = await db.admin<{ ctid: string }>(`SELECT ctid::text FROM ${table} WHERE ${sealed}`);
      expect(rows.length).toBeGreaterThan(0);
      for (const row of rows) {
        let at = row.ctid;
        for (const column of all.filter((candidate) => candidate.table === table)) {
          const name = `"${column.column}"`;
          const [before] = await db.admin<{ value: string | null }>(
            `SELECT ${name}::text AS value FROM ${table} WHERE ctid = '${at}'`,
          );
          at = await update(table, `${name} = ${flipped(column)}`, at);
          const { problems } = await verifyLedger(db.database, { problemsMax: 1 });
          if (problems.length === 0) missed.push(`${table}.${column.column}, which was ${before?.value}`);
          at = await update(table, `${name} = $1::text::${column.type}`, at, [before?.value]);
          changes += 1;
        }
      }
    }
    expect(missed).toEqual([]);
    expect(changes).toBeGreaterThan(200);
    expect((await verifyLedger(db.database)).problems).toEqual([]);
  }, 300_000);

  test('names the batch and the row of a changed posting, and of nothing else', async () => {
    const [posting] = await db.admin<{ transfer_id: string; line: number; sequence: string }>(
      `SELECT p.transfer_id, p.line, b.sequence::text FROM ledger_posting p
       JOIN ledger_batch b ON p.transfer_id = ANY (b.transfer_ids)
       WHERE b.sequence = 2 AND p.line = 2 AND p.amount = 10`,
    );
    const { problems } = await tampered(
      `UPDATE ledger_posting SET subject_id = '00000000-0000-7000-8000-000000000001'
       WHERE transfer_id = '${posting?.transfer_id}' AND line = 2`,
    );
    expect(problems).toEqual([
      {
        batch: 2n,
        table: 'ledger_posting',
        row: `${posting?.transfer_id}/2`,
        message: 'The row is not the one that was sealed.',
      },
    ]);
  });

  test('finds money that was moved with all sums kept', async () => {
    const { problems } = await tampered(
      `UPDATE ledger_posting SET account_id = '${ledger.base}', tenant_id = tenant_id WHERE account_id = '${ledger.fee}';
       UPDATE ledger_fold SET account_id = '${ledger.base}' WHERE account_id = '${ledger.fee}'`,
    );
    expect(problems[0]).toMatchObject({ batch: 1n, table: 'ledger_posting' });
  });

  test.each([
    ['a posting', `DELETE FROM ledger_posting WHERE line = 2 AND amount = 10`, 'ledger_posting', 1n],
    ['a transfer', `DELETE FROM ledger_transfer WHERE kind = 'POST'`, 'ledger_transfer', 1n],
    ['a limit', 'DELETE FROM ledger_limit', 'ledger_limit', 1n],
    ['a batch', 'DELETE FROM ledger_batch WHERE sequence = 2', 'ledger_batch', 3n],
    [
      'a transfer that waits',
      `DELETE FROM ledger_transfer WHERE held = 9; DELETE FROM ledger_open_hold o
       WHERE NOT EXISTS (SELECT FROM ledger_transfer t WHERE t.id = o.transfer_id);
       UPDATE ledger_balance SET held = held - 9 WHERE held > 0`,
      'ledger_transfer',
      null,
    ],
  ])('finds %s that was removed', async (_, statements, table, batch) => {
    const { problems } = await tampered(statements);
    expect(problems[0]).toMatchObject({ table, batch });
  });

  test('finds a transfer that was put in, complete and with its balances', async () => {
    const { problems } = await tampered(
      `INSERT INTO ledger_transfer SELECT gen_random_uuid(), tenant_id, 'VOID', asset, 0, 0, account_id, held, id, NULL,
         reference_type, reference_id, NULL, created_at FROM ledger_transfer WHERE held = 102;
       DELETE FROM ledger_open_hold USING ledger_transfer t WHERE t.id = transfer_id AND t.held = 102;
       UPDATE ledger_balance SET held = held - 102 WHERE held > 0`,
    );
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatchObject({ table: 'ledger_transfer', batch: null });
  });

  test('finds a posting that was added to a transfer', async () => {
    const { problems } = await tampered(
      `INSERT INTO ledger_posting SELECT transfer_id, 9, account_id, tenant_id, 1, NULL, created_at
       FROM ledger_posting WHERE line = 2 AND amount = 10 LIMIT 1`,
    );
    expect(problems[0]).toMatchObject({ table: 'ledger_posting', batch: null });
    expect(problems[0]?.row).toMatch(/\/9$/);
  });

  test('a tail that was cut is found with a head that was kept, and only so', async () => {
    const { head } = await verifyLedger(db.database);
    const cut = `
      DELETE FROM ledger_transfer t USING ledger_batch b WHERE b.sequence = 3 AND t.id = ANY (b.transfer_ids);
      UPDATE ledger_balance SET held = held - 102 WHERE held > 0;
      DELETE FROM ledger_open_hold o WHERE NOT EXISTS (SELECT FROM ledger_transfer t WHERE t.id = o.transfer_id);
      DELETE FROM ledger_batch WHERE sequence = 3`;
    expect((await tampered(cut)).problems).toEqual([]);
    const expected = head === null ? {} : { expected: head };
    const { problems } = await verifyLedger(db.database, expected);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatchObject({ batch: 3n, table: 'ledger_batch' });
  });
});

type FactTable = 'ledger_account' | 'ledger_limit' | 'ledger_transfer' | 'ledger_posting';

/** Rows that a batch holds: nothing vouches yet for the bytes of the others. */
const SEALED: Readonly<Record<FactTable, string>> = {
  ledger_account: 'id = ANY (ARRAY(SELECT unnest(account_ids) FROM ledger_batch))',
  ledger_limit: 'id = ANY (ARRAY(SELECT unnest(limit_ids) FROM ledger_batch))',
  ledger_transfer: 'id = ANY (ARRAY(SELECT unnest(transfer_ids) FROM ledger_batch))',
  ledger_posting: 'transfer_id = ANY (ARRAY(SELECT unnest(transfer_ids) FROM ledger_batch))',
};

function isFact(table: string): table is FactTable {
  return Object.hasOwn(SEALED, table);
}

test('the chain covers every column of the tables of facts, in their order', async () => {
  for (const [fact, named] of Object.entries(FACT_COLUMNS)) {
    const rows = (await columns()).filter(({ table }) => table === `ledger_${fact}`);
    expect(rows.map(({ column }) => column)).toEqual(Object.keys(named));
  }
});

import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { reconcile } from '../../../src/reconciliation/reconcile.ts';
import {
  RECONCILIATION_RULES,
  type ReconciliationRule,
  type ReconciliationScope,
} from '../../../src/reconciliation/types.ts';
import { cli } from '../../unit/cli/fake-io.ts';
import { FEBRUARY, openWorld, SPRING, type World } from './world.ts';

const NEW_ID = '0192f000-0000-7000-8000-0000000000ab';
const OTHER_ID = '0192f000-0000-7000-8000-0000000000ac';

let world: World;
let superuser: pg.Client;
/** A request of the open customer on one adapter, and what was captured for it. */
let request: { readonly id: Uuid; readonly amount: string; readonly hold: Uuid; readonly capture: Uuid };
/** Of its stream that was left. */
let leftId: Uuid;

beforeAll(async () => {
  world = await openWorld();
  superuser = new pg.Client({ connectionString: world.kit.db.adminUrl });
  await superuser.connect();
  // What a superuser can do who also disables the triggers.
  await superuser.query('SET session_replication_role = replica');
  const [found] = await world.kit.db.admin<typeof request>(
    `SELECT r.id, r.amount_nano::text AS amount, r.hold_id AS hold, t.id AS capture
     FROM usage_record r JOIN ledger_transfer t ON t.pending_id = r.hold_id
     JOIN usage_charge c ON c.request_id = r.id
     WHERE r.tenant_id = $1 AND r.finish_reason = 'stop' AND c.adapter_version_id = $2 AND c.share_denominator = 1`,
    [world.customers.open, world.versionId],
  );
  if (found === undefined) throw new Error('The open customer has a request on one adapter.');
  request = found;
  const [left] = await world.kit.db.admin<{ id: Uuid }>(
    `SELECT id FROM usage_record WHERE finish_reason = 'cancelled'`,
  );
  leftId = left?.id ?? '';
});
afterAll(async () => {
  await superuser.end();
  await world.dispose();
});

const report = (scope: Partial<ReconciliationScope> = {}) =>
  reconcile(world.database, { ...SPRING, tenantId: null, ...scope });

/** Runs `patchbay reconcile` on the world's database. */
const run = (...flags: string[]) =>
  cli(['reconcile', '--from', '2024-02-01', '--to', '2024-04-01', ...flags], {
    environment: { DATABASE_URL: world.kit.db.adminUrl, PATCHBAY_SECRET: world.kit.db.secret },
  });

describe('books that agree', () => {
  test('have no difference, with blends, failures, lost processes, invoices in every state and payouts', async () => {
    const { requests, uncounted, counts, differences } = await report();
    expect({ requests, uncounted, differences }).toEqual({ requests: 16, uncounted: 1, differences: [] });
    expect(counts).toEqual(RECONCILIATION_RULES.map((rule) => ({ rule, differences: 0 })));
    expect((await report({ tenantId: world.customers.draft })).requests).toBe(3);
    const [sums] = await world.kit.db.admin<{
      dropped: string;
      lost: string;
      shared: string;
      states: string;
    }>(
      `SELECT (SELECT sum(dropped_completion_tokens)::text FROM usage_record) AS dropped,
              (SELECT count(*)::text FROM usage_record WHERE settled_by = 'recovery' AND completion_tokens = 2
                 AND engine_completion_tokens IS NULL) AS lost,
              (SELECT count(*)::text FROM usage_share WHERE share_denominator > 1) AS shared,
              (SELECT string_agg(state, ' ' ORDER BY state) FROM invoice) AS states`,
    );
    expect(sums).toEqual({ dropped: '3', lost: '1', shared: '8', states: 'DRAFT FINALISED VOID' });
  });

  test('are told of by the command, which ends with 0', async () => {
    const { code, out } = await run('--tenant', world.customers.draft);
    expect([code, out]).toEqual([
      0,
      'Everything that was counted, charged and paid agrees. 3 requests; the engine told no counts of 0.\n',
    ]);
    expect((await run('--tenant', 'nobody')).code).not.toBe(0);
  });
});

interface Planted {
  readonly rule: ReconciliationRule;
  readonly plant: string;
  readonly undo: string;
  readonly subjectId: Uuid;
  readonly tenantId: Uuid | null;
  readonly expected: string | null;
  readonly actual: string | null;
}

/** A change of a column of one row by one, and back. */
function byOne(table: string, column: string, where: string) {
  return {
    plant: `UPDATE ${table} SET ${column} = ${column} + 1 WHERE ${where}`,
    undo: `UPDATE ${table} SET ${column} = ${column} - 1 WHERE ${where}`,
  };
}

/** A copy of a row with other values, and its removal. */
function copyOf(table: string, where: string, values: Readonly<Record<string, string>>, key: string) {
  return {
    plant: `INSERT INTO ${table} SELECT (jsonb_populate_record(t, '${JSON.stringify(values)}')).* FROM ${table} t WHERE ${where}`,
    undo: `DELETE FROM ${table} WHERE ${key} = '${values[key]}'`,
  };
}

const one = (amount: string) => String(BigInt(amount) + 1n);
const postingOf = (transfer: string, kind: string) =>
  `transfer_id = '${transfer}' AND account_id IN (SELECT id FROM ledger_account WHERE kind = '${kind}')`;

/** Plants something, finds exactly this, sees that `refused` is refused because of it, and takes it back. */
async function find(planted: Planted, refused: () => Promise<unknown>): Promise<void> {
  const { rule, plant, undo, subjectId, tenantId, expected, actual } = planted;
  await superuser.query(plant);
  try {
    const found = await report();
    expect(found.differences).toMatchObject([{ rule, subjectId, tenantId, expected, actual }]);
    expect(found.counts.filter(({ differences }) => differences > 0)).toEqual([{ rule, differences: 1 }]);
    if (tenantId !== null) expect((await report({ tenantId })).differences).toEqual(found.differences);
    await expect(refused()).rejects.toMatchObject({
      code: 'RECONCILIATION_FAILED',
      fix: expect.stringContaining('reconcile'),
      meta: { differences: 1, first: expect.stringMatching(new RegExp(`^${rule} .*${subjectId}`)) },
    });
  } finally {
    await superuser.query(undo);
  }
  expect((await report()).differences).toEqual([]);
}

const closed = () => world.kit.db.admin('SELECT FROM invoice WHERE tenant_id = $1', [world.customers.open]);

describe('a difference of a request is found, and its period is not closed', () => {
  const cases: Readonly<Record<string, () => Omit<Planted, 'subjectId' | 'tenantId'> & Partial<Planted>>> = {
    'the engine counted another prompt': () => ({
      rule: 'ENGINE_PROMPT',
      ...byOne('usage_record', 'engine_prompt_tokens', `id = '${request.id}'`),
      ...{ expected: '4', actual: '3' },
    }),
    'the engine counted another completion': () => ({
      rule: 'ENGINE_COMPLETION',
      ...byOne('usage_record', 'engine_completion_tokens', `id = '${request.id}'`),
      ...{ expected: '6', actual: '5' },
    }),
    'tokens of an answer that ended by itself were dropped': () => ({
      rule: 'ENGINE_COMPLETION',
      plant: `UPDATE usage_record SET completion_tokens = 4, dropped_completion_tokens = 1 WHERE id = '${request.id}';
        UPDATE usage_charge SET output_tokens = 4 WHERE request_id = '${request.id}';
        UPDATE usage_share SET completion_tokens = 4 WHERE request_id = '${request.id}'`,
      undo: `UPDATE usage_record SET completion_tokens = 5, dropped_completion_tokens = 0 WHERE id = '${request.id}';
        UPDATE usage_charge SET output_tokens = 5 WHERE request_id = '${request.id}';
        UPDATE usage_share SET completion_tokens = 5 WHERE request_id = '${request.id}'`,
      ...{ expected: '5', actual: '4' },
    }),
    'a stream that was left dropped more': () => ({
      rule: 'ENGINE_COMPLETION',
      subjectId: leftId,
      ...byOne('usage_record', 'dropped_completion_tokens', `id = '${leftId}'`),
      ...{ expected: '1', actual: '2' },
    }),
    'the charges are about other tokens': () => ({
      rule: 'RECORD_CHARGES',
      ...byOne('usage_charge', 'output_tokens', `request_id = '${request.id}'`),
      ...{ expected: request.amount, actual: 'other tokens' },
    }),
    'a charge has no record': () => ({
      rule: 'CHARGE_RECORD',
      subjectId: NEW_ID,
      ...copyOf('usage_charge', `request_id = '${request.id}'`, { request_id: NEW_ID }, 'request_id'),
      ...{ expected: null, actual: request.amount },
    }),
    'the owner is shown another fee': () => ({
      rule: 'RECORD_SHARES',
      plant: `UPDATE usage_share SET fee_nano = fee_nano + 1 WHERE request_id = '${request.id}'`,
      undo: `UPDATE usage_share SET fee_nano = fee_nano - 1 WHERE request_id = '${request.id}'`,
      expected: expect.stringMatching(/^\d+$/),
      actual: 'another owner, share or fee',
    }),
    'more was captured': () => ({
      rule: 'RECORD_CAPTURE',
      ...byOne('ledger_transfer', 'amount', `id = '${request.capture}'`),
      ...{ expected: request.amount, actual: one(request.amount) },
    }),
    'a capture has no record': () => ({
      rule: 'CAPTURE_RECORD',
      subjectId: OTHER_ID,
      ...copyOf(
        'ledger_transfer',
        `id = '${request.capture}'`,
        { id: NEW_ID, pending_id: NEW_ID, reference_id: OTHER_ID },
        'id',
      ),
      ...{ expected: null, actual: request.amount },
    }),
    'the customer paid more': () => ({
      rule: 'CUSTOMER',
      plant: byOne('ledger_posting', 'amount', postingOf(request.capture, 'CUSTOMER')).undo,
      undo: byOne('ledger_posting', 'amount', postingOf(request.capture, 'CUSTOMER')).plant,
      ...{ expected: request.amount, actual: one(request.amount) },
    }),
    'the owner earned more': () => ({
      rule: 'EARNINGS',
      ...byOne('ledger_posting', 'amount', postingOf(request.capture, 'EARNINGS')),
      ...{ expected: expect.stringMatching(/^\d+$/), actual: expect.stringMatching(/^\d+$/) },
    }),
    'the platform got more': () => ({
      rule: 'PLATFORM',
      ...byOne('ledger_posting', 'amount', postingOf(request.capture, 'PLATFORM_BASE')),
      ...{ expected: expect.stringMatching(/^\d+$/), actual: expect.stringMatching(/^\d+$/) },
    }),
    'it has a number and no receipt': () => ({
      rule: 'RECORD_RECEIPT',
      plant: `INSERT INTO receipt_pending (request_id, lane, tenant_number, version_ids, version_numbers)
        VALUES ('${request.id}', 0, 1, '{}', '{}')`,
      undo: `DELETE FROM receipt_pending WHERE request_id = '${request.id}'`,
      ...{ expected: 'in the log', actual: 'numbered' },
    }),
    'money is held for nothing that runs': () => ({
      rule: 'OPEN_HOLD',
      plant: `INSERT INTO ledger_open_hold (transfer_id, tenant_id) VALUES ('${request.hold}', '${world.customers.open}')`,
      undo: `DELETE FROM ledger_open_hold WHERE transfer_id = '${request.hold}'`,
      ...{ expected: null, actual: request.hold },
    }),
  };

  test.each(Object.keys(cases))('when %s', async (name) => {
    const { open } = world.customers;
    const planted = cases[name]?.();
    if (planted === undefined) throw new Error('The case is there.');
    await find({ subjectId: request.id, tenantId: open, ...planted }, () => world.close(open));
    expect(await closed()).toEqual([]);
  });

  test('and by the command, with its rows and with 1', async () => {
    const { plant, undo } = byOne('usage_record', 'engine_prompt_tokens', `id = '${request.id}'`);
    await superuser.query(plant);
    const [text, json] = [await run(), await run('--json', '--tenant', world.customers.open)];
    await superuser.query(undo);
    expect(text.code).toBe(1);
    expect(text.out).toMatch(
      new RegExp(`^ENGINE_PROMPT +REQUEST ${request.id} +${world.customers.open} +- +4 +3`, 'm'),
    );
    expect(json.code).toBe(1);
    expect(JSON.parse(json.out)).toMatchObject({
      requests: 6 + 1,
      differences: [{ rule: 'ENGINE_PROMPT', subjectId: request.id, expected: '4', actual: '3' }],
    });
  });

  test('of another tenant does not matter', async () => {
    const { plant, undo } = byOne('usage_record', 'engine_prompt_tokens', `id = '${request.id}'`);
    await superuser.query(plant);
    expect((await report({ tenantId: world.customers.draft })).differences).toEqual([]);
    await superuser.query(undo);
  });
});

describe('a difference of an invoice is found, and the draft is not finalised', () => {
  const cases: Readonly<
    Record<string, () => Pick<Planted, 'rule' | 'plant' | 'undo' | 'expected' | 'actual'>>
  > = {
    'it charges something else than the records': () => ({
      rule: 'INVOICE_CHARGES',
      // The parts of a bill are its total, whatever else is changed.
      ...{
        plant: `UPDATE invoice SET charges_nano = charges_nano + 1, reduction_nano = reduction_nano + 1 WHERE id = '${world.draft.id}'`,
        undo: `UPDATE invoice SET charges_nano = charges_nano - 1, reduction_nano = reduction_nano - 1 WHERE id = '${world.draft.id}'`,
      },
      expected: String(world.draft.document.chargesNano),
      actual: one(String(world.draft.document.chargesNano)),
    }),
    'its document has another byte': () => {
      const hash = `content_sha256 = sha256(convert_to(content, 'UTF8'))`;
      const change = (text: string) =>
        `UPDATE invoice SET content = ${text}, ${hash.replace('(content', `(${text}`)} WHERE id = '${world.draft.id}'`;
      return {
        rule: 'INVOICE_DOCUMENT',
        plant: change(`content || ' '`),
        undo: change('rtrim(content)'),
        expected: expect.stringMatching(/^[0-9a-f]{64}$/),
        actual: expect.stringMatching(/^[0-9a-f]{64}$/),
      };
    },
    'something else was posted for it': () => ({
      rule: 'INVOICE_POSTINGS',
      ...byOne(
        'ledger_posting',
        'amount',
        `amount > 0 AND transfer_id = (SELECT id FROM ledger_transfer WHERE tenant_id = '${world.customers.draft}'
             AND business_key = 'invoice.reductions:2024-02')`,
      ),
      expected: '100',
      actual: '101',
    }),
  };

  test.each(Object.keys(cases))('when %s', async (name) => {
    const planted = cases[name]?.();
    if (planted === undefined) throw new Error('The case is there.');
    const { id } = world.draft;
    const subject = { subjectId: id, tenantId: world.customers.draft };
    await find({ ...subject, ...planted }, () => world.finalise(id));
    expect(await world.kit.db.admin('SELECT state FROM invoice WHERE id = $1', [id])).toEqual([
      { state: 'DRAFT' },
    ]);
  });
});

describe('a difference of payouts is found, and a batch is not approved', () => {
  const cases: Readonly<Record<string, () => Omit<Planted, 'tenantId'> & Partial<Planted>>> = {
    'somebody earned without a request': () => ({
      rule: 'CAPTURE_RECORD',
      subjectId: OTHER_ID,
      tenantId: world.customers.open,
      ...copyOf(
        'ledger_transfer',
        `id = '${request.capture}'`,
        { id: NEW_ID, pending_id: NEW_ID, reference_id: OTHER_ID, created_at: '2024-03-03T12:00:00Z' },
        'id',
      ),
      ...{ expected: null, actual: request.amount },
    }),
    'a payout is where its money is not': () => ({
      rule: 'PAYOUT_MONEY',
      subjectId: world.unknown,
      plant: `UPDATE payout SET state = 'FAILED' WHERE id = '${world.unknown}'`,
      undo: `UPDATE payout SET state = 'UNKNOWN' WHERE id = '${world.unknown}'`,
      expected: expect.stringMatching(/^released \d+$/),
      actual: expect.stringMatching(/^held \d+$/),
    }),
    'money is held for no payout': () => ({
      rule: 'PAYOUT_HOLD',
      subjectId: NEW_ID,
      ...copyOf(
        'ledger_transfer',
        `reference_id = '${world.unknown}' AND kind = 'PENDING'`,
        { id: NEW_ID, business_key: 'payout:none' },
        'id',
      ),
      ...{ expected: null, actual: expect.stringMatching(/^\d+$/) },
    }),
  };

  test.each(Object.keys(cases))('when %s', async (name) => {
    const planted = cases[name]?.();
    if (planted === undefined) throw new Error('The case is there.');
    await find({ tenantId: world.owners.one, ...planted }, approve);
    await expectDraft();
  });

  test('when a statement lacks what was earned, nor is the month of the beneficiary closed', async () => {
    const where = postingOf(request.capture, 'EARNINGS');
    await find(
      {
        ...{ rule: 'STATEMENT_EARNED', subjectId: world.owners.one, tenantId: world.owners.one },
        plant: `UPDATE ledger_posting SET created_at = '2023-02-10T12:00:00Z' WHERE ${where}`,
        undo: `UPDATE ledger_posting SET created_at = '2024-02-10T12:00:00Z' WHERE ${where}`,
        expected: expect.stringMatching(/^\d+$/),
        actual: expect.stringMatching(/^\d+$/),
      },
      () => world.close(world.owners.one),
    );
  });

  test('when a statement lacks what was paid', async () => {
    const where = `account_id = (SELECT id FROM ledger_account WHERE tenant_id = '${world.owners.other}' AND kind = 'EARNINGS')
      AND amount < 0`;
    await find(
      {
        ...{ rule: 'STATEMENT_PAID', subjectId: world.owners.other, tenantId: world.owners.other },
        ...byOne('ledger_posting', 'amount', where),
        expected: expect.stringMatching(/^\d+$/),
        actual: expect.stringMatching(/^\d+$/),
      },
      approve,
    );
    await expectDraft();
  });

  test('when a batch is not the sum of its payouts', async () => {
    const { id, payoutCount, totalNano } = world.batch;
    await find(
      {
        ...{ rule: 'PAYOUT_BATCH', subjectId: id, tenantId: null },
        ...byOne('payout_batch', 'total_nano', `id = '${id}'`),
        expected: `${payoutCount} of ${totalNano + 1n}`,
        actual: `${payoutCount} of ${totalNano}`,
      },
      approve,
    );
    await expectDraft();
  });
});

const approve = () => world.payouts.batches.approve(world.operator, world.batch.id);

async function expectDraft(): Promise<void> {
  expect(await world.payouts.batches.get(world.operator, world.batch.id)).toMatchObject({ state: 'DRAFT' });
}

test('when everything agrees, the period is closed, the draft is finalised and the batch is approved', async () => {
  const { document } = await world.close(world.customers.open);
  const { counts } = await report({ ...FEBRUARY, tenantId: world.customers.open });
  expect(counts.every(({ differences }) => differences === 0)).toBe(true);
  const [sum] = await world.kit.db.admin(
    'SELECT sum(amount_nano)::text AS amount FROM usage_record WHERE tenant_id = $1',
    [world.customers.open],
  );
  expect(sum).toEqual({ amount: String(document.chargesNano) });
  expect(await world.finalise(world.draft.id)).toMatchObject({ state: 'FINALISED' });
  expect(await approve()).toMatchObject({ state: 'APPROVED' });
  expect((await report()).differences).toEqual([]);
});

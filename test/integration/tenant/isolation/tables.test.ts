import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sqlState } from '../../../../src/db/errors.ts';
import { missingIds, openScene, type Scene, tenantTables, victimRows } from './victim.ts';

// Generated from the catalogue: a table or function that a later migration adds is attacked without being named here,
// and fails when the victim has nothing in it or when it has no tenant and no reason for that.

/** Tables without a tenant_id, and why that gives nothing away. */
const WITHOUT_TENANT: Readonly<Record<string, string>> = {
  _prisma_migrations: 'The history of the schema; no role of the program may read it.',
  tenant: 'A tenant is its own id; the policy compares that.',
  backbone: 'Backbones belong to the installation, and everybody may read them.',
  engine_hour: 'Engines belong to no tenant; only the system role sees how long they were there.',
  adapter_residency:
    'What is in memory is the machine’s, by digest and for whoever uses it; only the system role sees it.',
  instance: 'Processes belong to no tenant; only the system role sees them.',
  ledger_batch:
    'The chain runs over all tenants; only the system role and the ledger’s own functions see it.',
  number_series: 'How many bills the installation has numbered; only the system role sees it.',
  payout_batch: 'A batch concerns many tenants and belongs to none; only the system role sees it.',
  payout_import: 'What a bank said of the payouts of many tenants; only the system role sees it.',
  payout_distributor: 'A contract on a chain; only the system role sees it.',
  payout_tree: 'It pays many tenants; only the system role sees it.',
  payout_tree_payment:
    'What was handed over of the payouts of many tenants; only the system role sees it, and a claim has what is its reader’s.',
  payout_tree_leaf: 'What accounts of many can claim; likewise.',
  payout_tree_publication: 'The deployment’s own transactions; only the system role sees them.',
  payout_tree_settlement: 'Which trees are paid; only the system role sees it.',
  payout_funding: 'What operators have paid in; only the system role sees it.',
  payout_chain_event: 'What everybody can read on the chain; only the system role reads it here.',
  payout_chain_follow: 'How far it was read; likewise.',
  payout_release: 'Who said first that payments of a batch were not made; only the system role sees it.',
  payout_result: 'A line of such a file; only the system role sees it.',
  earnings_rolled:
    'How far the chain is summed up; only the system role and the function that sums up see it.',
  usage_rolled:
    'Up to which day usage is summed up, which whoever adds up has to know; it tells of no tenant.',
  log_queue: 'Leaves that wait for the log, of everybody; only the system role sees them.',
  log_leaf: 'The log is the deployment’s; only the system role sees which entry is where.',
  log_tile: 'Hashes of the log, which are for everybody, of whom they tell nothing.',
  log_head: 'Signed heads of the log, likewise.',
  proof_log: 'What the log is called, for everybody; only the system role reads it here.',
  proof_key: 'Addresses that have signed, likewise.',
  proof_document:
    'Terms by their digests; only the system role sees them, and shows those that a receipt’s party may open.',
  receipt_counter: 'The last numbers of everybody; only the system role sees them.',
  receipt_pending: 'Requests of everybody that wait for their receipts; only the system role sees them.',
  receipt_batch: 'A signature on many receipts, with a hash and a count; everybody may read it.',
  receipt: 'Commitments alone, of whom they tell nothing; its parties may read it, see below.',
  epoch: 'Epochs are for everybody, and name requests by hashes; services publish them.',
  epoch_account: 'Keys and commitments of accounts, which tell who knows no salt nothing.',
  epoch_tile: 'Hashes of them.',
  epoch_quarantined: 'Requests of everybody that did not match; only the system role sees them.',
  epoch_released: 'Those of them that match by now, likewise.',
  epoch_scan: 'Up to when records were looked at; it tells of no tenant.',
  chain_writer: 'Who sends for the deployment’s account on a chain; only the system role sees it.',
  chain_transaction: 'What the deployment does on a chain; only the system role sees it.',
  chain_nonce: 'Likewise, under which nonce.',
  chain_attempt: 'Likewise, as it was signed.',
  anchor_contract: 'Where epochs are anchored; only the system role sees it.',
  epoch_anchor: 'Which epochs are anchored, which everybody may know; only the system role reads it here.',
  ledger_unsealed: 'What no batch holds yet, ids alone; seen as the batches are.',
};

/** Functions that the app role may call and that answer about the tenant they are told, and why that is no way in. */
const TOLD: Readonly<Record<string, string>> = {
  find_api_key: 'It answers to the keyed hash of a key, which only the key’s holder and the server can make.',
  resolve_prices: 'It refuses unless the tenant that is set is the one that it is told; see below.',
  outbox_horizon:
    'It names nobody: it is the oldest transaction that still runs, whoever’s it is, and moves by itself.',
  find_inference: 'It refuses unless the tenant that is set is the one that it is told; see below.',
};

/** Which rows of a table are for everybody, and why; the others are attacked. */
const FOR_EVERYBODY: Readonly<Record<string, { readonly others: string; readonly reason: string }>> = {
  price_version: {
    others: 'adapter_id IS NOT NULL',
    reason: 'Every tenant may know what a backbone costs before it sends anything.',
  },
};

let scene: Scene;
let bystander: string;
const db = () => scene.stack.registry.db;

beforeAll(async () => {
  scene = await openScene();
  bystander = missingIds().tenant;
  await db().admin(`INSERT INTO tenant (id, name, slug, created_at) VALUES ($1, 'x', 'bystander', now())`, [
    bystander,
  ]);
});
afterAll(() => scene.stack.close());

interface Outcome {
  readonly rows: number | null;
  readonly state: string | null;
}

/** What a statement comes to as another tenant and as no tenant; nothing of it stays. */
async function attack(text: string, values: readonly unknown[] = []): Promise<readonly Outcome[]> {
  const outcomes: Outcome[] = [];
  const asTenant = () =>
    db().database.withTenantPg(bystander, async (client) => (await client.query(text, [...values])).rowCount);
  const asNobody = async () => {
    const rows = await db().database.queryApp(text, values);
    return rows.length;
  };
  for (const attempt of [asTenant, asNobody]) {
    try {
      outcomes.push({ rows: await attempt(), state: null });
    } catch (error) {
      outcomes.push({ rows: null, state: sqlState(error) ?? String(error) });
    }
  }
  return outcomes;
}

const isNothing = ({ rows, state }: Outcome): boolean => rows === 0 || state === '42501';

async function columnsOf(table: string, privilege: 'SELECT' | 'UPDATE'): Promise<readonly string[]> {
  const rows = await db().admin<{ name: string }>(
    `SELECT attname AS name FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped
       AND has_column_privilege('patchbay_app', attrelid, attnum, $2)`,
    [table, privilege],
  );
  return rows.map(({ name }) => name);
}

test('every table either has a tenant or a reason for having none', async () => {
  const rows = await db().admin<{ name: string }>(`
    SELECT relname AS name FROM pg_class
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT relispartition AND relnamespace = 'public'::regnamespace`);
  const tables = await tenantTables(scene);
  expect(
    rows
      .map(({ name }) => name)
      .filter((name) => !tables.includes(name))
      .sort(),
  ).toEqual(Object.keys(WITHOUT_TENANT).sort());
});

test('the victim has something in every table of tenants, so that there is something to find', async () => {
  const empty = Object.entries(await victimRows(scene)).filter(([, rows]) => rows.length === 0);
  expect(empty.map(([table]) => table)).toEqual([]);
});

test('nobody else reads or counts a row of any table', async () => {
  for (const table of await tenantTables(scene)) {
    const columns = await columnsOf(table, 'SELECT');
    const reads = columns.length === 0 ? '1' : columns.join(', ');
    const rows = `${table} WHERE ${FOR_EVERYBODY[table]?.others ?? 'true'}`;
    for (const outcome of await attack(`SELECT ${reads} FROM ${rows}`)) {
      expect(isNothing(outcome), `${table}: ${JSON.stringify(outcome)}`).toBe(true);
    }
    for (const outcome of await attack(`SELECT 1 FROM ${rows} HAVING count(*) > 0`)) {
      expect(isNothing(outcome), `count of ${table}: ${JSON.stringify(outcome)}`).toBe(true);
    }
  }
  const own = await db().database.withTenant(bystander, (tx) => tx.tenant.findMany());
  expect(own.map(({ id }) => id)).toEqual([bystander]);
  for (const table of [
    'proof_log',
    'proof_key',
    'proof_document',
    'receipt_counter',
    'receipt_pending',
    'log_queue',
    'log_leaf',
    'log_tile',
    'log_head',
    'payout_distributor',
    'payout_tree',
    'payout_tree_payment',
    'payout_tree_leaf',
    'payout_tree_publication',
    'payout_tree_settlement',
    'payout_funding',
    'payout_chain_event',
    'payout_chain_follow',
    'epoch',
    'epoch_account',
    'epoch_tile',
    'epoch_quarantined',
    'epoch_released',
    'epoch_scan',
    'chain_writer',
    'chain_transaction',
    'chain_nonce',
    'chain_attempt',
    'anchor_contract',
    'epoch_anchor',
    'instance',
    'engine_hour',
    'adapter_residency',
    '_prisma_migrations',
  ]) {
    const outcomes = await attack(`SELECT 1 FROM ${table}`);
    expect(outcomes.map(({ state }) => state)).toEqual(['42501', '42501']);
  }
  expect((await db().admin('SELECT FROM receipt')).length).toBeGreaterThan(0);
  expect((await attack('SELECT commitments FROM receipt')).map(({ rows }) => rows)).toEqual([0, 0]);
});

test('nobody else writes, changes or removes a row of any table', async () => {
  const before = await victimRows(scene);
  for (const table of await tenantTables(scene)) {
    const statements: [string, unknown[]][] = [];
    const [copy] = await db().admin<{ row: object }>(
      `SELECT to_jsonb(t) AS row FROM ${table} t WHERE tenant_id = $1 LIMIT 1`,
      [scene.victim.tenant],
    );
    statements.push([
      `INSERT INTO ${table} SELECT * FROM jsonb_populate_record(NULL::${table}, $1)`,
      [JSON.stringify(copy?.row)],
    ]);
    const columns = await columnsOf(table, 'UPDATE');
    for (const column of columns) statements.push([`UPDATE ${table} SET ${column} = DEFAULT`, []]);
    if (columns.length === 0) statements.push([`UPDATE ${table} SET tenant_id = tenant_id`, []]);
    statements.push([`DELETE FROM ${table}`, []]);
    for (const [text, values] of statements) {
      for (const outcome of await attack(text, values)) {
        expect(isNothing(outcome), `${text}: ${JSON.stringify(outcome)}`).toBe(true);
      }
    }
  }
  expect(await victimRows(scene)).toEqual(before);
});

test('no partition can be reached past its parent', async () => {
  const rows = await db().admin<{ name: string }>(`
    SELECT oid::regclass::text AS name FROM pg_class
    WHERE relispartition AND relkind = 'r' AND relnamespace = 'public'::regnamespace
      AND (has_any_column_privilege('patchbay_app', oid, 'SELECT, INSERT, UPDATE')
           OR has_table_privilege('patchbay_app', oid, 'DELETE'))`);
  expect(rows).toEqual([]);
});

test('no reference tells whether an id of another tenant exists', async () => {
  // The check of a foreign key sees every row. So each one between tables of tenants must carry the tenant.
  const rows = await db().admin<{ name: string }>(`
    SELECT conrelid::regclass || '.' || conname AS name FROM pg_constraint k
    WHERE contype = 'f' AND connamespace = 'public'::regnamespace
      -- Who may write nothing into a table cannot use its checks.
      AND has_any_column_privilege('patchbay_app', k.conrelid, 'INSERT')
      AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = k.confrelid AND attname = 'tenant_id' AND NOT attisdropped)
      AND NOT EXISTS (
        SELECT FROM unnest(k.conkey, k.confkey) AS c(own, other)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = c.own AND a.attname = 'tenant_id'
        JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = c.other AND b.attname = 'tenant_id')`);
  expect(rows).toEqual([]);
});

interface FunctionRow {
  readonly name: string;
  readonly types: readonly string[];
}

describe('the functions that requests may call', () => {
  test.each([
    ['resolve_prices', `$1, 'x', '{}', now()`],
    ['find_inference', `$1, '\\x00'`],
  ])('%s refuses another tenant’s id while another tenant is set, and while none is', async (name, args) => {
    const outcomes = await attack(`SELECT * FROM patchbay.${name}(${args})`, [scene.victim.tenant]);
    expect(outcomes).toEqual([
      { rows: null, state: '42501' },
      { rows: null, state: '42501' },
    ]);
  });

  /** An argument of the type that names what `ids` names, so far as a value of the type can. */
  const argument = (type: string, id: string, text: string): unknown => {
    if (type === 'uuid') return id;
    if (type === 'uuid[]') return [id];
    if (type === 'text') return text;
    if (type === 'boolean') return true;
    if (type === 'bigint[]') return Array.from({ length: 13 }, () => 0);
    if (type === 'bytea') return Buffer.alloc(32);
    return type.startsWith('timestamp') ? new Date(0) : 1;
  };

  test('answer about another tenant’s ids as about none', async () => {
    const functions = await db().admin<FunctionRow>(`
      SELECT p.proname AS name, ARRAY(
        SELECT format_type(t.oid, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY a(type, i)
        JOIN pg_type t ON t.oid = a.type ORDER BY a.i) AS types
      FROM pg_proc p
      WHERE p.pronamespace IN ('patchbay'::regnamespace, 'public'::regnamespace) AND p.prorettype <> 'trigger'::regtype
        AND has_function_privilege('patchbay_app', p.oid, 'EXECUTE') ORDER BY 1`);
    expect(functions.length).toBeGreaterThan(10);
    for (const name of Object.keys(TOLD)) expect(functions.map((one) => one.name)).toContain(name);
    const { victim } = scene;
    const nobody = missingIds();
    for (const { name, types } of functions.filter((one) => TOLD[one.name] === undefined)) {
      const call = `SELECT * FROM patchbay.${name}(${types.map((type, i) => `$${i + 1}::${type}`).join(', ')})`;
      const ask = async (id: string, text: string) =>
        db().database.withTenantPg(bystander, async (client) => {
          const { rows } = await client.query(
            call,
            types.map((type) => argument(type, id, text)),
          );
          return rows;
        });
      for (const id of Object.values(victim)) {
        const isId = /^[0-9a-f-]{36}$/.test(id);
        const asked = await ask(isId ? id : nobody.tenant, isId ? victim.adapterName : id);
        const missing = await ask(nobody.tenant, nobody.adapterName);
        expect(asked, `${name} of ${id}`).toEqual(missing);
      }
    }
  });
});

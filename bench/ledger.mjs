// What the ledger costs, in one run on one embedded Postgres that flushes to disk: rounds of holds and captures as a
// group commit writes them, beside the same rows as plain multi-row inserts into tables with the same indexes and
// checks, and on few accounts beside many. The sealer runs beside the ledger, and earnings are summed up, as in a server. At
// the end the whole chain is verified. Run: npm run build && npm run bench:ledger [-- --seconds 8 --rounds 3 …]
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { Database } from '../dist/db/client.js';
import { startEmbeddedPostgres } from '../dist/db/embedded.js';
import { migrate } from '../dist/db/migrate.js';
import { PLATFORM_TENANT_ID } from '../dist/db/platform.js';
import { ensureRoles } from '../dist/db/roles.js';
import { systemClock } from '../dist/kernel/clock.js';
import { newId } from '../dist/kernel/ids.js';
import { EARNINGS_ROLLUP_DEFAULTS, EarningsRollup } from '../dist/ledger/earnings.js';
import { LedgerSealer, SEALER_DEFAULTS } from '../dist/ledger/sealer.js';
import { LEDGER_DEFAULTS, LedgerService } from '../dist/ledger/service.js';
import { captureAll, holdAll, lockAccounts, postAll, runAlone, runOn } from '../dist/ledger/statements.js';
import { verifyLedger } from '../dist/ledger/verify.js';
import { median, readFlags, spread } from './kit.mjs';

// A server process writes on one connection, a round after the other: connections stand for processes.
const flags = readFlags({
  seconds: '8',
  rounds: '3',
  connections: '2',
  batch: '100',
  cold: '10000',
  hot: '10',
});
const seconds = Number(flags.seconds);
const connections = Number(flags.connections);
const batch = Number(flags.batch);
const cold = Number(flags.cold);
const hot = Number(flags.hot);

const dataDir = await mkdtemp(join(tmpdir(), 'patchbay-ledger-'));
await chmod(dataDir, 0o755);
const server = await startEmbeddedPostgres({ dataDir, settings: { max_wal_size: '4GB' } });
await migrate({ adminUrl: server.adminUrl });
const secret = 'a-secret-of-thirty-two-characters-for-bench';
const urls = await ensureRoles({ adminUrl: server.adminUrl, secret });
const database = new Database({ ...urls, applicationName: 'bench', statementTimeoutMs: 600_000 });
const deps = { database, clock: systemClock };
const service = new LedgerService(LEDGER_DEFAULTS, deps);
const sealer = new LedgerSealer(SEALER_DEFAULTS, deps);
const earnings = new EarningsRollup(EARNINGS_ROLLUP_DEFAULTS, deps);
const sealAndSum = async () => {
  await sealer.run();
  await earnings.run();
};
const admin = new pg.Client({ connectionString: server.adminUrl });
await admin.connect();
const pool = new pg.Pool({ connectionString: urls.systemUrl, max: connections });

/** Tenants with a customer's and a beneficiary's account each; every customer has plenty. */
async function fill() {
  const platform = (kind) => service.openAccount(PLATFORM_TENANT_ID, kind, 'USD');
  const [cash, fee, base] = [
    await platform('CASH'),
    await platform('PLATFORM_FEE'),
    await platform('PLATFORM_BASE'),
  ];
  const tenants = Array.from({ length: cold }, () => newId(systemClock));
  const open = (kind) => tenants.map((tenantId) => ({ tenantId, kind, id: newId(systemClock) }));
  const [customers, owners] = [open('CUSTOMER'), open('EARNINGS')];
  await admin.query(
    `INSERT INTO tenant (id, name, slug, created_at)
     SELECT id, 'bench', 'bench-' || n, now() FROM unnest($1::uuid[]) WITH ORDINALITY AS t(id, n)`,
    [tenants],
  );
  const all = [...customers, ...owners];
  await admin.query(
    `INSERT INTO ledger_account (id, tenant_id, kind, asset, created_at)
     SELECT id, tenant_id, kind, 'USD', now() FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS a(id, tenant_id, kind)`,
    [all.map(({ id }) => id), all.map(({ tenantId }) => tenantId), all.map(({ kind }) => kind)],
  );
  for (let at = 0; at < customers.length; at += 1_000) {
    const topUps = customers.slice(at, at + 1_000).map(({ id, tenantId }) => ({
      id: newId(systemClock),
      tenantId,
      asset: 'USD',
      key: 'fill',
      referenceType: 'top_up',
      referenceId: null,
      lines: [
        { accountId: cash, amount: -(10n ** 17n), subjectId: null },
        { accountId: id, amount: 10n ** 17n, subjectId: null },
      ],
    }));
    await postAll(runAlone(database), topUps, null);
  }
  await admin.query('CREATE TABLE plain_transfer (LIKE ledger_transfer INCLUDING ALL)');
  await admin.query('CREATE TABLE plain_posting (LIKE ledger_posting INCLUDING ALL)');
  await admin.query('GRANT INSERT ON plain_transfer, plain_posting TO patchbay_system');
  await sealAndSum();
  await admin.query('VACUUM ANALYZE');
  return { fee, base, customers, owners };
}

const accounts = await fill();
const pick = (list, among) => list[Math.floor(Math.random() * among)];

/** What a round holds: amounts between 1,000 and 2,000 on random accounts, and what becomes of each. */
function draw({ customers, owners }) {
  return Array.from({ length: batch }, () => {
    const id = newId(systemClock);
    const customer = pick(accounts.customers, customers);
    const owner = pick(accounts.owners, owners);
    const amount = 1_000n + BigInt(Math.floor(Math.random() * 1_000));
    const credits = [
      { accountId: accounts.base, amount: 300n, subjectId: null },
      { accountId: accounts.fee, amount: 100n, subjectId: null },
      { accountId: owner.id, amount: 500n, subjectId: owner.tenantId },
    ];
    return { id, customer, owner, amount, credits, captureId: newId(systemClock), captured: 900n };
  });
}

/** One round of the ledger: holds what is new and captures what the round before held. */
async function ledgerRound(client, fresh, open) {
  const run = runOn(client);
  await client.query('BEGIN');
  await lockAccounts(
    run,
    [...fresh, ...open].map(({ customer }) => customer.id),
  );
  const holds = fresh.map((one) => ({
    id: one.id,
    accountId: one.customer.id,
    amount: one.amount,
    key: one.id,
    referenceId: one.id,
    expiresAt: null,
  }));
  const held = await holdAll(run, holds, 'request', null);
  if (held.some(({ outcome }) => outcome !== 'HELD')) throw new Error('a hold was refused');
  const captures = open.map((one) => ({
    id: one.captureId,
    holdId: one.id,
    amount: one.captured,
    credits: one.credits,
  }));
  if (captures.length > 0) {
    const posted = await captureAll(run, captures, null);
    if (posted.some(({ outcome }) => outcome !== 'POSTED')) throw new Error('a capture was not made');
  }
  await client.query('COMMIT');
}

const INSERT_TRANSFERS = `
INSERT INTO plain_transfer (id, tenant_id, kind, asset, amount, lines, account_id, held, pending_id, business_key,
  reference_type, reference_id, created_at)
SELECT id, tenant_id, kind, 'USD', amount, lines, account_id, held, pending_id, key, 'request', reference_id, now()
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::smallint[], $6::uuid[], $7::bigint[], $8::uuid[],
  $9::text[], $10::uuid[])
  AS t(id, tenant_id, kind, amount, lines, account_id, held, pending_id, key, reference_id)`;
const INSERT_POSTINGS = `
INSERT INTO plain_posting (transfer_id, line, account_id, tenant_id, amount, subject_id, created_at)
SELECT transfer_id, line, account_id, tenant_id, amount, subject_id, now()
FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::uuid[], $5::bigint[], $6::uuid[])
  AS p(transfer_id, line, account_id, tenant_id, amount, subject_id)`;

/** The rows that {@link ledgerRound} writes, into tables without triggers or policies. */
async function plainRound(client, fresh, open) {
  const insert = async (name, text, rows, width) => {
    const values = Array.from({ length: width }, (_, column) => rows.map((row) => row[column]));
    await client.query({ name, text, values });
  };
  const pending = fresh.map(({ id, customer, amount }) => {
    const { tenantId } = customer;
    return [id, tenantId, 'PENDING', 0, 0, customer.id, String(amount), null, id, id];
  });
  const posts = open.map(({ id, captureId, customer, amount, captured }) => {
    const { tenantId } = customer;
    return [captureId, tenantId, 'POST', String(captured), 4, customer.id, String(amount), id, null, id];
  });
  const postings = open.flatMap(({ captureId, customer, owner, captured, credits }) => [
    [captureId, 1, customer.id, customer.tenantId, String(-captured), null],
    ...credits.map((credit, index) => {
      const tenantId = credit.accountId === owner.id ? owner.tenantId : PLATFORM_TENANT_ID;
      return [captureId, index + 2, credit.accountId, tenantId, String(credit.amount), credit.subjectId];
    }),
  ]);
  await client.query('BEGIN');
  await insert('plain_pending', INSERT_TRANSFERS, pending, 10);
  if (posts.length > 0) {
    await insert('plain_posts', INSERT_TRANSFERS, posts, 10);
    await insert('plain_postings', INSERT_POSTINGS, postings, 6);
  }
  await client.query('COMMIT');
}

/** Captures per second over the time, with as many writers as connections; each does a round after the other. */
async function measure(round, spreadOver, sealing) {
  await admin.query('CHECKPOINT');
  let counted = 0;
  const started = performance.now();
  const ends = started + seconds * 1_000;
  const seal = async () => {
    while (sealing && performance.now() < ends) {
      await sealAndSum();
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  };
  const write = async () => {
    const client = await pool.connect();
    let open = [];
    while (performance.now() < ends) {
      const fresh = draw(spreadOver);
      await round(client, fresh, open);
      counted += open.length;
      open = fresh;
    }
    await round(client, [], open);
    counted += open.length;
    client.release();
  };
  await Promise.all([...Array.from({ length: connections }, write), seal()]);
  // What is still to be sealed belongs to what was written.
  if (sealing) await sealAndSum();
  return counted / ((performance.now() - started) / 1_000);
}

const everywhere = { customers: cold, owners: cold };
const cases = {
  plain: () => measure(plainRound, everywhere, false),
  [`ledger, ${cold} accounts`]: () => measure(ledgerRound, everywhere, true),
  [`ledger, ${hot} beneficiaries`]: () => measure(ledgerRound, { customers: cold, owners: hot }, true),
  [`ledger, ${hot} customers, ${hot} beneficiaries`]: () =>
    measure(ledgerRound, { customers: hot, owners: hot }, true),
};
const rates = Object.fromEntries(Object.keys(cases).map((name) => [name, []]));
for (let round = 0; round < Number(flags.rounds); round++) {
  for (const [name, run] of Object.entries(cases)) {
    rates[name].push(await run());
    console.error(`round ${round + 1}: ${name}: ${rates[name].at(-1).toFixed(0)} captures/s`);
  }
}

const [plain, ledger] = Object.values(rates).map(median);
console.log(
  `${connections} connections, ${batch} holds and ${batch} captures a transaction, 6 rows each, ${seconds} s.`,
);
console.log(
  '| | captures/s, median (range) | of plain inserts | of cold accounts |\n| --- | ---: | ---: | ---: |',
);
for (const [name, values] of Object.entries(rates)) {
  const rate = median(values);
  const ofCold = name === 'plain' ? '' : `${((100 * rate) / ledger).toFixed(0)} %`;
  console.log(`| ${name} | ${spread(values, 0)} | ${((100 * rate) / plain).toFixed(0)} % | ${ofCold} |`);
}
const began = performance.now();
const report = await verifyLedger(database);
const took = (performance.now() - began) / 1_000;
console.log(
  `\nverify: ${report.rows} rows in ${report.batches} batches, ${took.toFixed(1)} s, ${report.problems.length} problems`,
);
if (report.problems.length > 0 || report.unsealed > 0) throw new Error('the ledger is not whole');
await pool.end();
await admin.end();
await database.close();
await server.stop();
await rm(dataDir, { recursive: true, force: true });

// What the ledger is to reach; a run that does not ends with a code that scripts see.
const fewest = Math.min(...Object.values(rates).slice(2).map(median));
const goals = [
  ['captures, of plain inserts', ledger / plain, 0.25],
  ['few accounts, of many', fewest / ledger, 0.7],
];
for (const [what, ratio, least] of goals) {
  console.log(
    `${ratio >= least ? 'reached' : 'MISSED'}: ${what}: ${(100 * ratio).toFixed(0)} % (${100 * least} % wanted)`,
  );
}
process.exit(goals.every(([, ratio, least]) => ratio >= least) ? 0 : 1);

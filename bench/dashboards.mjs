// How long what dashboards ask takes beside many usage rows: requests of 90 days of 200 tenants in an embedded Postgres,
// then GraphQL operations through the product's own resolvers and services, as the largest tenant, as a median one and as an
// operator, one after another.
// Run: npm run build && npm run bench:dashboards [-- --rows 1000000 --charged 0.5 --repeats 40 --only earnings]
import { randomUUID } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { cpus, loadavg, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { AdapterStateFeed } from '../dist/adapter/feed.js';
import { AdapterService } from '../dist/adapter/service.js';
import { SCOPES, SYSTEM_ACTOR } from '../dist/auth/principal.js';
import { AccountService } from '../dist/billing/accounts.js';
import { BudgetService } from '../dist/billing/budgets.js';
import { startEmbeddedPostgres } from '../dist/db/embedded.js';
import { openDatabase } from '../dist/db/open.js';
import { PLATFORM_TENANT_ID } from '../dist/db/platform.js';
import { EVENT_FEED_DEFAULTS, EventFeed } from '../dist/events/feed.js';
import { EventService } from '../dist/events/service.js';
import { AdapterAccess } from '../dist/graphql/access/adapters.js';
import { UsageAccess } from '../dist/graphql/access/usage.js';
import { createGraphqlContext } from '../dist/graphql/context.js';
import { graphql } from '../dist/graphql/graphql-js.js';
import { toGlobalId } from '../dist/graphql/ids.js';
import { createSchema } from '../dist/graphql/schema.js';
import { createInvoicing } from '../dist/invoicing/invoicing.js';
import { systemClock } from '../dist/kernel/clock.js';
import { EARNINGS_ROLLUP_DEFAULTS, EarningsRollup } from '../dist/ledger/earnings.js';
import { FilePayoutRail } from '../dist/payouts/file-rail.js';
import { openPayouts } from '../dist/payouts/open.js';
import { PAYOUT_DEFAULTS } from '../dist/payouts/types.js';
import { booksOf } from '../dist/reconciliation/books.js';
import { AuditService } from '../dist/tenant/audit-log.js';
import { TenantService } from '../dist/tenant/service.js';
import { DAY_ROLLUP_DEFAULTS, DayRollup } from '../dist/usage/days.js';
import { UsageService } from '../dist/usage/service.js';
import { DAYS, fill, MEDIAN } from './dashboards-rows.mjs';
import { median, readFlags } from './kit.mjs';

const flags = readFlags({ rows: '1000000', charged: '0.5', repeats: '40', only: '' });
const DAY_MS = 86_400_000;
const say = (line) => console.error(line);

const dataDir = await mkdtemp(join(tmpdir(), 'patchbay-dashboards-'));
await chmod(dataDir, 0o755);
// The memory of a small server of a database; and rows are loaded faster by one that need not survive a crash.
const settings = {
  ...{ shared_buffers: '512MB', effective_cache_size: '2GB' },
  ...{ fsync: 'off', full_page_writes: 'off', autovacuum: 'off', max_wal_size: '8GB' },
};
const server = await startEmbeddedPostgres({ dataDir, settings });
const secret = 'a-secret-of-thirty-two-characters-for-bench';
const { database } = await openDatabase({ adminUrl: server.adminUrl, secret, statementTimeoutMs: 600_000 });
const admin = new pg.Client({ connectionString: server.adminUrl });
await admin.connect();

/** The services that the operations below need; there is no engine. */
function openServices() {
  const deps = { database, clock: systemClock };
  const adapters = new AdapterService(
    { limits: {}, quotas: {}, ttlMs: 1, secret, baseUrl: '' },
    {
      ...deps,
      feed: new AdapterStateFeed({ connectionString: server.adminUrl }),
      onVersionWaiting: () => {},
    },
  );
  const options = { ...PAYOUT_DEFAULTS, minimumNano: 1n };
  return {
    adapters: new AdapterAccess({ ...deps, adapters, servedBackboneDigest: '' }),
    tenants: new TenantService(deps),
    audit: new AuditService(deps),
    usage: new UsageAccess({ usage: new UsageService({ database }) }),
    accounts: new AccountService({ database }),
    budgets: new BudgetService(deps),
    events: new EventService({ database, feed: new EventFeed(EVENT_FEED_DEFAULTS, { database }) }),
    invoicing: createInvoicing({ ...deps, books: booksOf(database) }),
    payouts: openPayouts(options, { ...deps, rail: new FilePayoutRail({ folder: join(dataDir, 'files') }) }),
  };
}

const until = new Date(Math.floor(Date.now() / DAY_MS) * DAY_MS);
const rows = Number(flags.rows);
const tenants = await fill(admin, { rows, charged: Number(flags.charged), until, log: say });
const services = openServices();

/** What a server does by and by: sums of days that are over, and of earnings. */
async function sumUp() {
  const started = performance.now();
  const days = await new DayRollup(DAY_ROLLUP_DEFAULTS, { database }).run();
  const between = performance.now();
  const batches = await new EarningsRollup(EARNINGS_ROLLUP_DEFAULTS, { database }).run();
  const [usage, earnings] = [between - started, performance.now() - between].map((ms) => ms / 1_000);
  say(`summed up ${days} days in ${usage.toFixed(1)} s, ${batches} batches in ${earnings.toFixed(1)} s`);
  await admin.query('VACUUM ANALYZE');
}
await sumUp();
const schema = createSchema();
const principalOf = (tenantId, kind = 'TENANT') => ({ kind, tenantId, keyId: randomUUID(), scopes: SCOPES });
const largest = principalOf(tenants[0]);
const middle = principalOf(tenants[MEDIAN - 1]);
const operator = principalOf(PLATFORM_TENANT_ID, 'OPERATOR');

/** Bills of the months that are over, and a draft of payouts, made by the product. */
async function bill() {
  const month = (back) =>
    new Date(Date.UTC(until.getUTCFullYear(), until.getUTCMonth() - back, 1)).toISOString();
  for (const { tenantId } of [largest, middle]) {
    for (const back of [2, 1]) {
      const input = { idempotencyKey: randomUUID(), tenantId, period: month(back).slice(0, 7) };
      const started = performance.now();
      const { id } = await services.invoicing.periods.close(SYSTEM_ACTOR, input);
      say(`closed ${input.period} in ${((performance.now() - started) / 1_000).toFixed(1)} s`);
      await services.invoicing.invoices.finalise(SYSTEM_ACTOR, {
        idempotencyKey: randomUUID(),
        invoiceId: id,
      });
    }
  }
}

const ago = (days) => new Date(until.getTime() - days * DAY_MS).toISOString();
const end = until.toISOString();
const someAdapter = (await admin.query('SELECT adapter_id FROM bench_adapter WHERE n = 40')).rows[0]
  .adapter_id;
const cursorOf = (key) => Buffer.from(`after:${key}`, 'utf8').toString('base64url');
/** Of a tenant's transfer with as many before as behind it. */
async function deepEntry({ tenantId }) {
  const { rows: found } = await admin.query(
    `SELECT id FROM ledger_transfer WHERE tenant_id = $1 ORDER BY id
     OFFSET (SELECT count(*) / 2 FROM ledger_transfer WHERE tenant_id = $1) LIMIT 1`,
    [tenantId],
  );
  return cursorOf(found[0].id);
}

const TOTALS = 'totals { requests promptTokens completionTokens computeMs }';
const USAGE = `query ($from: DateTime!, $to: DateTime!, $bucket: UsageBucket, $groupBy: UsageGroup, $adapter: ID,
  $perspective: UsagePerspective) { usage(from: $from, to: $to, bucket: $bucket, groupBy: $groupBy, adapter: $adapter,
  perspective: $perspective) { ${TOTALS} rows { start adapter { name } tenant { name } ${TOTALS} } } }`;
const usage = (more) => ({ query: USAGE, variables: { from: ago(DAYS), to: end, bucket: 'DAY', ...more } });
const ENTRIES = `query ($after: String, $kinds: [LedgerEntryKind!]) { ledgerEntries(first: 50, after: $after, kinds: $kinds) {
  edges { node { uuid kind amount held lines { account amount } } } } }`;
const EARNINGS = `query ($from: DateTime!, $to: DateTime!) { earnings(first: 100, from: $from, to: $to) {
  edges { node { adapterVersion amount postings } } } }`;
const EVENTS = `query ($kinds: [String!]) { events(first: 50, kinds: $kinds) { edges { node { kind payload createdAt } } } }`;
const RECORDS = `query ($adapter: ID, $from: DateTime, $to: DateTime) { usageRecords(first: 50, adapter: $adapter, from: $from,
  to: $to) { edges { node { requestId promptTokens completionTokens } } } }`;
const STATEMENT = `query ($period: String!) { earningsStatement(period: $period, currency: "USD") {
  opening earned { adapterVersion amount postings } paid closing } }`;
const hours = (count) => new Date(until.getTime() - count * 3_600_000 - 1_234_567).toISOString();

/** What is asked, by name, as a tenant that is given. */
async function questions(caller) {
  return {
    'usage by day, 90 days': usage({}),
    'usage by hour, 7 days': usage({ from: ago(7), bucket: 'HOUR' }),
    'usage by day and adapter, 1 day': usage({ from: ago(1), groupBy: 'ADAPTER' }),
    'usage of one adapter by day, 90 days': usage({ adapter: toGlobalId('Adapter', someAdapter) }),
    'usage of own adapters by day, 90 days': usage({ perspective: 'OWNER' }),
    'usage of own adapters by adapter, 5 days': usage({
      from: ago(5),
      perspective: 'OWNER',
      groupBy: 'ADAPTER',
    }),
    'usageRecords, first page': { query: RECORDS, variables: {} },
    'usageRecords of one adapter': {
      query: RECORDS,
      variables: { adapter: toGlobalId('Adapter', someAdapter) },
    },
    'usageRecords of a day, 60 days ago': { query: RECORDS, variables: { from: ago(61), to: ago(60) } },
    balances: { query: '{ balances { account posted held available } }' },
    'ledgerEntries, first page': { query: ENTRIES, variables: {} },
    'ledgerEntries, deep page': { query: ENTRIES, variables: { after: await deepEntry(caller) } },
    'ledgerEntries of a rare kind': { query: ENTRIES, variables: { kinds: ['SINGLE'] } },
    'earnings of a day': { query: EARNINGS, variables: { from: ago(1), to: end } },
    'earnings of the last 24 hours': { query: EARNINGS, variables: { from: hours(24), to: hours(0) } },
    'earnings of 30 days': { query: EARNINGS, variables: { from: ago(30), to: end } },
    'earnings of 90 days': { query: EARNINGS, variables: { from: ago(DAYS), to: end } },
    'earningsStatement of the last month': { query: STATEMENT, variables: { period: ago(31).slice(0, 7) } },
    earningsBalances: { query: '{ earningsBalances { posted held maturing payable } }' },
    'events of all kinds': { query: EVENTS, variables: {} },
    'events of a rare kind': { query: EVENTS, variables: { kinds: ['balance.adjusted'] } },
    'events of a kind that never was': { query: EVENTS, variables: { kinds: ['credit_note.created'] } },
    invoices: { query: '{ invoices(first: 20) { edges { node { number total state } } } }' },
    budgets: { query: '{ budgets { scope period limit spent left } }' },
    payouts: { query: '{ payouts(first: 20) { edges { node { state amount } } } }' },
  };
}

const OPERATORS = {
  'usage of all by day, 90 days': usage({}),
  'usage of all by day and tenant, 20 days': usage({ from: ago(20), groupBy: 'TENANT' }),
  'usage of all by day and adapter, 2 days': usage({ from: ago(2), groupBy: 'ADAPTER' }),
};

async function ask(principal, { query, variables }) {
  const contextValue = createGraphqlContext({
    requestId: randomUUID(),
    log: { error: say, warn: say },
    principal,
    services,
    signal: new AbortController().signal,
  });
  const started = performance.now();
  const answer = await graphql({ schema, source: query, contextValue, variableValues: variables });
  const took = performance.now() - started;
  if (answer.errors !== undefined) throw answer.errors[0];
  return took;
}

async function measure(who, principal, name, question) {
  if (!`${who} ${name}`.includes(flags.only)) return;
  // Connections make their plans, and pages come into memory.
  for (let i = 0; i < 3; i++) await ask(principal, question);
  const times = [];
  for (let i = 0; i < Number(flags.repeats); i++) times.push(await ask(principal, question));
  const p95 = times.toSorted((a, b) => a - b)[Math.ceil(times.length * 0.95) - 1];
  const mark = p95 < 100 ? '' : ' over';
  console.log(`| ${name} | ${who} | ${median(times).toFixed(1)} | ${p95.toFixed(1)}${mark} |`);
}

await bill();
const [{ model }] = cpus();
console.log(
  `${rows} usage rows, ${flags.charged} of them charged, ${flags.repeats} times each. ${model}, ${cpus().length} processors, ` +
    `${Math.round(totalmem() / 2 ** 30)} GiB, load average ${loadavg()[0].toFixed(1)}, shared_buffers ${settings.shared_buffers}.`,
);
console.log('| asked | by | median, ms | p95, ms |\n| --- | --- | ---: | ---: |');
for (const [who, principal] of Object.entries({ 'largest tenant': largest, 'median tenant': middle })) {
  for (const [name, question] of Object.entries(await questions(principal))) {
    await measure(who, principal, name, question);
  }
}
for (const [name, question] of Object.entries(OPERATORS)) await measure('operator', operator, name, question);

await admin.end();
await database.close();
await server.stop();
await rm(dataDir, { recursive: true, force: true });
process.exit(0);

import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toGlobalId } from '../../../src/graphql/ids.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { newId } from '../../../src/kernel/ids.ts';
import type { TestKey } from '../../kit/tenancy.ts';
import { sampleFiles } from '../adapter/kit.ts';
import { chargeStatement } from '../billing/charge.ts';
import { openStack, type Stack } from './stack.ts';

const HUGE = '9007199254740993';
const FUNDS = `{ transfer balance { currency posted held creditLimit available } userErrors { code field fix meta } }`;
const TOP_UP = `mutation ($input: TopUpInput!) { topUp(input: $input) ${FUNDS} }`;
const ADJUST = `mutation ($input: AdjustBalanceInput!) { adjustBalance(input: $input) ${FUNDS} }`;
const LIMIT = `mutation ($input: SetCreditLimitInput!) { setCreditLimit(input: $input) ${FUNDS} }`;
const BUDGET = `{ uuid scope key adapter period currency limit alertsPpm spent held left periodStart resetsAt }`;
const SET_BUDGET = `mutation ($input: SetBudgetInput!) {
  setBudget(input: $input) { budget ${BUDGET} userErrors { code field } }
}`;
const REMOVE_BUDGET = `mutation ($input: RemoveBudgetInput!) {
  removeBudget(input: $input) { uuid userErrors { code field } }
}`;
const BALANCES = `query ($tenant: ID) { balances(tenant: $tenant) { account currency posted held creditLimit available } }`;
const PERIODS = `query ($budget: UUID!, $after: String) { budgetPeriods(budget: $budget, after: $after) {
  edges { cursor node { periodStart periodEnd limit spent held alertsReachedPpm } } pageInfo { hasNextPage } } }`;
const BUDGETS = `query ($tenant: ID) { budgets(tenant: $tenant) ${BUDGET} }`;
const ENTRIES = `query ($first: Int, $after: String, $kinds: [LedgerEntryKind!], $tenant: ID) {
  ledgerEntries(first: $first, after: $after, kinds: $kinds, tenant: $tenant) {
    edges { cursor node { uuid kind currency amount held hold referenceType reference lines { account amount subject } createdAt } }
    pageInfo { hasNextPage endCursor }
  }
}`;

let stack: Stack;
let operator: TestKey;
beforeAll(async () => {
  stack = await openStack();
  operator = await stack.tenancy.createOperatorKey();
});
afterAll(() => stack.close());

/** The one value below a path of an answer. */
function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>(
    (found, name) => (typeof found === 'object' && found !== null ? Reflect.get(found, name) : undefined),
    value,
  );
}

async function tenant() {
  const { tenant: made, key } = await stack.tenant(`t-${randomUUID().slice(0, 8)}`);
  return { id: made.id, globalId: toGlobalId('Tenant', made.id), key };
}

const send = async (who: TestKey, document: string, input: object) => {
  const { data, errors } = await stack.query(who.header, document, {
    input: { idempotencyKey: randomUUID(), ...input },
  });
  return { answer: data && Object.values(data)[0], code: errors?.[0]?.extensions['code'] };
};

test('an operator tops up, lets owe and adjusts; the tenant sees the balance and every entry', async () => {
  const one = await tenant();
  const input = { idempotencyKey: randomUUID(), tenant: one.globalId, amount: HUGE, reason: 'wire 1' };
  const topped = await send(operator, TOP_UP, input);
  expect(topped.answer).toEqual({
    transfer: expect.any(String),
    balance: { currency: 'USD', posted: HUGE, held: '0', creditLimit: '0', available: HUGE },
    userErrors: [],
  });
  expect(await send(operator, TOP_UP, input)).toEqual(topped);
  const limited = await send(operator, LIMIT, { tenant: one.globalId, creditLimit: '7' });
  expect(limited.answer).toMatchObject({
    transfer: null,
    balance: { creditLimit: '7', available: '9007199254741000' },
  });
  const correction = { tenant: one.globalId, kind: 'CORRECTION', amount: `-${HUGE}`, reason: 'a test' };
  expect((await send(operator, ADJUST, correction)).answer).toMatchObject({
    balance: { posted: '0', available: '7' },
  });
  expect((await send(operator, ADJUST, { ...correction, amount: '-8' })).answer).toEqual({
    transfer: null,
    balance: null,
    userErrors: [
      {
        code: 'BUDGET_EXCEEDED',
        field: 'input.amount',
        fix: expect.any(String),
        meta: { amount: '8', available: '7' },
      },
    ],
  });
  expect((await send(operator, ADJUST, { ...correction, kind: 'REFUND' })).answer).toMatchObject({
    userErrors: [{ code: 'BAD_INPUT', field: 'input.amount' }],
  });
  expect((await send(operator, TOP_UP, { ...input, amount: '1' })).answer).toMatchObject({
    userErrors: [{ code: 'IDEMPOTENCY_CONFLICT', field: 'input.idempotencyKey' }],
  });
  expect((await send(one.key, TOP_UP, { ...input, idempotencyKey: randomUUID() })).code).toBe('FORBIDDEN');

  const { data: balances } = await stack.query(one.key.header, BALANCES);
  const balance = {
    account: 'CUSTOMER',
    currency: 'USD',
    posted: '0',
    held: '0',
    creditLimit: '7',
    available: '7',
  };
  expect(balances).toEqual({ balances: [balance] });
  expect((await stack.query(operator.header, BALANCES, { tenant: one.globalId })).data).toEqual(balances);
  const { data } = await stack.query(one.key.header, ENTRIES, { first: 1 });
  expect(at(data, 'ledgerEntries')).toMatchObject({
    edges: [
      {
        node: {
          kind: 'SINGLE',
          currency: 'USD',
          amount: HUGE,
          held: '0',
          hold: null,
          referenceType: 'correction',
          reference: null,
          lines: [{ account: 'CUSTOMER', amount: `-${HUGE}`, subject: null }],
        },
      },
    ],
    pageInfo: { hasNextPage: true },
  });
  const after = at(data, 'ledgerEntries', 'pageInfo', 'endCursor');
  const rest = await stack.query(one.key.header, ENTRIES, { after });
  expect(at(rest.data, 'ledgerEntries', 'edges')).toMatchObject([
    { node: { uuid: at(topped.answer, 'transfer'), referenceType: 'top_up' } },
  ]);
  const holds = await stack.query(one.key.header, ENTRIES, { kinds: ['PENDING', 'POST'] });
  expect(at(holds.data, 'ledgerEntries', 'edges')).toEqual([]);
});

test('budgets are set, read with what is left, and removed, by keys that may', async () => {
  const one = await tenant();
  const version = await stack.registry.ready(one.id, 'budgeted', sampleFiles());
  const adapter = toGlobalId('Adapter', version.adapterId);
  const key = toGlobalId('ApiKey', one.key.principal.keyId);
  const whole = { scope: 'TENANT', period: 'MONTH', limit: HUGE };
  const set = await send(one.key, SET_BUDGET, whole);
  expect(set.answer).toMatchObject({
    budget: {
      scope: 'TENANT',
      key: null,
      adapter: null,
      limit: HUGE,
      left: HUGE,
      alertsPpm: [800_000, 1_000_000],
    },
    userErrors: [],
  });
  expect(
    (await send(one.key, SET_BUDGET, { scope: 'KEY', key, period: 'DAY', limit: '10' })).answer,
  ).toMatchObject({
    budget: { key, adapter: null },
  });
  const ofAdapter = { scope: 'ADAPTER', adapter, period: 'DAY', limit: '0', alertsPpm: [] };
  expect((await send(one.key, SET_BUDGET, ofAdapter)).answer).toMatchObject({
    budget: { adapter, alertsPpm: [] },
  });
  const { text, values } = chargeStatement([
    { id: newId(systemClock), tenantId: one.id, keyId: one.key.principal.keyId, amount: 4n },
  ]);
  expect(await stack.registry.db.database.querySystem(text, values)).toEqual([]);
  const { data } = await stack.query(one.key.header, BUDGETS);
  expect(at(data, 'budgets')).toMatchObject([
    { scope: 'TENANT', held: '4', spent: '0', left: '9007199254740989' },
    { scope: 'KEY', held: '4', left: '6' },
    { scope: 'ADAPTER', held: '0', left: '0' },
  ]);
  expect((await stack.query(operator.header, BUDGETS, { tenant: one.globalId })).data).toEqual(data);
  expect(
    Date.parse(String(at(data, 'budgets', 1, 'resetsAt'))) -
      Date.parse(String(at(data, 'budgets', 1, 'periodStart'))),
  ).toBe(86_400_000);

  const budget = at(set.answer, 'budget', 'uuid');
  const stranger = await tenant();
  const use = await stack.query(one.key.header, PERIODS, { budget });
  expect(at(use.data, 'budgetPeriods')).toEqual({
    edges: [
      {
        cursor: expect.any(String),
        node: {
          periodStart: at(data, 'budgets', 0, 'periodStart'),
          periodEnd: at(data, 'budgets', 0, 'resetsAt'),
          ...{ limit: HUGE, spent: '0', held: '4', alertsReachedPpm: [] },
        },
      },
    ],
    pageInfo: { hasNextPage: false },
  });
  const after = at(use.data, 'budgetPeriods', 'edges', 0, 'cursor');
  const none = { budgetPeriods: { edges: [], pageInfo: { hasNextPage: false } } };
  expect((await stack.query(one.key.header, PERIODS, { budget, after })).data).toEqual(none);
  expect((await stack.query(stranger.key.header, PERIODS, { budget })).data).toEqual(none);
  expect((await send(stranger.key, REMOVE_BUDGET, { budget })).answer).toEqual({
    uuid: null,
    userErrors: [{ code: 'NOT_FOUND', field: 'input.budget' }],
  });
  expect((await send(one.key, REMOVE_BUDGET, { budget })).answer).toEqual({ uuid: budget, userErrors: [] });
  const weak = await stack.tenancy.createKey(one.id, ['billing:read', 'infer']);
  expect((await send(weak, SET_BUDGET, whole)).code).toBe('FORBIDDEN');
});

describe('a budget that cannot be', () => {
  test.each([
    [{ scope: 'TENANT', key: toGlobalId('ApiKey', randomUUID()) }, 'BAD_INPUT', 'input.key'],
    [{ scope: 'KEY', adapter: toGlobalId('Adapter', randomUUID()) }, 'BAD_INPUT', 'input.adapter'],
    [{ scope: 'KEY' }, 'BAD_INPUT', 'input.key'],
    [{ scope: 'ADAPTER', adapter: 'nonsense' }, 'BAD_INPUT', 'input.adapter'],
    [
      { scope: 'ADAPTER', adapter: toGlobalId('Adapter', randomUUID()) },
      'ADAPTER_NOT_FOUND',
      'input.adapter',
    ],
    [{ scope: 'KEY', key: toGlobalId('ApiKey', randomUUID()) }, 'NOT_FOUND', 'input.key'],
    [{ scope: 'TENANT', limit: '-1' }, 'BAD_INPUT', 'input.limit'],
    [{ scope: 'TENANT', alertsPpm: [0] }, 'BAD_INPUT', 'input.alertsPpm'],
    [{ scope: 'TENANT', idempotencyKey: '' }, 'BAD_INPUT', 'input.idempotencyKey'],
  ])('%o is refused with %s of %s', async (input, code, field) => {
    const one = await tenant();
    const { answer } = await send(one.key, SET_BUDGET, { period: 'DAY', limit: '1', ...input });
    expect(answer).toEqual({ budget: null, userErrors: [{ code, field }] });
  });
});

test('earnings are paged by adapter version', async () => {
  const one = await tenant();
  const document = `query ($after: String, $from: DateTime!, $to: DateTime!) {
    earnings(first: 1, after: $after, from: $from, to: $to) {
      edges { cursor node { adapterVersion currency amount postings } } pageInfo { hasNextPage endCursor }
    }
  }`;
  const { tenant: payer } = await stack.tenant(`t-${randomUUID().slice(0, 8)}`);
  const versions = [newId(systemClock), newId(systemClock)].toSorted();
  const { admin } = stack.registry.db;
  const open = async (tenantId: string, kind: string): Promise<string> => {
    const [row] = await stack.registry.db.database.querySystem<{ id: string }>(
      `SELECT patchbay.ledger_open_account($1, $2, $3, 'USD', now()) AS id`,
      [newId(systemClock), tenantId, kind],
    );
    return row?.id ?? '';
  };
  const [earner, customer] = [await open(one.id, 'EARNINGS'), await open(payer.id, 'CUSTOMER')];
  await send(operator, TOP_UP, { tenant: toGlobalId('Tenant', payer.id), amount: '100' });
  for (const [index, version] of versions.entries()) {
    await stack.registry.db.database.querySystem(
      `SELECT * FROM patchbay.ledger_post(ARRAY[$1::uuid], ARRAY[$2::uuid], '{USD}', ARRAY[$1::text], '{inference}', ARRAY[NULL]::uuid[],
         '{1,1}', ARRAY[$3, $4]::uuid[], ARRAY[-$5::bigint, $5::bigint], ARRAY[NULL, $6::uuid], now())`,
      [newId(systemClock), payer.id, customer, earner, 10 + index, version],
    );
  }
  expect(await admin('SELECT 1 FROM ledger_posting WHERE account_id = $1', [earner])).toHaveLength(2);
  const period = {
    from: new Date(Date.now() - 3_600_000).toISOString(),
    to: new Date(Date.now() + 3_600_000).toISOString(),
  };
  const first = await stack.query(one.key.header, document, period);
  expect(at(first.data, 'earnings', 'edges', 0, 'node')).toEqual({
    adapterVersion: toGlobalId('AdapterVersion', versions[0] ?? ''),
    currency: 'USD',
    amount: '10',
    postings: '1',
  });
  const after = at(first.data, 'earnings', 'pageInfo', 'endCursor');
  const second = await stack.query(one.key.header, document, { ...period, after });
  expect(at(second.data, 'earnings')).toMatchObject({
    edges: [{ node: { adapterVersion: toGlobalId('AdapterVersion', versions[1] ?? ''), amount: '11' } }],
    pageInfo: { hasNextPage: false },
  });
  const bad = await stack.query(one.key.header, document, { ...period, after: 'YWZ0ZXI6eA' });
  expect(bad.errors?.[0]?.extensions).toMatchObject({ code: 'BAD_INPUT', field: 'after' });
});

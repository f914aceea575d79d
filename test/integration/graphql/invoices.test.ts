import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import { toGlobalId } from '../../../src/graphql/ids.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { LEDGER_DEFAULTS, LedgerService } from '../../../src/ledger/service.ts';
import { RECONCILIATION_RULES } from '../../../src/reconciliation/types.ts';
import { writeSettled } from '../../kit/settled.ts';
import type { TestKey } from '../../kit/tenancy.ts';
import { CONTEXT } from '../../unit/adapter/sample.ts';
import { openStack, type Stack } from './stack.ts';

const INVOICE = `uuid tenant number state period periodStart periodEnd currency charges total open paymentReference
  revision issuer paidFromBalance due paymentTransfer
  lines(first: 1) { edges { cursor node { adapterVersion backbone name priority price royalty requests inputTokens
    cachedTokens outputTokens inputAmount cachedAmount outputAmount rankAmount royaltyAmount total } }
    pageInfo { hasNextPage } }
  adjustments { kind from discountPpm basis amount }
  terms { currency free minimum tiers { from discountPpm } }
  creditNotes { number amount reason } content sha256 html`;
const payload = (field: string, type: string) =>
  `mutation ($input: ${type}!) { ${field}(input: $input) { invoice { ${INVOICE} } userErrors { code field meta } } }`;
const CLOSE = payload('closePeriod', 'ClosePeriodInput');
const CLOSE_ALL = `mutation ($input: ClosePeriodsInput!) {
  closePeriods(input: $input) {
    closed { uuid tenant } alreadyClosed refused { tenant error { code } } next userErrors { code field }
  }
}`;
const OPEN = '{ openPeriods(first: 100) { edges { cursor node { tenant customerName period unsettled } } } }';
const FINALISE = payload('finaliseInvoice', 'FinaliseInvoiceInput');
const PAY = payload('markInvoicePaid', 'MarkInvoicePaidInput');
const VOID = payload('voidInvoice', 'VoidInvoiceInput');
const CREDIT = `mutation ($input: CreateCreditNoteInput!) {
  createCreditNote(input: $input) {
    creditNote { uuid number invoice currency amount reason } userErrors { code field meta }
  }
}`;
const TERMS = `mutation ($input: SetBillingTermsInput!) {
  setBillingTerms(input: $input) {
    terms { uuid tenant terms { free minimum tiers { from discountPpm } } effectiveFrom effectiveUntil }
    userErrors { code field }
  }
}`;
const LIST = `query ($tenant: ID, $first: Int, $after: String) {
  invoices(tenant: $tenant, first: $first, after: $after) {
    edges { cursor node { uuid state period } } pageInfo { hasNextPage }
  }
}`;
const GET = `query ($id: UUID!) { invoice(id: $id) { ${INVOICE} } }`;

let stack: Stack;
let operator: TestKey;
let customer: { readonly tenantId: string; readonly key: TestKey };
let stranger: TestKey;
let price: string;

/** The one value below a path of an answer. */
function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>(
    (found, name) => (typeof found === 'object' && found !== null ? Reflect.get(found, name) : undefined),
    value,
  );
}

const run = (who: TestKey, query: string, input: object) =>
  stack.query(who.header, query, { input: { idempotencyKey: randomUUID(), ...input } });
const tenant = () => toGlobalId('Tenant', customer.tenantId);

beforeAll(async () => {
  stack = await openStack();
  operator = await stack.tenancy.createOperatorKey();
  const { id } = await stack.tenancy.createTenant('customer');
  await stack.registry.db.admin(`UPDATE tenant SET created_at = '2025-01-01T00:00:00Z' WHERE id = $1`, [id]);
  customer = { tenantId: id, key: await stack.tenancy.createKey(id, ['billing:read']) };
  stranger = (await stack.tenant('stranger')).key;
  const set = await run(
    operator,
    `mutation ($input: SetPriceInput!) { setPrice(input: $input) { price { uuid } userErrors { code } } }`,
    {
      backbone: toGlobalId('Backbone', CONTEXT.backboneDigest),
      terms: { currency: 'USD', inputPerMillion: '1', cachedInputPerMillion: '1', outputPerMillion: '1' },
    },
  );
  price = String(at(set.data, 'setPrice', 'price', 'uuid'));
  const deps = { database: stack.registry.db.database, clock: systemClock };
  const ledger = new LedgerService(LEDGER_DEFAULTS, deps);
  const [accountId, platform] = [
    await ledger.openAccount(id, 'CUSTOMER', 'USD'),
    await ledger.openAccount(PLATFORM_TENANT_ID, 'PLATFORM_BASE', 'USD'),
  ];
  // What the requests cost is taken from a balance that may go below zero.
  await ledger.setCreditLimit(accountId, 10n ** 18n, 'limit');
  for (const { endedAt, priority, inputNano } of [
    { endedAt: '2025-02-10T00:00:00Z', priority: 'STANDARD', inputNano: 9_007_199_254_740_993n },
    { endedAt: '2025-02-28T23:59:59.999Z', priority: 'BATCH', inputNano: 7n },
  ]) {
    await writeSettled(deps, {
      ...{ tenantId: id, accountId, platform, backbone: CONTEXT.backboneDigest, priceVersion: price },
      ...{ endedAt, priority, inputNano, inputTokens: 3, cachedTokens: 2, outputTokens: 1 },
    });
  }
});
afterAll(() => stack.close());

test('a month is billed: terms, closing, number, credit note, payment', async () => {
  const closed = await run(operator, CLOSE, { tenant: tenant(), period: '2025-02' });
  const draft = at(closed.data, 'closePeriod', 'invoice');
  expect(at(closed.data, 'closePeriod', 'userErrors')).toEqual([]);
  const backbone = toGlobalId('Backbone', CONTEXT.backboneDigest);
  expect(draft).toMatchObject({
    tenant: tenant(),
    number: null,
    state: 'DRAFT',
    period: '2025-02',
    periodStart: '2025-02-01T00:00:00.000Z',
    periodEnd: '2025-03-01T00:00:00.000Z',
    currency: 'USD',
    charges: '9007199254741000',
    total: '9007199254741000',
    ...{ open: '0', revision: 1, issuer: null, paidFromBalance: '0', due: '9007199254741000' },
    paymentTransfer: null,
    adjustments: [],
    terms: null,
    lines: {
      edges: [
        {
          node: {
            adapterVersion: null,
            backbone,
            name: 'sample',
            priority: 'BATCH',
            price,
            royalty: null,
            requests: '1',
            inputTokens: '3',
            cachedTokens: '2',
            outputTokens: '1',
            inputAmount: '7',
            cachedAmount: '0',
            royaltyAmount: '0',
            total: '7',
          },
        },
      ],
      pageInfo: { hasNextPage: true },
    },
    html: expect.stringContaining('9007199.254741'),
  });
  const invoice = String(at(draft, 'uuid'));
  const cursor = at(draft, 'lines', 'edges', 0, 'cursor');
  const rest = await stack.query(
    customer.key.header,
    `query ($id: UUID!, $after: String) { invoice(id: $id) { lines(after: $after) { edges { node { priority } }
       pageInfo { hasNextPage hasPreviousPage } } } }`,
    { id: invoice, after: cursor },
  );
  expect(at(rest.data, 'invoice', 'lines')).toEqual({
    edges: [{ node: { priority: 'STANDARD' } }],
    pageInfo: { hasNextPage: false, hasPreviousPage: true },
  });

  const again = await run(operator, CLOSE, { tenant: tenant(), period: '2025-02' });
  expect(at(again.data, 'closePeriod')).toMatchObject({
    invoice: null,
    userErrors: [{ code: 'INVOICE_STATE', field: 'input.period' }],
  });
  const future = await run(operator, CLOSE, { tenant: tenant(), period: '2999-01' });
  expect(at(future.data, 'closePeriod', 'userErrors')).toMatchObject([
    { code: 'PERIOD_OPEN', field: 'input.period', meta: { closableFrom: '2999-02-01T00:01:00.000Z' } },
  ]);

  const key = randomUUID();
  const finalise = () => run(operator, FINALISE, { idempotencyKey: key, invoice });
  const final = await finalise();
  expect(at(final.data, 'finaliseInvoice', 'invoice')).toMatchObject({
    state: 'FINALISED',
    number: expect.stringMatching(/^INV-\d{4}-000001$/),
  });
  expect(await finalise()).toEqual(final);

  const credited = await run(operator, CREDIT, {
    invoice,
    amount: '9007199254740993',
    reason: 'Slow & late',
  });
  expect(at(credited.data, 'createCreditNote')).toMatchObject({
    creditNote: { invoice, currency: 'USD', amount: '9007199254740993', reason: 'Slow & late' },
    userErrors: [],
  });
  const tooMuch = await run(operator, CREDIT, { invoice, amount: '8', reason: 'x' });
  expect(at(tooMuch.data, 'createCreditNote', 'userErrors')).toEqual([
    { code: 'CREDIT_EXCEEDED', field: 'input.amount', meta: { left: '7' } },
  ]);
  const paid = await run(operator, PAY, { invoice, reference: 'SEPA 12' });
  expect(at(paid.data, 'markInvoicePaid', 'invoice')).toMatchObject({
    state: 'PAID',
    due: '0',
    paymentTransfer: expect.stringMatching(/^[0-9a-f-]{36}$/),
    paymentReference: 'SEPA 12',
    creditNotes: [{ number: expect.stringMatching(/^CN-\d{4}-000001$/), reason: 'Slow & late' }],
    html: expect.stringContaining('Slow &amp; late'),
    content: at(draft, 'content'),
    sha256: at(draft, 'sha256'),
  });
  const late = await run(operator, VOID, { invoice });
  expect(at(late.data, 'voidInvoice', 'userErrors')).toMatchObject([
    { code: 'INVOICE_STATE', field: 'input.invoice', meta: { state: 'PAID' } },
  ]);

  const mine = await stack.query(customer.key.header, GET, { id: invoice });
  expect(at(mine.data, 'invoice')).toEqual(at(paid.data, 'markInvoicePaid', 'invoice'));
  expect((await stack.query(stranger.header, GET, { id: invoice })).data).toEqual({ invoice: null });
  const missing = await run(operator, FINALISE, { invoice: randomUUID() });
  expect(at(missing.data, 'finaliseInvoice', 'userErrors')).toMatchObject([
    { code: 'NOT_FOUND', field: 'input.invoice' },
  ]);
});

test('terms are set by operators, listed by whom they concern, and taken back with a void invoice', async () => {
  const tiers = [{ from: '0', discountPpm: 100_000 }];
  const set = await run(operator, TERMS, {
    tenant: tenant(),
    terms: { currency: 'USD', free: '5', minimum: '10', tiers },
  });
  expect(at(set.data, 'setBillingTerms')).toMatchObject({
    terms: { tenant: tenant(), terms: { free: '5', minimum: '10', tiers }, effectiveUntil: null },
    userErrors: [],
  });
  const wrong = [
    [
      { terms: { currency: 'USD', tiers: [{ from: '0', discountPpm: -1 }] } },
      'input.terms.tiers.0.discountPpm',
    ],
    [{ terms: { currency: 'USD', free: '-1' } }, 'input.terms.free'],
    [{ terms: { currency: 'EUR' } }, 'input.terms.currency'],
    [{}, 'input.terms'],
  ] as const;
  for (const [input, field] of wrong) {
    const { data } = await run(operator, TERMS, input);
    expect(at(data, 'setBillingTerms', 'userErrors'), field).toMatchObject([{ code: 'BAD_INPUT', field }]);
  }
  const early = await run(operator, TERMS, {
    ...{ terms: { currency: 'USD' }, effectiveFrom: '2020-02-29T00:00:00Z' },
  });
  expect(at(early.data, 'setBillingTerms', 'userErrors')).toMatchObject([
    { code: 'TERMS_CONFLICT', field: 'input.effectiveFrom' },
  ]);
  const listed = await stack.query(
    customer.key.header,
    `query ($tenant: ID) { billingTerms(tenant: $tenant) { edges { node { uuid terms { free } } } } }`,
    { tenant: tenant() },
  );
  expect(at(listed.data, 'billingTerms', 'edges')).toEqual([
    { node: { uuid: at(set.data, 'setBillingTerms', 'terms', 'uuid'), terms: { free: '5' } } },
  ]);

  const closed = await run(operator, CLOSE, { tenant: tenant(), period: '2025-01' });
  const invoice = String(at(closed.data, 'closePeriod', 'invoice', 'uuid'));
  await run(operator, FINALISE, { invoice });
  const gone = await run(operator, VOID, { invoice });
  expect(at(gone.data, 'voidInvoice', 'invoice')).toMatchObject({ state: 'VOID', total: '0' });
});

test('lists are of one’s own, page by page, and operators’ of all', async () => {
  const first = await stack.query(customer.key.header, LIST, { first: 1 });
  expect(at(first.data, 'invoices')).toMatchObject({
    edges: [{ node: { period: '2025-02', state: 'PAID' } }],
    pageInfo: { hasNextPage: true },
  });
  const after = at(first.data, 'invoices', 'edges', 0, 'cursor');
  const next = await stack.query(customer.key.header, LIST, { after });
  expect(at(next.data, 'invoices', 'edges')).toMatchObject([{ node: { period: '2025-01', state: 'VOID' } }]);
  expect(at((await stack.query(stranger.header, LIST)).data, 'invoices', 'edges')).toEqual([]);
  expect(at((await stack.query(operator.header, LIST)).data, 'invoices', 'edges')).toHaveLength(2);
  const asked = await stack.query(stranger.header, LIST, { tenant: tenant() });
  expect(asked.errors?.[0]?.extensions.code).toBe('NOT_FOUND');
  const bad = await stack.query(
    customer.key.header,
    `{ invoices { edges { node { lines(after: "x") { edges { cursor } } } } } }`,
  );
  expect(bad.errors?.[0]?.extensions.code).toBe('BAD_INPUT');
});

test('a month is closed for everybody by one call, and what is open is listed', async () => {
  const open = async () => {
    const { data } = await stack.query(operator.header, OPEN);
    const edges = z
      .array(z.object({ node: z.object({ tenant: z.string(), period: z.string() }) }))
      .parse(at(data, 'openPeriods', 'edges'));
    return edges.filter(({ node }) => node.tenant === tenant()).map(({ node }) => node.period);
  };
  // January was made void.
  expect((await open()).slice(0, 2)).toEqual(['2025-01', '2025-03']);
  const closed = await run(operator, CLOSE_ALL, { period: '2025-03' });
  expect(at(closed.data, 'closePeriods')).toMatchObject({
    ...{ closed: [{ tenant: tenant() }], alreadyClosed: 0, refused: [], next: null, userErrors: [] },
  });
  expect((await open()).slice(0, 2)).toEqual(['2025-01', '2025-04']);
  const again = await run(operator, CLOSE_ALL, { period: '2025-03', first: 1 });
  expect(at(again.data, 'closePeriods')).toMatchObject({ closed: [], alreadyClosed: 1 });
  const wrong = await run(operator, CLOSE_ALL, { period: '2025-3' });
  expect(at(wrong.data, 'closePeriods')).toEqual({
    ...{ closed: null, alreadyClosed: null, refused: null, next: null },
    userErrors: [{ code: 'BAD_INPUT', field: 'input.period' }],
  });
});

test('tenants change nothing, and read nothing without the scope', async () => {
  const input = { invoice: randomUUID() };
  const attempts = [
    [CLOSE, { tenant: tenant(), period: '2025-03' }],
    [FINALISE, input],
    [CLOSE_ALL, { period: '2025-03' }],
    [PAY, input],
    [VOID, input],
    [CREDIT, { ...input, amount: '1', reason: 'x' }],
    [TERMS, { tenant: tenant() }],
  ] as const;
  for (const [query, given] of attempts) {
    const { errors } = await run(customer.key, query, given);
    expect(errors?.[0]?.extensions.code, query).toBe('FORBIDDEN');
  }
  const weak = await stack.tenancy.createKey(customer.tenantId, ['usage:read']);
  for (const query of [
    '{ invoices { edges { cursor } } }',
    '{ billingTerms { edges { cursor } } }',
    OPEN,
    `{ invoice(id: "${randomUUID()}") { uuid } }`,
  ]) {
    expect((await stack.query(weak.header, query)).errors?.[0]?.extensions.code, query).toBe('FORBIDDEN');
  }
});

const RECONCILE = `query ($tenant: ID, $first: Int, $after: String) {
  reconciliation(from: "2025-01-01T00:00:00Z", to: "2025-12-01T00:00:00Z", tenant: $tenant) {
    tenant agrees requests uncounted counts { rule differences }
    differences(first: $first, after: $after) {
      edges { cursor node { rule subject subjectId tenant detail expected actual } } pageInfo { hasNextPage hasPreviousPage }
    }
  }
}`;

test('an operator reconciles a period, and a month that differs is not closed', async () => {
  const { db } = stack.registry;
  const reconciled = async (variables: Record<string, unknown>) =>
    at((await stack.query(operator.header, RECONCILE, variables)).data, 'reconciliation');
  expect(await reconciled({})).toMatchObject({
    ...{ tenant: null, agrees: true, requests: 2, uncounted: 0 },
    counts: RECONCILIATION_RULES.map((rule) => ({ rule, differences: 0 })),
    differences: { edges: [] },
  });
  const { id: tenantId } = await stack.tenancy.createTenant('differs');
  await db.admin(`UPDATE tenant SET created_at = '2025-01-01T00:00:00Z' WHERE id = $1`, [tenantId]);
  const ledger = new LedgerService(LEDGER_DEFAULTS, { database: db.database, clock: systemClock });
  const accountId = await ledger.openAccount(tenantId, 'CUSTOMER', 'USD');
  const request = {
    ...{ tenantId, accountId, platform: accountId, backbone: CONTEXT.backboneDigest, priceVersion: price },
    endedAt: '2025-09-10T00:00:00Z',
  };
  const ids: string[] = [];
  for (let i = 0; i < 3; i += 1) {
    ids.push(await writeSettled({ database: db.database, clock: systemClock }, request));
  }
  await db.admin(`BEGIN; SET LOCAL session_replication_role = replica;
    UPDATE usage_record SET engine_completion_tokens = 6 WHERE tenant_id = '${tenantId}'; COMMIT`);
  const tenant = toGlobalId('Tenant', tenantId);
  const first = await reconciled({ tenant, first: 2 });
  const node = (subjectId: string | undefined) => ({
    node: {
      ...{ rule: 'ENGINE_COMPLETION', subject: 'REQUEST', subjectId, tenant, detail: null },
      ...{ expected: '6', actual: '5' },
    },
  });
  ids.sort();
  expect(first).toMatchObject({
    ...{ tenant, agrees: false, requests: 3 },
    differences: {
      edges: [node(ids[0]), node(ids[1])],
      pageInfo: { hasNextPage: true, hasPreviousPage: false },
    },
  });
  expect(at(first, 'counts', 1)).toEqual({ rule: 'ENGINE_COMPLETION', differences: 3 });
  const after = at(first, 'differences', 'edges', 1, 'cursor');
  expect(await reconciled({ tenant, first: 2, after })).toMatchObject({
    differences: { edges: [node(ids[2])], pageInfo: { hasNextPage: false, hasPreviousPage: true } },
  });
  const refused = await run(operator, CLOSE, { tenant, period: '2025-09' });
  expect(at(refused.data, 'closePeriod')).toMatchObject({
    invoice: null,
    userErrors: [
      { code: 'RECONCILIATION_FAILED', field: 'input.period', meta: { differences: 3, tenant: tenantId } },
    ],
  });
  // A month of the same tenant that agrees is closed.
  const closed = await run(operator, CLOSE, { tenant, period: '2025-08' });
  expect(at(closed.data, 'closePeriod', 'userErrors')).toEqual([]);
  const denied = await stack.query(customer.key.header, RECONCILE, {
    tenant: toGlobalId('Tenant', customer.tenantId),
  });
  expect(denied.errors?.[0]?.extensions.code).toBe('FORBIDDEN');
});

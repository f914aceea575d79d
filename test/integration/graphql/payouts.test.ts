import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { toGlobalId } from '../../../src/graphql/ids.ts';
import type { TestKey } from '../../kit/tenancy.ts';
import { resultsFile } from '../../unit/payouts/files.ts';
import { earn } from '../tenant/isolation/victim.ts';
import { openStack, type Stack } from './stack.ts';

const ERRORS = 'userErrors { code field message fix meta }';
const BATCH = `batch {
  uuid state rail currency earnedBefore payoutCount total needsSecondPerson draftedBy approvedBy railReference railSha256
  createdAt approvedAt submittingAt submittedAt closedAt
} ${ERRORS}`;
const DESTINATION = 'uuid kind accountName accountReference effectiveFrom createdAt';
const PAYOUT = `uuid tenant batch state currency amount earnedBefore paymentKey bankReference returnReference destination { ${DESTINATION} }`;
const SET = `mutation ($input: SetPayoutDestinationInput!) {
  setPayoutDestination(input: $input) { destination { ${DESTINATION} } ${ERRORS} }
}`;
const CREATE = `mutation ($input: CreatePayoutBatchInput!) { createPayoutBatch(input: $input) { ${BATCH} } }`;
const step = (name: string) => `mutation ($input: PayoutBatchInput!) { ${name}(input: $input) { ${BATCH} } }`;
const IMPORT = `mutation ($input: ImportPayoutResultsInput!) {
  importPayoutResults(input: $input) { import { uuid sha256 resultCount appliedCount total createdAt } ${ERRORS} }
}`;
const RESOLVE = `mutation ($input: ResolveUnknownPayoutInput!) {
  resolveUnknownPayout(input: $input) { payout { ${PAYOUT} } ${ERRORS} }
}`;
const ADJUST = `mutation ($input: AdjustEarningsInput!) {
  adjustEarnings(input: $input) { transfer ${ERRORS} }
}`;
const MINE = `{
  earningsBalances { currency posted held maturing payable carried }
  payouts { edges { cursor node { ${PAYOUT} } } pageInfo { hasNextPage } }
  payoutDestinations { edges { node { ${DESTINATION} } } }
}`;

let stack: Stack;
let operator: TestKey;
let second: TestKey;
let owner: TestKey;
let tenantId: string;

beforeAll(async () => {
  stack = await openStack();
  operator = await stack.tenancy.createOperatorKey();
  second = await stack.tenancy.createOperatorKey();
  ({ id: tenantId } = await stack.tenancy.createTenant('owner'));
  owner = await stack.tenancy.createKey(tenantId, ['billing:read', 'payouts:write']);
});
afterAll(() => stack.close());

/** The one value below a path of an answer. */
function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>(
    (found, name) => (typeof found === 'object' && found !== null ? Reflect.get(found, name) : undefined),
    value,
  );
}

async function run(who: TestKey, query: string, input: object): Promise<unknown> {
  const { data, errors } = await stack.query(who.header, query, { input: { ...input } });
  return errors?.[0]?.extensions.code ?? Object.values(data ?? {})[0];
}

test('a beneficiary registers a destination, is paid by two operators and reads all of it', async () => {
  await earn(stack, tenantId);
  const account = {
    idempotencyKey: randomUUID(),
    accountName: 'Ada Lovelace',
    accountReference: 'DE89 3704 0044 0532 0130 00',
  };
  expect(await run(owner, SET, { ...account, accountReference: 'DE88370400440532013000' })).toMatchObject({
    destination: null,
    userErrors: [{ code: 'BAD_INPUT', field: 'input.accountReference', fix: expect.any(String) }],
  });
  const set = await run(owner, SET, account);
  expect(set).toMatchObject({
    destination: { kind: 'FILE', accountName: 'Ada Lovelace', accountReference: 'DE89370400440532013000' },
    userErrors: [],
  });
  expect(await run(owner, SET, account)).toEqual(set);

  expect(await run(owner, CREATE, { idempotencyKey: randomUUID(), currency: 'USD' })).toBe('FORBIDDEN');
  expect(await run(operator, CREATE, { idempotencyKey: randomUUID(), currency: 'EUR' })).toMatchObject({
    batch: null,
    userErrors: [{ code: 'PAYOUT_NOTHING_DUE', meta: { minimumNano: '10000000000' } }],
  });
  const drafted = await run(operator, CREATE, { idempotencyKey: randomUUID(), currency: 'USD' });
  expect(drafted).toMatchObject({
    batch: {
      ...{ state: 'DRAFT', rail: 'FILE', currency: 'USD', payoutCount: 1, total: '50000000000' },
      ...{
        needsSecondPerson: false,
        draftedBy: operator.principal.keyId,
        approvedBy: null,
        railReference: null,
      },
    },
    userErrors: [],
  });
  const batch = at(drafted, 'batch', 'uuid');
  const early = await run(operator, step('submitPayoutBatch'), { batch });
  expect(early).toMatchObject({ batch: null, userErrors: [{ code: 'PAYOUT_STATE', field: 'input.batch' }] });
  expect(await run(second, step('approvePayoutBatch'), { batch })).toMatchObject({
    batch: { state: 'APPROVED', approvedBy: second.principal.keyId },
  });
  const submitted = await run(operator, step('submitPayoutBatch'), { batch });
  expect(submitted).toMatchObject({ batch: { state: 'SUBMITTED', railReference: `payouts-${batch}.csv` } });
  expect(await run(operator, step('submitPayoutBatch'), { batch })).toEqual(submitted);
  expect(await run(operator, step('cancelPayoutBatch'), { batch })).toMatchObject({
    userErrors: [{ code: 'PAYOUT_STATE' }],
  });

  const mine = await stack.query(owner.header, MINE);
  expect(at(mine.data, 'earningsBalances')).toEqual([
    {
      currency: 'USD',
      posted: '50000000000',
      held: '50000000000',
      maturing: '0',
      payable: '0',
      carried: '0',
    },
  ]);
  const payout = at(mine.data, 'payouts', 'edges', 0, 'node');
  expect(payout).toMatchObject({
    ...{
      tenant: toGlobalId('Tenant', tenantId),
      batch,
      state: 'SENDING',
      currency: 'USD',
      amount: '50000000000',
    },
    ...{ bankReference: null, destination: at(set, 'destination') },
  });
  const key = String(at(payout, 'paymentKey'));
  const said = { key, amount: 50_000_000_000n };

  const wrong = resultsFile([{ ...said, key: 'f'.repeat(64), state: 'PAID', reference: 'B' }]);
  expect(await run(operator, IMPORT, { content: wrong })).toMatchObject({
    import: null,
    userErrors: [
      {
        code: 'PAYOUT_FILE',
        field: 'input.content',
        meta: { line: 2 },
        message: expect.stringContaining('Line 2'),
      },
    ],
  });
  const content = resultsFile([{ ...said, state: 'UNKNOWN' }]);
  const imported = await run(operator, IMPORT, { content });
  expect(imported).toMatchObject({
    import: { resultCount: 1, appliedCount: 1, total: '50000000000' },
    userErrors: [],
  });
  expect(await run(operator, IMPORT, { content })).toEqual(imported);
  const found = { payout: at(payout, 'uuid'), outcome: 'PAID', bankReference: 'BANK-1' };
  expect(await run(owner, RESOLVE, found)).toBe('FORBIDDEN');
  expect(await run(operator, RESOLVE, found)).toMatchObject({
    payout: { state: 'PAID', bankReference: 'BANK-1' },
    userErrors: [],
  });

  const period = new Date().toISOString().slice(0, 7);
  const statement = await stack.query(
    owner.header,
    `query ($period: String!) {
      earningsStatement(period: $period, currency: "USD") {
        tenant currency period isComplete opening earned { adapterVersion amount postings }
        corrections { adapterVersion amount postings } paid returned closing
      }
    }`,
    { period },
  );
  expect(at(statement.data, 'earningsStatement')).toEqual({
    ...{
      tenant: toGlobalId('Tenant', tenantId),
      currency: 'USD',
      period,
      isComplete: false,
      opening: '0',
      earned: [],
    },
    corrections: [{ adapterVersion: null, amount: '50000000000', postings: '1' }],
    ...{ paid: '50000000000', returned: '0', closing: '0' },
  });
  const bad = await stack.query(
    owner.header,
    '{ earningsStatement(period: "2026-13", currency: "USD") { closing } }',
  );
  expect(bad.errors?.[0]?.extensions).toMatchObject({ code: 'BAD_INPUT', field: 'period' });

  const seen = await stack.query(
    operator.header,
    'query ($id: UUID!) { payoutBatch(id: $id) { state closedAt } payoutBatches { edges { node { uuid } } } payouts(batch: $id) { edges { node { state } } } }',
    { id: batch },
  );
  expect(seen.data).toMatchObject({
    payoutBatch: { state: 'SETTLED', closedAt: expect.any(String) },
    payoutBatches: { edges: [{ node: { uuid: batch } }] },
    payouts: { edges: [{ node: { state: 'PAID' } }] },
  });
  const back = { ...said, state: 'RETURNED', reference: 'RETURN-1' };
  expect(await run(operator, IMPORT, { content: resultsFile([back]) })).toMatchObject({
    import: { appliedCount: 1 },
  });
  const adjust = { idempotencyKey: randomUUID(), tenant: toGlobalId('Tenant', tenantId), reason: 'Fraud' };
  const clawback = { ...adjust, amount: '-60000000000' };
  expect(await run(owner, ADJUST, clawback)).toBe('FORBIDDEN');
  const adjusted = await run(operator, ADJUST, clawback);
  expect(adjusted).toEqual({ transfer: expect.stringMatching(/^[0-9a-f-]{36}$/), userErrors: [] });
  expect(await run(operator, ADJUST, clawback)).toEqual(adjusted);
  expect(await run(operator, ADJUST, { ...clawback, amount: '0' })).toMatchObject({
    transfer: null,
    userErrors: [{ code: 'BAD_INPUT', field: 'input.amount' }],
  });
  const after = await stack.query(owner.header, MINE);
  expect(after.data).toMatchObject({
    earningsBalances: [{ posted: '-10000000000', held: '0', payable: '0' }],
    payouts: {
      edges: [{ node: { state: 'RETURNED', bankReference: 'BANK-1', returnReference: 'RETURN-1' } }],
    },
  });
  const hidden = await stack.query(owner.header, '{ payoutBatches { edges { cursor } } }');
  expect(hidden.errors?.[0]?.extensions.code).toBe('FORBIDDEN');
});

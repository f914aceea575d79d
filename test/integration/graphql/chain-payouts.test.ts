import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { SCOPES } from '../../../src/auth/principal.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { earn } from '../tenant/isolation/victim.ts';
import { openStack, type Stack } from './stack.ts';
import { findDistributor, publishTrees } from './stack-chain.ts';

let stack: Stack;
beforeAll(async () => {
  stack = await openStack();
  await findDistributor(stack.registry.db, stack.place, systemClock);
});
afterAll(() => stack.close());

const ADDRESS = '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed';
const batchOf = z.object({ batch: z.object({ uuid: z.string() }).loose(), userErrors: z.array(z.never()) });
const claimOf = z.object({ document: z.string() }).loose();

test('an owner is paid on a chain by the API: destination, batch, tree, money, claim', async () => {
  const { id: tenant } = await stack.tenancy.createTenant('ada');
  const owner = await stack.tenancy.createKey(tenant, [...SCOPES]);
  const operator = await stack.tenancy.createOperatorKey();
  const ask = async (header: string, query: string, variables: Record<string, unknown> = {}) => {
    const { data, errors } = await stack.query(header, query, variables);
    expect(errors).toBeUndefined();
    return data;
  };
  const set = (accountReference: string) =>
    ask(
      owner.header,
      `mutation ($input: SetPayoutDestinationInput!) { setPayoutDestination(input: $input) {
        destination { kind accountReference } userErrors { code field } } }`,
      { input: { idempotencyKey: randomUUID(), kind: 'CHAIN', accountName: 'Ada', accountReference } },
    );
  expect(await set(ADDRESS.replace('aA', 'Aa'))).toEqual({
    setPayoutDestination: {
      destination: null,
      userErrors: [{ code: 'BAD_INPUT', field: 'input.accountReference' }],
    },
  });
  expect(await set(ADDRESS.toLowerCase())).toEqual({
    setPayoutDestination: { destination: { kind: 'CHAIN', accountReference: ADDRESS }, userErrors: [] },
  });
  await earn(stack, tenant);
  const move = async (name: string, type: string, input: object) => {
    const data = await ask(
      operator.header,
      `mutation ($input: ${type}!) { ${name}(input: $input) { batch { uuid state rail railReference } userErrors { code } } }`,
      { input },
    );
    return batchOf.parse(data?.[name]).batch;
  };
  const { uuid: batch } = await move('createPayoutBatch', 'CreatePayoutBatchInput', {
    ...{ idempotencyKey: randomUUID(), currency: 'USD', rail: 'CHAIN' },
  });
  await move('approvePayoutBatch', 'PayoutBatchInput', { batch });
  const { distributor, token } = stack.place;
  expect(await move('submitPayoutBatch', 'PayoutBatchInput', { batch })).toMatchObject({
    ...{ state: 'SUBMITTED', rail: 'CHAIN', railReference: `31337:${distributor}:1` },
  });

  const trees = `{ payoutTrees { edges { node { sequence state batch chainId distributor token decimals currency total accounts
    transaction problem settledAt } } } }`;
  expect(await ask(operator.header, trees)).toEqual({
    payoutTrees: {
      edges: [
        {
          node: {
            ...{ sequence: '1', state: 'QUEUED', batch, chainId: '31337', distributor, token, decimals: 6 },
            ...{ currency: 'USD', total: '50000000', accounts: 1 },
            ...{ transaction: null, problem: null, settledAt: null },
          },
        },
      ],
    },
  });
  const refused = await stack.query(owner.header, trees);
  expect(refused.errors?.map(({ extensions }) => extensions.code)).toEqual(['FORBIDDEN']);

  const input = { idempotencyKey: randomUUID(), units: '50000000' };
  const fund = () =>
    ask(
      operator.header,
      `mutation ($input: FundPayoutsInput!) { fundPayouts(input: $input) {
        funding { uuid units state transaction problem } userErrors { code } } }`,
      { input },
    );
  const funded = await fund();
  expect(funded).toMatchObject({
    fundPayouts: { funding: { units: '50000000', state: 'QUEUED', transaction: null }, userErrors: [] },
  });
  expect(await fund()).toEqual(funded);

  const claim = `query ($account: String) { payoutClaim(account: $account) { account cumulative sequence root proof rest
    otherAccounts payouts { payout amount } document } }`;
  expect(await ask(owner.header, claim)).toEqual({ payoutClaim: null });
  await publishTrees(stack.registry.db);
  const told = await ask(owner.header, claim, { account: ADDRESS.toLowerCase() });
  expect(told).toMatchObject({
    payoutClaim: {
      ...{ account: ADDRESS, cumulative: '50000000', sequence: '1', proof: [], rest: '0', otherAccounts: [] },
      payouts: [{ amount: '50000000000' }],
    },
  });
  const { document } = claimOf.parse(told?.['payoutClaim']);
  expect(JSON.parse(document)).toMatchObject({
    format: 'patchbay-claim/1',
    claim: { tenant, distributor, account: ADDRESS, cumulative: '50000000' },
  });
});

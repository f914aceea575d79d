import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toGlobalId } from '../../../src/graphql/ids.ts';
import type { TestKey } from '../../kit/tenancy.ts';
import { CONTEXT } from '../../unit/adapter/sample.ts';
import { sampleFiles } from '../adapter/kit.ts';
import { openStack, type Stack } from './stack.ts';

const SET_PRICE = `mutation ($input: SetPriceInput!) {
  setPrice(input: $input) {
    price {
      uuid effectiveFrom effectiveUntil backbone { name } adapter { name }
      terms { currency inputPerMillion cachedInputPerMillion outputPerMillion rankPerMillion interactivePpm standardPpm
        batchPpm platformFeePpm }
    }
    userErrors { code field message fix }
  }
}`;
const SET_ROYALTY = `mutation ($input: SetRoyaltyInput!) {
  setRoyalty(input: $input) {
    royalty { uuid kind inputPerMillion outputPerMillion sharePpm adapter { name } effectiveFrom }
    userErrors { code field }
  }
}`;
const PROPOSAL = `uuid owner adapter adapterVersion state whole beneficiaries { tenant parts }
  decisions { tenant agrees } split { uuid whole effectiveFrom }`;
const PROPOSE = `mutation ($input: ProposeSplitInput!) {
  proposeSplit(input: $input) { proposal { ${PROPOSAL} } userErrors { code field } }
}`;
const DECIDE = `mutation ($input: DecideSplitInput!) {
  decideSplit(input: $input) { proposal { ${PROPOSAL} } userErrors { code field } }
}`;
const QUOTE = `query ($input: QuoteInput!) {
  quote(input: $input) {
    currency priority promptTokens maxTokens total maximum perMillion { input cachedInput output }
    parts { adapterVersion shareNumerator shareDenominator rank price royalty }
    lines { kind adapterVersion tokens amount }
  }
}`;
const BACKBONE = toGlobalId('Backbone', CONTEXT.backboneDigest);

let stack: Stack;
let operator: TestKey;
let owner: { tenantId: string; key: TestKey };
let caller: { tenantId: string; key: TestKey };
let adapterId: string;
let versionId: string;

/** The one value below a path of an answer. */
function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>(
    (found, name) => (typeof found === 'object' && found !== null ? Reflect.get(found, name) : undefined),
    value,
  );
}

async function person(slug: string): Promise<{ tenantId: string; key: TestKey }> {
  const { id } = await stack.tenancy.createTenant(slug);
  const scopes = ['infer', 'adapters:read', 'adapters:write', 'billing:read', 'payouts:write'];
  return { tenantId: id, key: await stack.tenancy.createKey(id, scopes) };
}

const run = (who: TestKey, query: string, input: object) =>
  stack.query(who.header, query, { input: { ...input } });
const TERMS = {
  currency: 'USD',
  inputPerMillion: '1000000000',
  cachedInputPerMillion: '100000000',
  outputPerMillion: '4000000000',
};
/** Lets what was set take effect, without a clock of the test's own. */
const lead = () => new Promise((resolve) => setTimeout(resolve, 2_100));

beforeAll(async () => {
  stack = await openStack({ priced: false });
  operator = await stack.tenancy.createOperatorKey();
  owner = await person('owner');
  caller = await person('caller');
  const version = await stack.registry.ready(owner.tenantId, 'poet', sampleFiles());
  ({ adapterId, id: versionId } = version);
  await stack.registry.db.admin(`UPDATE adapter SET visibility = 'PUBLIC' WHERE id = $1`, [adapterId]);
});
afterAll(() => stack.close());

test('a quote without a price is refused; prices are set by operators, read by all, and in user errors when wrong', async () => {
  const ask = { plainBackbone: true, promptTokens: 100, maxTokens: 10 };
  const refused = await run(caller.key, QUOTE, ask);
  expect(refused.errors?.[0]?.extensions).toMatchObject({ code: 'PRICE_MISSING', fix: expect.any(String) });

  const input = { idempotencyKey: randomUUID(), backbone: BACKBONE, terms: TERMS };
  expect((await run(caller.key, SET_PRICE, input)).errors?.[0]?.extensions.code).toBe('FORBIDDEN');
  const set = await run(operator, SET_PRICE, input);
  expect(at(set.data, 'setPrice')).toMatchObject({
    price: {
      backbone: { name: 'sample' },
      adapter: null,
      effectiveUntil: null,
      terms: { ...TERMS, rankPerMillion: '0', interactivePpm: 1_000_000, platformFeePpm: 0 },
    },
    userErrors: [],
  });
  expect(await run(operator, SET_PRICE, input)).toEqual(set);

  const both = { ...input, idempotencyKey: randomUUID(), adapter: toGlobalId('Adapter', adapterId) };
  expect(at((await run(operator, SET_PRICE, both)).data, 'setPrice')).toMatchObject({
    price: null,
    userErrors: [{ code: 'BAD_INPUT', field: 'input.backbone' }],
  });
  const early = { ...input, idempotencyKey: randomUUID(), effectiveFrom: '2020-02-29T00:00:00Z' };
  expect(at((await run(operator, SET_PRICE, early)).data, 'setPrice')).toMatchObject({
    userErrors: [{ code: 'BAD_INPUT', field: 'input.effectiveFrom' }],
  });

  const history = await stack.query(
    caller.key.header,
    `query ($backbone: ID) { prices(backbone: $backbone) { edges { node { uuid terms { outputPerMillion } } } } }`,
    { backbone: BACKBONE },
  );
  expect(at(history.data, 'prices', 'edges')).toEqual([
    { node: { uuid: at(set.data, 'setPrice', 'price', 'uuid'), terms: { outputPerMillion: '4000000000' } } },
  ]);
});

test('a quote has every line, the most that a hold reserves, and what tokens cost', async () => {
  await run(operator, SET_PRICE, {
    idempotencyKey: randomUUID(),
    adapter: toGlobalId('Adapter', adapterId),
    terms: { ...TERMS, rankPerMillion: '1000000', batchPpm: 500_000, platformFeePpm: 100_000 },
  });
  const royalty = await run(owner.key, SET_ROYALTY, {
    idempotencyKey: randomUUID(),
    adapter: toGlobalId('Adapter', adapterId),
    perToken: { inputPerMillion: '50000000', outputPerMillion: '70000000' },
  });
  expect(at(royalty.data, 'setRoyalty')).toMatchObject({
    royalty: { kind: 'PER_TOKEN', inputPerMillion: '50000000', sharePpm: null, adapter: { name: 'poet' } },
    userErrors: [],
  });
  const notMine = {
    idempotencyKey: randomUUID(),
    adapter: toGlobalId('Adapter', adapterId),
    sharePpm: 1,
  };
  expect(at((await run(caller.key, SET_ROYALTY, notMine)).data, 'setRoyalty')).toEqual({
    royalty: null,
    userErrors: [{ code: 'ADAPTER_NOT_FOUND', field: 'input.adapter' }],
  });
  await lead();

  const version = await stack.registry.service.getVersion(owner.tenantId, versionId);
  const rank = version?.rank ?? 0;
  expect(rank).toBeGreaterThan(0);
  const quoted = await run(caller.key, QUOTE, {
    adapters: [{ adapter: 'owner/poet' }],
    prompt: 'p'.repeat(100),
    maxTokens: 10,
    priority: 'BATCH',
  });
  const adapterVersion = toGlobalId('AdapterVersion', versionId);
  // Half price for BATCH, but not for the royalty.
  const total = 50_000 + 20_000 + 55 * rank + 5_700;
  expect(at(quoted.data, 'quote')).toEqual({
    currency: 'USD',
    priority: 'BATCH',
    promptTokens: 100,
    maxTokens: 10,
    total: String(total),
    // The prompt's lines may be rounded apart.
    maximum: String(total + 1),
    perMillion: {
      input: String(500_000_000 + 500_000 * rank + 50_000_000),
      cachedInput: String(50_000_000 + 50_000_000),
      output: String(2_000_000_000 + 500_000 * rank + 70_000_000),
    },
    parts: [
      {
        adapterVersion,
        shareNumerator: '1',
        shareDenominator: '1',
        rank,
        price: expect.any(String),
        royalty: at(royalty.data, 'setRoyalty', 'royalty', 'uuid'),
      },
    ],
    lines: [
      { kind: 'INPUT', adapterVersion, tokens: '100', amount: '50000' },
      { kind: 'CACHED_INPUT', adapterVersion, tokens: '0', amount: '0' },
      { kind: 'OUTPUT', adapterVersion, tokens: '10', amount: '20000' },
      { kind: 'RANK', adapterVersion, tokens: '110', amount: String(55 * rank) },
      { kind: 'ROYALTY', adapterVersion, tokens: '110', amount: '5700' },
    ],
  });
  const counted = await run(caller.key, QUOTE, {
    adapters: [{ adapter: 'owner/poet' }],
    messages: [{ role: 'USER', content: 'hello' }],
  });
  expect(at(counted.data, 'quote')).toMatchObject({ promptTokens: 1, maxTokens: 256, priority: 'STANDARD' });
});

describe('a quote', () => {
  const code = async (input: object): Promise<unknown> => {
    const { errors } = await run(caller.key, QUOTE, input);
    return at(errors, 0, 'extensions', 'code');
  };

  test('is refused like the request that it is about', async () => {
    expect(await code({ plainBackbone: true, promptTokens: 1, prompt: 'a' })).toBe('BAD_INPUT');
    expect(await code({ plainBackbone: true })).toBe('BAD_INPUT');
    expect(await code({ promptTokens: 1 })).toBe('BAD_INPUT');
    expect(await code({ plainBackbone: true, promptTokens: 0 })).toBe('PROMPT_EMPTY');
    expect(await code({ plainBackbone: true, promptTokens: 2_000_000_000 })).toBe('PROMPT_TOO_LONG');
    expect(await code({ adapters: [{ adapter: 'owner/poet', weight: 0 }], promptTokens: 1 })).toBe(
      'BLEND_INVALID',
    );
    const twice = [{ adapter: 'owner/poet' }, { adapter: 'owner/poet', weight: 2 }];
    expect(await code({ adapters: twice, promptTokens: 1 })).toBe('BLEND_INVALID');
    expect(await code({ adapters: [{ adapter: 'owner/none' }], promptTokens: 1 })).toBe('ADAPTER_NOT_FOUND');
  });

  test('is for keys that may send requests or read bills', async () => {
    const ask = { plainBackbone: true, promptTokens: 1 };
    for (const [scope, expected] of [
      ['infer', undefined],
      ['billing:read', undefined],
      ['usage:read', 'FORBIDDEN'],
    ] as const) {
      const key = await stack.tenancy.createKey(caller.tenantId, [scope]);
      const { errors } = await run(key, QUOTE, ask);
      expect(at(errors, 0, 'extensions', 'code'), scope).toBe(expected);
    }
  });
});

test('a split goes from a proposal through consent into effect, and shows to its parties alone', async () => {
  const propose = (parts: readonly (readonly [string, string])[]) =>
    run(owner.key, PROPOSE, {
      idempotencyKey: randomUUID(),
      adapter: toGlobalId('Adapter', adapterId),
      beneficiaries: parts.map(([tenant, share]) => ({ tenant: toGlobalId('Tenant', tenant), parts: share })),
    });
  const partner = await person('partner');
  const first = await propose([
    [owner.tenantId, '2'],
    [partner.tenantId, '1'],
  ]);
  expect(at(first.data, 'proposeSplit')).toMatchObject({
    proposal: {
      state: 'PENDING',
      whole: '3',
      decisions: [{ tenant: toGlobalId('Tenant', partner.tenantId), agrees: null }],
      split: null,
    },
    userErrors: [],
  });
  const joined = await run(partner.key, DECIDE, {
    proposal: at(first.data, 'proposeSplit', 'proposal', 'uuid'),
    agrees: true,
  });
  expect(at(joined.data, 'decideSplit', 'proposal', 'state')).toBe('ACTIVE');
  await lead();
  const second = await propose([[owner.tenantId, '1']]);
  const proposal = at(second.data, 'proposeSplit', 'proposal', 'uuid');
  expect(at(second.data, 'proposeSplit', 'proposal')).toMatchObject({
    state: 'PENDING',
    decisions: [{ tenant: toGlobalId('Tenant', partner.tenantId), agrees: null }],
  });
  const list = `{ splitProposals { edges { node { uuid state } } } }`;
  expect(at((await stack.query(caller.key.header, list)).data, 'splitProposals', 'edges')).toEqual([]);
  expect(at((await stack.query(partner.key.header, list)).data, 'splitProposals', 'edges')).toMatchObject([
    { node: { state: 'ACTIVE' } },
    { node: { uuid: proposal, state: 'PENDING' } },
  ]);
  const stranger = await run(caller.key, DECIDE, { proposal, agrees: true });
  expect(at(stranger.data, 'decideSplit')).toEqual({
    proposal: null,
    userErrors: [{ code: 'NOT_FOUND', field: 'input.proposal' }],
  });
  const agreed = await run(partner.key, DECIDE, { proposal, agrees: true });
  expect(at(agreed.data, 'decideSplit')).toMatchObject({
    proposal: { state: 'ACTIVE', decisions: [{ agrees: true }] },
    userErrors: [],
  });
  expect(await run(partner.key, DECIDE, { proposal, agrees: true })).toEqual(agreed);
  const splits = await stack.query(
    owner.key.header,
    `query ($adapter: ID!) { splits(adapter: $adapter) { edges { node { whole beneficiaries { parts } } } } }`,
    { adapter: toGlobalId('Adapter', adapterId) },
  );
  expect(at(splits.data, 'splits', 'edges')).toEqual([
    { node: { whole: '1', beneficiaries: [{ parts: '1' }] } },
    { node: { whole: '3', beneficiaries: [{ parts: '2' }, { parts: '1' }] } },
  ]);
});

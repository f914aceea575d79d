import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SYSTEM_ACTOR } from '../../../../src/auth/principal.ts';
import { PLATFORM_TENANT_ID } from '../../../../src/db/platform.ts';
import { parseGlobalId, toGlobalId } from '../../../../src/graphql/ids.ts';
import { systemClock } from '../../../../src/kernel/clock.ts';
import { createInvoicing } from '../../../kit/invoicing.ts';
import type { TestKey } from '../../../kit/tenancy.ts';
import { resultsFile } from '../../../unit/payouts/files.ts';
import { declare, patch, sampleFiles } from '../../adapter/kit.ts';
import { CASES, type RootField, rootFields } from './cases.ts';
import { draftPayout, earn, openScene, type Scene, sendPayout } from './victim.ts';

// Generated from the schema: what every mutation does, and every attempt that is refused, is in the audit log with who,
// what, before, after and the request.

let scene: Scene;
let operator: TestKey;
beforeAll(async () => {
  scene = await openScene();
  operator = await scene.stack.tenancy.createOperatorKey();
});
afterAll(() => scene.stack.close());

const mutations = rootFields().filter(({ kind }) => kind === 'mutation');

interface Line {
  readonly tenant_id: string;
  readonly actor_key_id: string;
  readonly action: string;
  readonly target_type: string;
  readonly target_id: string | null;
  readonly before: object | null;
  readonly after: object | null;
  readonly outcome: string;
}

/** The lines of a request. */
function linesOf(requestId: string | null): Promise<Line[]> {
  return scene.stack.registry.db.admin<Line>(
    'SELECT *, outcome::text FROM audit_log WHERE request_id = $1 ORDER BY id',
    [requestId],
  );
}

/** Sends a mutation and answers it with the id of its request. */
async function send(header: string, { document }: RootField, variables: object) {
  const response = await fetch(scene.stack.graphqlUrl, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: header },
    body: JSON.stringify({ query: document, variables }),
  });
  const body: {
    readonly data?: Readonly<Record<string, { readonly userErrors: readonly unknown[] } | null>> | null;
    readonly errors?: readonly { readonly extensions: { readonly code: string } }[];
  } = JSON.parse(await response.text());
  return { body, requestId: response.headers.get('x-request-id') };
}

/** How a mutation is done by somebody who may, and what its line holds. */
interface Done {
  readonly by: 'operator' | 'tenant';
  readonly action: string;
  /** `creation` has nothing before it. */
  readonly what: 'creation' | 'change';
  readonly input: () => Promise<object> | object;
}

/** Mutations that leave no line when they succeed, and where else they are recorded. */
const RECORDED_ELSEWHERE: Readonly<Record<string, string>> = {
  'Mutation.generate': 'Its usage record says who ran what; the audit log holds attempts that were denied.',
};

const { tenancy, key, member, upload } = {
  tenancy: () => scene.stack.tenancy,
  key: async () => toGlobalId('ApiKey', (await tenancy().createKey(scene.victim.tenant)).principal.keyId),
  member: async () => {
    const added = await tenancy().members.add(SYSTEM_ACTOR, {
      idempotencyKey: randomUUID(),
      tenantId: scene.victim.tenant,
      name: 'M',
      email: `${randomUUID()}@example.com`,
      role: 'DEVELOPER',
    });
    return toGlobalId('Member', added.id);
  },
  upload: async () => {
    const { registry } = scene.stack;
    const files = sampleFiles(0.77);
    const opened = await registry.open(scene.victim.tenant, 'audited', files);
    for (const target of registry.service.targets(opened)) {
      await patch(target, target.name === 'adapter_config.json' ? files.config : files.tensors);
    }
    return toGlobalId('AdapterUpload', opened.id);
  },
};

const PERIOD = { from: '2026-01-01T00:00:00Z', to: '2026-01-02T00:00:00Z' };

const FREE = { currency: 'USD', inputPerMillion: '0', cachedInputPerMillion: '0', outputPerMillion: '0' };

const OTHERS: Readonly<Record<string, Done>> = {
  'Mutation.setPrice': {
    by: 'operator',
    action: 'price.set',
    what: 'change',
    input: () => ({
      idempotencyKey: randomUUID(),
      adapter: toGlobalId('Adapter', scene.victim.adapter),
      terms: FREE,
    }),
  },
  'Mutation.setRoyalty': {
    by: 'tenant',
    action: 'royalty.set',
    what: 'change',
    input: () => ({
      idempotencyKey: randomUUID(),
      adapter: toGlobalId('Adapter', scene.victim.adapter),
      sharePpm: 7,
    }),
  },
  'Mutation.proposeSplit': {
    by: 'tenant',
    action: 'split.propose',
    what: 'change',
    // It takes the partner's share, so that it waits for the partner.
    input: () => ({
      idempotencyKey: randomUUID(),
      adapter: toGlobalId('Adapter', scene.victim.adapter),
      beneficiaries: [{ tenant: toGlobalId('Tenant', scene.victim.tenant), parts: '1' }],
    }),
  },
  'Mutation.decideSplit': {
    by: 'tenant',
    action: 'split.decide',
    what: 'change',
    input: () => ({ proposal: scene.victim.proposal, agrees: false }),
  },
  'Mutation.createTenant': {
    by: 'operator',
    action: 'tenant.create',
    what: 'creation',
    input: () => ({ idempotencyKey: randomUUID(), name: 'New', slug: 'brand-new' }),
  },
  'Mutation.setTenantState': {
    by: 'operator',
    action: 'tenant.setState',
    what: 'change',
    input: async () => ({
      tenant: toGlobalId('Tenant', (await tenancy().createTenant()).id),
      state: 'CLOSED',
    }),
  },
  'Mutation.eraseProofs': {
    by: 'operator',
    action: 'proofs.erase',
    what: 'creation',
    input: async () => ({
      idempotencyKey: randomUUID(),
      tenant: toGlobalId('Tenant', (await tenancy().createTenant()).id),
    }),
  },
  'Mutation.setTenantQuotas': {
    by: 'operator',
    action: 'quota.set',
    what: 'change',
    input: () => ({
      tenant: toGlobalId('Tenant', scene.victim.tenant),
      limits: [{ kind: 'ADAPTERS', limit: '50' }],
    }),
  },
  'Mutation.createApiKey': {
    by: 'tenant',
    action: 'apiKey.create',
    what: 'creation',
    input: () => ({ idempotencyKey: randomUUID(), name: 'new' }),
  },
  'Mutation.rotateApiKey': {
    by: 'tenant',
    action: 'apiKey.rotate',
    what: 'change',
    input: async () => ({ idempotencyKey: randomUUID(), id: await key() }),
  },
  'Mutation.revokeApiKey': {
    by: 'tenant',
    action: 'apiKey.revoke',
    what: 'change',
    input: async () => ({ id: await key() }),
  },
  'Mutation.addMember': {
    by: 'tenant',
    action: 'member.add',
    what: 'creation',
    input: () => ({ idempotencyKey: randomUUID(), name: 'N', email: 'n@example.com', role: 'AUDITOR' }),
  },
  'Mutation.setMemberRole': {
    by: 'tenant',
    action: 'member.setRole',
    what: 'change',
    input: async () => ({ id: await member(), role: 'AUDITOR' }),
  },
  'Mutation.removeMember': {
    by: 'tenant',
    action: 'member.remove',
    what: 'change',
    input: async () => ({ id: await member() }),
  },
  'Mutation.openAdapterUpload': {
    by: 'tenant',
    action: 'upload.open',
    what: 'creation',
    input: () => ({
      idempotencyKey: randomUUID(),
      name: 'opened',
      files: declare(sampleFiles(0.66)).map((file) => ({ ...file, size: file.size.toString() })),
    }),
  },
  'Mutation.finalizeAdapterUpload': {
    by: 'tenant',
    action: 'upload.finalize',
    what: 'change',
    input: async () => ({ idempotencyKey: randomUUID(), upload: await upload() }),
  },
  'Mutation.setAdapterVisibility': {
    by: 'tenant',
    action: 'adapter.setVisibility',
    what: 'change',
    input: () => ({ adapter: toGlobalId('Adapter', scene.victim.adapter), visibility: 'PUBLIC' }),
  },
  'Mutation.topUp': {
    by: 'operator',
    action: 'balance.topUp',
    what: 'change',
    input: () => ({
      idempotencyKey: randomUUID(),
      tenant: toGlobalId('Tenant', scene.victim.tenant),
      amount: '5',
    }),
  },
  'Mutation.setCreditLimit': {
    by: 'operator',
    action: 'creditLimit.set',
    what: 'change',
    input: () => ({
      idempotencyKey: randomUUID(),
      tenant: toGlobalId('Tenant', scene.victim.tenant),
      creditLimit: '12',
    }),
  },
  'Mutation.adjustBalance': {
    by: 'operator',
    action: 'balance.adjust',
    what: 'change',
    input: () => ({
      idempotencyKey: randomUUID(),
      tenant: toGlobalId('Tenant', scene.victim.tenant),
      kind: 'CORRECTION',
      amount: '-3',
      reason: 'counted twice',
    }),
  },
  'Mutation.setBudget': {
    by: 'tenant',
    action: 'budget.set',
    what: 'creation',
    input: () => ({ idempotencyKey: randomUUID(), scope: 'TENANT', period: 'DAY', limit: '9' }),
  },
  'Mutation.removeBudget': {
    by: 'tenant',
    action: 'budget.remove',
    what: 'change',
    input: () => ({ idempotencyKey: randomUUID(), budget: scene.victim.budget }),
  },
  'Mutation.retireAdapterVersion': {
    by: 'tenant',
    action: 'adapterVersion.retire',
    what: 'change',
    input: () => ({ version: toGlobalId('AdapterVersion', scene.victim.version) }),
  },
  'Mutation.setBillingTerms': {
    by: 'operator',
    action: 'billingTerms.set',
    what: 'creation',
    input: () => ({
      idempotencyKey: randomUUID(),
      tenant: toGlobalId('Tenant', scene.victim.tenant),
      terms: { currency: 'USD', free: '1' },
    }),
  },
  'Mutation.closePeriod': {
    by: 'operator',
    action: 'period.close',
    what: 'creation',
    input: () => ({
      idempotencyKey: randomUUID(),
      tenant: toGlobalId('Tenant', scene.victim.tenant),
      period: '2025-03',
    }),
  },
  'Mutation.closePeriods': {
    by: 'operator',
    action: 'period.close',
    what: 'creation',
    input: () => ({ idempotencyKey: randomUUID(), period: '2025-02' }),
  },
  'Mutation.finaliseInvoice': {
    by: 'operator',
    action: 'invoice.finalise',
    what: 'change',
    input: async () => ({ idempotencyKey: randomUUID(), invoice: await bill('2025-04', 'DRAFT') }),
  },
  'Mutation.markInvoicePaid': {
    by: 'operator',
    action: 'invoice.markPaid',
    what: 'change',
    input: async () => ({ idempotencyKey: randomUUID(), invoice: await billWithDue('2025-08') }),
  },
  'Mutation.voidInvoice': {
    by: 'operator',
    action: 'invoice.void',
    what: 'change',
    input: async () => ({ idempotencyKey: randomUUID(), invoice: await bill('2025-06', 'FINALISED') }),
  },
  'Mutation.createCreditNote': {
    by: 'operator',
    action: 'creditNote.create',
    what: 'creation',
    input: () => ({
      idempotencyKey: randomUUID(),
      invoice: scene.victim.invoice,
      amount: '1',
      reason: 'x',
    }),
  },
  'Mutation.createExport': {
    by: 'tenant',
    action: 'export.create',
    what: 'creation',
    input: () => ({ idempotencyKey: randomUUID(), source: 'CHARGES', format: 'JSONL', ...PERIOD }),
  },
  'Mutation.deleteExport': {
    by: 'tenant',
    action: 'export.delete',
    what: 'change',
    input: () => ({ id: toGlobalId('Export', scene.victim.export) }),
  },
};

/** An invoice of the victim for a month that nothing else closes. */
async function bill(period: string, state: 'DRAFT' | 'FINALISED'): Promise<string> {
  const { periods, invoices } = createInvoicing({
    database: scene.stack.registry.db.database,
    clock: systemClock,
  });
  const keyed = () => ({ idempotencyKey: randomUUID() });
  const { tenant } = scene.victim;
  const { id } = await periods.close(SYSTEM_ACTOR, { ...keyed(), tenantId: tenant, period });
  if (state === 'FINALISED') await invoices.finalise(SYSTEM_ACTOR, { ...keyed(), invoiceId: id });
  return id;
}

/** A final invoice of the victim on which something is due: a minimum charge, by terms of its month alone. */
async function billWithDue(period: string): Promise<string> {
  const { terms } = createInvoicing({ database: scene.stack.registry.db.database, clock: systemClock });
  const [year = 0, month = 0] = period.split('-').map(Number);
  const end = Date.UTC(year, month);
  const minimum = { currency: 'USD', freeNano: 0n, minimumNano: 100n, tiers: [] };
  for (const [wanted, from] of [
    [minimum, end - 1],
    [null, end],
  ] as const) {
    const version = { tenantId: scene.victim.tenant, terms: wanted, effectiveFrom: new Date(from) };
    await terms.set(SYSTEM_ACTOR, { idempotencyKey: randomUUID(), ...version });
  }
  return bill(period, 'FINALISED');
}

/** The mutations of payouts, each on a batch of its own. */
const PAYOUTS: Readonly<Record<string, Done>> = {
  'Mutation.setPayoutDestination': {
    by: 'tenant',
    action: 'payoutDestination.set',
    // It follows the one that the victim has.
    what: 'change',
    input: () => ({ idempotencyKey: randomUUID(), accountName: 'V', accountReference: 'ACCOUNT99' }),
  },
  'Mutation.adjustEarnings': {
    by: 'operator',
    action: 'earnings.adjust',
    what: 'creation',
    input: () => ({
      ...{ idempotencyKey: randomUUID(), tenant: toGlobalId('Tenant', scene.victim.tenant) },
      ...{ amount: '1', reason: 'x' },
    }),
  },
  'Mutation.createPayoutBatch': {
    by: 'operator',
    action: 'payoutBatch.create',
    what: 'creation',
    input: async () => {
      await earn(scene.stack, scene.victim.tenant);
      return { idempotencyKey: randomUUID(), currency: 'USD' };
    },
  },
  'Mutation.fundPayouts': {
    by: 'operator',
    action: 'payouts.fund',
    what: 'creation',
    input: () => ({ idempotencyKey: randomUUID(), units: '1' }),
  },
  'Mutation.approvePayoutBatch': {
    by: 'operator',
    action: 'payoutBatch.approve',
    what: 'change',
    input: async () => ({ batch: (await drafted()).batchId }),
  },
  'Mutation.cancelPayoutBatch': {
    by: 'operator',
    action: 'payoutBatch.cancel',
    what: 'change',
    input: async () => ({ batch: (await drafted()).batchId }),
  },
  'Mutation.submitPayoutBatch': {
    by: 'operator',
    action: 'payoutBatch.submit',
    what: 'change',
    input: async () => {
      const { batchId } = await drafted();
      await scene.stack.payouts.batches.approve(operator.principal, batchId);
      return { batch: batchId };
    },
  },
  'Mutation.importPayoutResults': {
    by: 'operator',
    action: 'payout.import',
    what: 'creation',
    input: async () => {
      const { paymentKey: key, amountNano: amount } = await sent();
      return { content: resultsFile([{ key, amount, state: 'PAID', reference: 'B' }]) };
    },
  },
  'Mutation.resolveUnknownPayout': {
    by: 'operator',
    action: 'payout.resolve',
    what: 'change',
    input: async () => {
      const { id, paymentKey: key, amountNano: amount } = await sent();
      const content = resultsFile([{ key, amount, state: 'UNKNOWN' }]);
      await scene.stack.payouts.outcomes.importResults(operator.principal, content);
      return { payout: id, outcome: 'FAILED' };
    },
  },
};
const drafted = () => draftPayout(scene.stack, scene.victim.tenant, operator.principal);
const sent = () => sendPayout(scene.stack, scene.victim.tenant, operator.principal);

const DONE: Readonly<Record<string, Done>> = { ...OTHERS, ...PAYOUTS };

test('every mutation has a case', () => {
  const cases = [...Object.keys(DONE), ...Object.keys(RECORDED_ELSEWHERE)];
  expect(cases.sort()).toEqual(mutations.map(({ name }) => name).sort());
});

describe('an attempt that is denied', () => {
  test.each(mutations.map((field) => [field.name, field] as const))(
    '%s is recorded for a key that may nothing',
    async (name, field) => {
      const weak = await tenancy().createKey(scene.stranger.tenantId, []);
      const [variables = {}] = CASES[name]?.(scene.victim) ?? [];
      const { body, requestId } = await send(weak.header, field, variables);
      expect(body.errors?.map(({ extensions }) => extensions.code)).toEqual(['FORBIDDEN']);
      expect(await linesOf(requestId)).toMatchObject([
        {
          tenant_id: scene.stranger.tenantId,
          actor_key_id: weak.principal.keyId,
          outcome: 'DENIED',
          before: null,
          after: null,
          action: DONE[name]?.action ?? 'inference.generate',
        },
      ]);
    },
  );

  test.each(mutations.map((field) => [field.name, field] as const))(
    '%s is recorded when it names what the caller cannot see',
    async (name, field) => {
      for (const variables of CASES[name]?.(scene.victim) ?? []) {
        const { body, requestId } = await send(scene.stranger.header, field, variables);
        const codes = JSON.stringify(body);
        const isDenied = /"(FORBIDDEN|NOT_FOUND|ADAPTER_NOT_FOUND|UPLOAD_NOT_FOUND)"/.test(codes);
        // Only what names nothing of anybody's is refused for another reason.
        const namesNothing = ['Mutation.openAdapterUpload', 'Mutation.setPayoutDestination'].includes(name);
        expect(isDenied || namesNothing, codes).toBe(true);
        const lines = await linesOf(requestId);
        expect(lines.map(({ outcome }) => outcome)).toEqual(isDenied ? ['DENIED'] : []);
        for (const line of lines) expect(line.tenant_id).toBe(scene.stranger.tenantId);
      }
    },
  );

  test('to read is recorded too, with the request', async () => {
    const weak = await tenancy().createKey(scene.stranger.tenantId, []);
    for (const field of rootFields().filter(({ kind }) => kind === 'query')) {
      for (const variables of CASES[field.name]?.(scene.victim) ?? []) {
        const { body, requestId } = await send(weak.header, field, variables);
        const isRefused = (body.errors ?? []).some(({ extensions }) =>
          ['FORBIDDEN', 'NOT_FOUND'].includes(extensions.code),
        );
        const isUnseen =
          body.data?.[field.field] === null && 'id' in variables && field.name !== 'Query.backbone';
        expect(await linesOf(requestId), field.name).toHaveLength(isRefused || isUnseen ? 1 : 0);
      }
    }
  });

  test('to read by its id what is hidden leaves the line that reading what is absent leaves', async () => {
    const reader = await tenancy().createKey(scene.stranger.tenantId);
    const read = async (field: RootField, id: string) => {
      const { body, requestId } = await send(reader.header, field, { id });
      expect(body.data?.[field.field], field.name).toBeNull();
      return (await linesOf(requestId)).map(({ action, outcome, tenant_id, target_type, before, after }) => {
        return { action, outcome, tenant_id, target_type, before, after };
      });
    };
    let reads = 0;
    const byId = rootFields().filter(({ kind, name }) => kind === 'query' && name !== 'Query.backbone');
    for (const field of byId) {
      for (const variables of CASES[field.name]?.(scene.victim) ?? []) {
        const { id } = variables;
        if (typeof id !== 'string' || field.name === 'Query.payoutBatch') continue;
        const ref = parseGlobalId(id);
        const absent = ref === undefined ? randomUUID() : toGlobalId(ref.type, randomUUID());
        const lines = await read(field, id);
        expect(lines, field.name).toMatchObject([
          { action: `query.${field.field}`, outcome: 'DENIED', tenant_id: scene.stranger.tenantId },
        ]);
        expect(await read(field, absent)).toEqual(lines);
        reads += 2;
      }
    }
    expect(reads).toBeGreaterThan(20);
  });
});

describe('an operator key that may nothing', () => {
  let weak: TestKey;
  beforeAll(async () => {
    weak = await tenancy().createKey(PLATFORM_TENANT_ID, []);
  });

  // A mutation that is added later fails here until it asks for a scope: being an operator's key is not enough.
  test.each(mutations.map((field) => [field.name, field] as const))(
    'is refused by %s',
    async (name, field) => {
      const cases = CASES[name]?.(scene.victim) ?? [];
      expect(cases.length).toBeGreaterThan(0);
      for (const variables of cases) {
        const { body, requestId } = await send(weak.header, field, variables);
        expect(body.errors?.map(({ extensions }) => extensions.code)).toEqual(['FORBIDDEN']);
        expect(await linesOf(requestId)).toMatchObject([
          { tenant_id: PLATFORM_TENANT_ID, actor_key_id: weak.principal.keyId, outcome: 'DENIED' },
        ]);
      }
    },
  );
});

describe('a change', () => {
  test.each(
    mutations.filter(({ name }) => DONE[name] !== undefined).map((field) => [field.name, field] as const),
  )('%s is recorded with who, what, before, after and the request', async (name, field) => {
    const done = DONE[name];
    if (done === undefined) throw new Error('There is a case.');
    const header = done.by === 'operator' ? operator.header : scene.victimHeader;
    const actor = done.by === 'operator' ? operator.principal.keyId : scene.victim.key;
    const variables = { input: await done.input() };
    const { body, requestId } = await send(header, field, variables);
    expect(body.data?.[field.field]?.userErrors, JSON.stringify(body)).toEqual([]);
    const lines = await linesOf(requestId);
    expect(lines).toMatchObject([{ actor_key_id: actor, action: done.action, outcome: 'DONE' }]);
    const [line] = lines;
    expect(line?.target_id).not.toBeNull();
    if (done.what === 'creation') expect(line?.before).toBeNull();
    else expect(Object.keys(line?.before ?? {}).length).toBeGreaterThan(0);
    expect(line?.after).not.toBeNull();
    expect(line?.after).not.toEqual(line?.before);
    // A retry, or doing it again, changes nothing and so adds no line.
    const again = await send(header, field, variables);
    expect(await linesOf(again.requestId)).toEqual([]);
  });
});

test('what an operator looks at is recorded with the tenant that it belongs to', async () => {
  const read = async (query: string, variables: object) => {
    const { requestId } = await send(
      operator.header,
      { kind: 'query', name: '', field: '', document: query },
      variables,
    );
    return linesOf(requestId);
  };
  const tenant = toGlobalId('Tenant', scene.victim.tenant);
  const id = toGlobalId('ApiKey', scene.victim.key);
  const line = { tenant_id: scene.victim.tenant, actor_key_id: operator.principal.keyId, outcome: 'DONE' };
  expect(
    await read('query ($tenant: ID) { apiKeys(tenant: $tenant) { edges { cursor } } }', { tenant }),
  ).toMatchObject([{ ...line, action: 'query.apiKeys' }]);
  expect(await read('query ($id: ID!) { node(id: $id) { id } }', { id })).toMatchObject([
    { ...line, action: 'query.node' },
  ]);
  expect(await read('{ tenants { edges { cursor } } }', {})).toMatchObject([
    { tenant_id: PLATFORM_TENANT_ID, action: 'query.tenants' },
  ]);
});

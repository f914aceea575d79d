import { randomUUID } from 'node:crypto';
import {
  type GraphQLNamedType,
  type GraphQLObjectType,
  getNamedType,
  isAbstractType,
  isInterfaceType,
  isLeafType,
  isNonNullType,
  isObjectType,
} from '../../../../src/graphql/graphql-js.ts';
import { createSchema } from '../../../../src/graphql/schema.ts';
import { globalIds, type Ids, SECRET_ADDRESS } from './victim.ts';

/** Arguments that name what belongs to the ids' tenant, in every way in which the field can name something. */
type Case = (ids: Ids) => readonly Readonly<Record<string, unknown>>[];

/** No argument of the field can name anything of a tenant's; what it shows must still hold nothing of another's. */
const NAMES_NOTHING: Case = () => [{}];

const PERIOD = { from: '2026-01-01T00:00:00Z', to: '2026-01-02T00:00:00Z' };
const once = () => randomUUID();
const input = (...inputs: readonly object[]) => inputs.map((one) => ({ input: one }));
/** Every way in which a request can name an adapter. */
const usesOf = (ids: Ids) => {
  const { adapter, version } = globalIds(ids);
  return [
    { adapter },
    { adapter: version },
    { adapter: `${ids.slug}/${ids.adapterName}` },
    { adapter: `${ids.slug}/${ids.adapterName}`, version: 1 },
    { adapter: ids.adapter },
    { adapter: ids.adapterName },
  ];
};
const infers = (ids: Ids) =>
  input(
    ...usesOf(ids).map((use) => ({ idempotencyKey: once(), prompt: 'abc', adapters: [use], maxTokens: 2 })),
  );

/** Terms of a price of which every amount is zero. */
const FREE = { currency: 'USD', inputPerMillion: '0', cachedInputPerMillion: '0', outputPerMillion: '0' };

/**
 * One case for each field of the root types, by name. A field that is added to the schema must get one here: the test
 * fails until somebody has thought about how its arguments could name another tenant's things.
 */
export const CASES: Readonly<Record<string, Case>> = {
  'Query.health': NAMES_NOTHING,
  'Query.me': NAMES_NOTHING,
  'Query.tenants': NAMES_NOTHING,
  'Query.engine': NAMES_NOTHING,
  'Query.backbones': NAMES_NOTHING,
  'Query.backbone': () => [{ id: globalIds(UNRELATED).tenant }],
  'Query.node': (ids) => Object.values(globalIds(ids)).map((id) => ({ id })),
  'Query.tenant': (ids) => [{ id: globalIds(ids).tenant }],
  'Query.apiKeys': (ids) => [{ tenant: globalIds(ids).tenant }, { after: cursor(ids.key) }, {}],
  'Query.members': (ids) => [{ tenant: globalIds(ids).tenant }, { after: cursor(ids.member) }, {}],
  'Query.quotas': (ids) => [{ tenant: globalIds(ids).tenant }, {}],
  'Query.auditLog': (ids) => [{ tenant: globalIds(ids).tenant }],
  'Query.adapters': (ids) => [{ includePublic: true }, { after: cursor(ids.adapter) }],
  'Query.adapter': (ids) => [
    { id: globalIds(ids).adapter },
    { name: `${ids.slug}/${ids.adapterName}` },
    { name: ids.adapterName },
  ],
  'Query.adapterVersion': (ids) => [{ id: globalIds(ids).version }],
  'Query.upload': (ids) => [{ id: globalIds(ids).upload }, { id: globalIds(ids).openUpload }],
  'Query.usage': (ids) => [
    { ...PERIOD, tenant: globalIds(ids).tenant },
    { ...PERIOD, adapter: globalIds(ids).adapter },
    { ...PERIOD, adapter: globalIds(ids).adapter, perspective: 'OWNER', groupBy: 'ADAPTER_VERSION' },
    { ...PERIOD, groupBy: 'TENANT' },
  ],
  'Query.usageRecords': (ids) => [
    { tenant: globalIds(ids).tenant },
    { adapter: globalIds(ids).adapter },
    { after: cursor(ids.request) },
  ],
  'Query.ownedUsage': (ids) => [
    { adapter: globalIds(ids).adapter },
    { after: cursor(`${ids.request}/${ids.version}`) },
  ],
  'Query.balances': (ids) => [{ tenant: globalIds(ids).tenant }, {}],
  'Query.ledgerEntries': (ids) => [{ tenant: globalIds(ids).tenant }, { after: cursor(ids.transfer) }, {}],
  'Query.earnings': (ids) => [
    { ...PERIOD, tenant: globalIds(ids).tenant },
    { ...PERIOD, after: cursor(`USD/${ids.version}`) },
    PERIOD,
  ],
  'Query.prices': (ids) => [{ adapter: globalIds(ids).adapter }],
  'Query.royalties': (ids) => [{ adapter: globalIds(ids).adapter }],
  'Query.splits': (ids) => [
    { adapter: globalIds(ids).adapter },
    { adapter: globalIds(ids).adapter, adapterVersion: globalIds(ids).version },
  ],
  'Query.splitProposals': (ids) => [{ adapter: globalIds(ids).adapter }, { after: cursor(ids.proposal) }, {}],
  'Query.quote': (ids) => input(...usesOf(ids).map((use) => ({ promptTokens: 3, adapters: [use] }))),
  'Query.budgetPeriods': (ids) => [
    { budget: ids.budget },
    { budget: ids.budget, tenant: globalIds(ids).tenant },
  ],
  'Query.budgets': (ids) => [{ tenant: globalIds(ids).tenant }, {}],
  'Query.events': (ids) => [{ tenant: globalIds(ids).tenant }, { kinds: ['budget.threshold'] }, {}],
  'Query.economics': () => [PERIOD],
  // The log is for everybody, and sizes are all that can be named.
  'Query.logHead': () => [{}, { size: '1' }],
  'Query.logConsistency': () => [{ first: '1' }, { first: '1', second: '1' }],
  'Query.chainStatus': NAMES_NOTHING,
  'Query.receipt': (ids) => [{ requestId: ids.request }, { requestId: ids.runningRequest }],
  'Query.receipts': (ids) => [
    { adapterVersion: globalIds(ids).version },
    { after: cursor('0:0') },
    { adapterVersion: globalIds(ids).version, after: cursor('0:0') },
  ],
  // Epochs are for everybody, likewise; what they say of somebody is not.
  'Query.epoch': () => [{}, { number: '1' }],
  'Query.epochs': () => [{}, { after: cursor('1') }],
  'Query.epochStatement': (ids) => [{ number: '1', adapterVersion: globalIds(ids).version }, { number: '1' }],
  'Query.quarantine': (ids) => [{ after: cursor(`1:${ids.request}`) }, {}],
  'Query.request': (ids) => [{ id: ids.request }, { id: ids.runningRequest }],
  'Query.invoices': (ids) => [{ tenant: globalIds(ids).tenant }, { after: cursor(ids.invoice) }, {}],
  'Query.invoice': (ids) => [{ id: ids.invoice }, { id: ids.creditNote }],
  'Query.billingTerms': (ids) => [{ tenant: globalIds(ids).tenant }, {}],
  'Query.openPeriods': (ids) => [{ after: cursor(`2025-02/${ids.tenant}`) }, {}],
  'Query.earningsBalances': (ids) => [{ tenant: globalIds(ids).tenant }, {}],
  'Query.earningsStatement': (ids) => [
    { tenant: globalIds(ids).tenant, period: '2026-11', currency: 'USD' },
    { period: '2026-11', currency: 'USD' },
  ],
  'Query.payoutDestinations': (ids) => [
    { tenant: globalIds(ids).tenant },
    { after: cursor(ids.payoutDestination) },
    {},
  ],
  'Query.payouts': (ids) => [
    { tenant: globalIds(ids).tenant },
    { batch: ids.payoutBatch },
    { after: cursor(ids.payout) },
    {},
  ],
  'Query.payoutBatches': (ids) => [{ after: cursor(ids.payoutBatch) }],
  'Query.payoutBatch': (ids) => [{ id: ids.payoutBatch }],
  'Query.payoutTrees': (ids) => [{ after: cursor(ids.payoutBatch) }, {}],
  'Query.payoutClaim': (ids) => [
    { tenant: globalIds(ids).tenant },
    { tenant: globalIds(ids).tenant, account: SECRET_ADDRESS },
    { account: SECRET_ADDRESS },
    { account: SECRET_ADDRESS, distributor: SECRET_ADDRESS },
    {},
  ],
  'Query.reconciliation': (ids) => [{ ...PERIOD, tenant: globalIds(ids).tenant }, PERIOD],
  'Query.export': (ids) => [{ id: globalIds(ids).export }],
  'Query.exports': (ids) => [{ after: cursor(ids.export) }, {}],

  'Mutation.createTenant': (ids) => input({ idempotencyKey: once(), name: 'x', slug: ids.slug }),
  'Mutation.setTenantState': (ids) => input({ tenant: globalIds(ids).tenant, state: 'SUSPENDED' }),
  'Mutation.eraseProofs': (ids) => input({ idempotencyKey: once(), tenant: globalIds(ids).tenant }),
  'Mutation.setTenantQuotas': (ids) =>
    input({ tenant: globalIds(ids).tenant, limits: [{ kind: 'ADAPTERS', limit: '1' }] }),
  'Mutation.createApiKey': (ids) =>
    input(
      { idempotencyKey: once(), tenant: globalIds(ids).tenant, name: 'x' },
      { idempotencyKey: once(), member: globalIds(ids).member, name: 'x' },
    ),
  'Mutation.rotateApiKey': (ids) => input({ idempotencyKey: once(), id: globalIds(ids).key }),
  'Mutation.revokeApiKey': (ids) => input({ id: globalIds(ids).key }),
  'Mutation.addMember': (ids) =>
    input({
      idempotencyKey: once(),
      tenant: globalIds(ids).tenant,
      name: 'x',
      email: 'x@example.com',
      role: 'OWNER',
    }),
  'Mutation.setMemberRole': (ids) => input({ id: globalIds(ids).member, role: 'AUDITOR' }),
  'Mutation.removeMember': (ids) =>
    input({ id: globalIds(ids).member }, { id: globalIds(ids).member, revokeCreatedKeys: true }),
  'Mutation.openAdapterUpload': () => input({ idempotencyKey: once(), name: 'a', files: [] }),
  'Mutation.finalizeAdapterUpload': (ids) =>
    input(
      { idempotencyKey: once(), upload: globalIds(ids).upload },
      { idempotencyKey: once(), upload: globalIds(ids).openUpload },
    ),
  'Mutation.setAdapterVisibility': (ids) => input({ adapter: globalIds(ids).adapter, visibility: 'PUBLIC' }),
  'Mutation.retireAdapterVersion': (ids) => input({ version: globalIds(ids).version }),
  'Mutation.generate': infers,
  'Mutation.setPrice': (ids) =>
    input({ idempotencyKey: once(), adapter: globalIds(ids).adapter, terms: FREE }),
  'Mutation.setRoyalty': (ids) =>
    input({ idempotencyKey: once(), adapter: globalIds(ids).adapter, sharePpm: 1 }),
  'Mutation.proposeSplit': (ids) => {
    const { adapter, version, tenant } = globalIds(ids);
    const beneficiaries = [{ tenant, parts: '1' }];
    return input(
      { idempotencyKey: once(), adapter, beneficiaries },
      { idempotencyKey: once(), adapter, adapterVersion: version, beneficiaries },
    );
  },
  'Mutation.decideSplit': (ids) =>
    input({ proposal: ids.proposal, agrees: true }, { proposal: ids.proposal, agrees: false }),
  'Mutation.topUp': (ids) =>
    input({ idempotencyKey: once(), tenant: globalIds(ids).tenant, amount: '1', reason: 'x' }),
  'Mutation.setCreditLimit': (ids) =>
    input({ idempotencyKey: once(), tenant: globalIds(ids).tenant, creditLimit: '1' }),
  'Mutation.adjustBalance': (ids) =>
    input({
      idempotencyKey: once(),
      tenant: globalIds(ids).tenant,
      kind: 'REFUND',
      amount: '1',
      reason: 'x',
    }),
  'Mutation.setBudget': (ids) =>
    input(
      { idempotencyKey: once(), scope: 'KEY', key: globalIds(ids).key, period: 'DAY', limit: '1' },
      {
        idempotencyKey: once(),
        scope: 'ADAPTER',
        adapter: globalIds(ids).adapter,
        period: 'DAY',
        limit: '1',
      },
      {
        idempotencyKey: once(),
        tenant: globalIds(ids).tenant,
        scope: 'TENANT',
        period: 'DAY',
        limit: '1',
      },
    ),
  'Mutation.removeBudget': (ids) =>
    input(
      { idempotencyKey: once(), budget: ids.budget },
      { idempotencyKey: once(), tenant: globalIds(ids).tenant, budget: ids.budget },
    ),
  'Mutation.setBillingTerms': (ids) =>
    input({ idempotencyKey: once(), tenant: globalIds(ids).tenant, terms: { currency: 'USD' } }),
  'Mutation.closePeriod': (ids) =>
    input({ idempotencyKey: once(), tenant: globalIds(ids).tenant, period: '2025-02' }),
  'Mutation.closePeriods': (ids) =>
    input(
      { idempotencyKey: once(), period: '2025-02' },
      { idempotencyKey: once(), period: '2025-02', after: ids.tenant },
    ),
  'Mutation.finaliseInvoice': (ids) => input({ idempotencyKey: once(), invoice: ids.invoice }),
  'Mutation.markInvoicePaid': (ids) =>
    input(
      { idempotencyKey: once(), invoice: ids.invoice },
      { idempotencyKey: once(), invoice: ids.invoice, topUp: ids.transfer },
    ),
  'Mutation.voidInvoice': (ids) => input({ idempotencyKey: once(), invoice: ids.invoice }),
  'Mutation.createCreditNote': (ids) =>
    input({ idempotencyKey: once(), invoice: ids.invoice, amount: '1', reason: 'x' }),
  // It names nothing of anybody's; what is malformed changes nothing of the caller's own either.
  'Mutation.setPayoutDestination': () =>
    input({ idempotencyKey: once(), accountName: 'x', accountReference: 'x' }),
  'Mutation.adjustEarnings': (ids) =>
    input({
      ...{ idempotencyKey: once(), tenant: globalIds(ids).tenant, adapterVersion: globalIds(ids).version },
      ...{ amount: '-1', reason: 'x' },
    }),
  'Mutation.createPayoutBatch': () =>
    input(
      { idempotencyKey: once(), currency: 'USD' },
      { idempotencyKey: once(), currency: 'USD', rail: 'CHAIN' },
    ),
  'Mutation.fundPayouts': () => input({ idempotencyKey: once(), units: '1' }),
  'Mutation.approvePayoutBatch': (ids) => input({ batch: ids.payoutBatch }),
  'Mutation.cancelPayoutBatch': (ids) => input({ batch: ids.payoutBatch }),
  'Mutation.submitPayoutBatch': (ids) => input({ batch: ids.payoutBatch }),
  'Mutation.importPayoutResults': () => input({ content: 'key,state,amount,reference' }),
  'Mutation.resolveUnknownPayout': (ids) => input({ payout: ids.payout, outcome: 'FAILED' }),
  'Mutation.createExport': (ids) =>
    input({
      idempotencyKey: once(),
      source: 'USAGE',
      format: 'CSV',
      ...PERIOD,
      tenant: globalIds(ids).tenant,
    }),
  'Mutation.deleteExport': (ids) => input({ id: globalIds(ids).export }),

  'Subscription.infer': infers,
  'Subscription.adapterVersionState': (ids) => [
    { version: globalIds(ids).version },
    { upload: globalIds(ids).upload },
    { upload: globalIds(ids).openUpload },
  ],
  // No event has a place that can be made out of ids; cursors of others are tested in graphql/events.test.ts.
  'Subscription.events': () => [{ after: cursor('1-1') }, { after: cursor('1-1'), kinds: ['adapter.state'] }],
};

/** An id of a kind that the field does not take, so that it is the same for everybody. */
const UNRELATED: Ids = {
  tenant: '0192f000-0000-7000-8000-0000000000aa',
  slug: '',
  key: '',
  member: '',
  adapter: '',
  adapterName: '',
  version: '',
  upload: '',
  openUpload: '',
  request: '',
  runningRequest: '',
  budget: '',
  proposal: '',
  transfer: '',
  invoice: '',
  creditNote: '',
  payout: '',
  payoutBatch: '',
  payoutDestination: '',
  export: '',
};

function cursor(key: string): string {
  return Buffer.from(`after:${key}`, 'utf8').toString('base64url');
}

const schema = createSchema();

/** A field of a root type, and a document that asks it for everything. */
export interface RootField {
  readonly kind: 'query' | 'mutation' | 'subscription';
  /** Such as `Query.node`. */
  readonly name: string;
  readonly field: string;
  readonly document: string;
}

/** Every field of the root types, from the schema. */
export function rootFields(): readonly RootField[] {
  const roots = [
    ['query', schema.getQueryType()],
    ['mutation', schema.getMutationType()],
    ['subscription', schema.getSubscriptionType()],
  ] as const;
  return roots.flatMap(([kind, type]) =>
    type ? Object.keys(type.getFields()).map((name) => rootField(kind, type, name)) : [],
  );
}

function rootField(kind: RootField['kind'], type: GraphQLObjectType, name: string): RootField {
  const field = type.getFields()[name];
  if (!field) throw new Error(`${type.name} has no ${name}`);
  // An interface is asked for the fields of every type behind it, which soon exceeds what one operation may cost.
  const below = getNamedType(field.type);
  const declared = field.args.map((arg) => `$${arg.name}: ${arg.type}`).join(', ');
  const passed = field.args.map((arg) => `${arg.name}: $${arg.name}`).join(', ');
  const call = passed === '' ? name : `${name}(${passed})`;
  const document = `${kind}${declared === '' ? '' : ` (${declared})`} { ${call} ${selection(below, isInterfaceType(below) ? 1 : 4)} }`;
  return { kind, name: `${type.name}.${name}`, field: name, document };
}

/** Every field that needs no argument, down to the depth. */
function selection(type: GraphQLNamedType, depth: number): string {
  if (isLeafType(type)) return '';
  const parts = isAbstractType(type)
    ? schema.getPossibleTypes(type).map((one) => `... on ${one.name} ${selection(one, depth)}`)
    : [];
  if (isInterfaceType(type) || isObjectType(type)) {
    for (const field of Object.values(type.getFields())) {
      const below = getNamedType(field.type);
      const needs = field.args.some((arg) => isNonNullType(arg.type) && arg.defaultValue === undefined);
      // Fields of the same name in several types of a union need not agree in whether they are null.
      if (needs || (!isLeafType(below) && depth === 0)) continue;
      const alias = isAbstractType(type) ? '' : aliasOf(type, field.name);
      parts.push(`${alias}${field.name} ${selection(below, depth - 1)}`);
    }
  }
  return `{ __typename ${parts.join(' ')} }`;
}

/** Members of `Node` have fields of one name and several types, which GraphQL refuses to merge. */
function aliasOf(type: GraphQLNamedType, field: string): string {
  const node = schema.getType('Node');
  const isMember = isInterfaceType(node) && isObjectType(type) && schema.isSubType(node, type);
  return isMember && ['state', 'digest', 'expiresAt', 'adapters', 'version'].includes(field)
    ? `${type.name}_${field}: `
    : '';
}

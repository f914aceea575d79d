import { z } from 'zod';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { ErrorCode } from '../kernel/codes.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { isUuid } from '../kernel/ids.ts';
import type { Attempt } from '../tenant/audit-log.ts';
import type { GraphqlContext } from './context.ts';
import type { MutationResolvers } from './generated/types.ts';
import { type GraphQLFieldResolver, type GraphQLSchema, isIntrospectionType } from './graphql-js.ts';
import { parseGlobalId } from './ids.ts';

/** Answers that mean: this is not for you, or there is no such thing. Nobody is told which, the log included. */
const DENIED: ReadonlySet<string> = new Set<ErrorCode>([
  'FORBIDDEN',
  'NOT_FOUND',
  'ADAPTER_NOT_FOUND',
  'UPLOAD_NOT_FOUND',
]);

/** What the log calls a mutation; the services use the same words for what was done. */
const ACTIONS: Readonly<Record<keyof MutationResolvers, string>> = {
  createTenant: 'tenant.create',
  setTenantState: 'tenant.setState',
  setTenantQuotas: 'quota.set',
  createApiKey: 'apiKey.create',
  rotateApiKey: 'apiKey.rotate',
  revokeApiKey: 'apiKey.revoke',
  addMember: 'member.add',
  setMemberRole: 'member.setRole',
  removeMember: 'member.remove',
  openAdapterUpload: 'upload.open',
  finalizeAdapterUpload: 'upload.finalize',
  setAdapterVisibility: 'adapter.setVisibility',
  retireAdapterVersion: 'adapterVersion.retire',
  createExport: 'export.create',
  deleteExport: 'export.delete',
  generate: 'inference.generate',
  topUp: 'balance.topUp',
  adjustBalance: 'balance.adjust',
  setCreditLimit: 'creditLimit.set',
  setPrice: 'price.set',
  setRoyalty: 'royalty.set',
  proposeSplit: 'split.propose',
  decideSplit: 'split.decide',
  setBudget: 'budget.set',
  removeBudget: 'budget.remove',
  setBillingTerms: 'billingTerms.set',
  closePeriod: 'period.close',
  closePeriods: 'period.close',
  finaliseInvoice: 'invoice.finalise',
  markInvoicePaid: 'invoice.markPaid',
  voidInvoice: 'invoice.void',
  createCreditNote: 'creditNote.create',
  setPayoutDestination: 'payoutDestination.set',
  adjustEarnings: 'earnings.adjust',
  createPayoutBatch: 'payoutBatch.create',
  approvePayoutBatch: 'payoutBatch.approve',
  cancelPayoutBatch: 'payoutBatch.cancel',
  submitPayoutBatch: 'payoutBatch.submit',
  importPayoutResults: 'payout.import',
  resolveUnknownPayout: 'payout.resolve',
  fundPayouts: 'payouts.fund',
  eraseProofs: 'proofs.erase',
};

/** Reads that show nothing of a tenant's. */
const NOT_OF_TENANTS: ReadonlySet<string> = new Set(['me', 'health', 'backbone', 'backbones', 'engine']);

const TARGET_TYPES = {
  Tenant: 'tenant',
  ApiKey: 'apiKey',
  Member: 'member',
  Backbone: 'backbone',
  Adapter: 'adapter',
  AdapterVersion: 'adapterVersion',
  AdapterUpload: 'upload',
  UsageRecord: 'usageRecord',
  Export: 'export',
} as const;

/** Names of arguments that may say what an operation is about, the most telling first. */
const NAMING = [
  'id',
  'version',
  'adapter',
  'upload',
  'member',
  'key',
  'budget',
  'invoice',
  'batch',
  'payout',
  'proposal',
  'tenant',
  'name',
] as const;
const TEXT_CHARS_MAX = 300;

const payload = z.looseObject({ userErrors: z.array(z.looseObject({ code: z.string() })) });
const model = z.looseObject({
  __typename: z.string().optional(),
  id: z.string().optional(),
  tenantId: z.string().optional(),
});
const record = z.record(z.string(), z.unknown());

type Resolver = GraphQLFieldResolver<unknown, unknown>;

/**
 * Puts the audit log before every field of the root types, so that a field that is added later is covered without a
 * thought: attempts that are refused are recorded with the one who tried, and what an operator looks at is recorded
 * with the tenant that it belongs to. Changes are recorded by the services, in the transaction that makes them.
 */
export function auditRootFields(schema: GraphQLSchema): GraphQLSchema {
  const roots = [
    ['query', schema.getQueryType()],
    ['mutation', schema.getMutationType()],
    ['subscription', schema.getSubscriptionType()],
  ] as const;
  for (const [kind, type] of roots) {
    if (!type || isIntrospectionType(type)) continue;
    for (const field of Object.values(type.getFields())) {
      if (kind === 'subscription') {
        if (field.subscribe) field.subscribe = audited(kind, field.name, field.subscribe);
      } else if (field.resolve) field.resolve = audited(kind, field.name, field.resolve);
    }
  }
  return schema;
}

function audited(kind: string, name: string, resolve: Resolver): Resolver {
  return async (source, args: unknown, context, info) => {
    if (!isContext(context) || context.principal === undefined) {
      return resolve(source, record.parse(args), context, info);
    }
    const { principal, services } = context;
    const given = record.parse(args);
    const attempt = attemptOf(kind, name, given, context);
    let result: unknown;
    try {
      result = await resolve(source, given, context, info);
    } catch (error) {
      if (error instanceof PatchbayError && DENIED.has(error.code)) {
        await services.audit.denied(principal, attempt, error);
      }
      throw error;
    }
    if (kind === 'mutation') {
      const answer = payload.safeParse(result);
      const refused = answer.success && answer.data.userErrors.some(({ code }) => DENIED.has(code));
      if (refused) await services.audit.denied(principal, attempt, null);
    } else if (kind === 'query' && !NOT_OF_TENANTS.has(name)) {
      if (principal.kind === 'OPERATOR') {
        await services.audit.seen(principal, tenantOf(given, result), attempt);
      } else if (result === null && namesSomething(given['id']))
        await services.audit.unseen(principal, attempt);
    }
    return result;
  };
}

function attemptOf(
  kind: string,
  name: string,
  args: Readonly<Record<string, unknown>>,
  context: GraphqlContext,
): Attempt {
  const known: Readonly<Record<string, string | undefined>> = ACTIONS;
  const action = known[name] ?? (name === 'infer' ? 'inference.infer' : `${kind}.${name}`);
  return { action, ...targetOf(args), context: { requestId: context.requestId } };
}

/** What the arguments name: a global id taken apart, or the text as it was given. */
function targetOf(args: Readonly<Record<string, unknown>>): {
  readonly targetType: string;
  readonly targetId: string | null;
} {
  const nested = record.safeParse(args['input']);
  const named = nested.success ? nested.data : args;
  const uses = z.array(z.looseObject({ adapter: z.string() })).safeParse(named['adapters']);
  const texts = [...NAMING.map((name) => named[name]), uses.success ? uses.data[0]?.adapter : undefined];
  for (const text of texts) {
    if (typeof text !== 'string' || text.length > TEXT_CHARS_MAX) continue;
    const ref = parseGlobalId(text);
    return ref === undefined
      ? { targetType: 'name', targetId: text }
      : { targetType: TARGET_TYPES[ref.type], targetId: ref.key };
  }
  return { targetType: 'none', targetId: null };
}

/** Whether it is an id that something of a tenant's may have; backbones are nobody's. */
function namesSomething(id: unknown): boolean {
  if (typeof id !== 'string') return false;
  const ref = parseGlobalId(id);
  return ref === undefined ? isUuid(id) : ref.type !== 'Backbone';
}

/** The tenant that an operator's read was about; the platform's own where it was about all or none. */
function tenantOf(args: Readonly<Record<string, unknown>>, result: unknown): string {
  for (const text of [args['tenant'], args['id']]) {
    const ref = typeof text === 'string' ? parseGlobalId(text) : undefined;
    if (ref?.type === 'Tenant') return ref.key;
  }
  const shown = model.safeParse(result);
  return (shown.success ? shown.data.tenantId : undefined) ?? PLATFORM_TENANT_ID;
}

function isContext(value: unknown): value is GraphqlContext {
  return typeof value === 'object' && value !== null && 'services' in value && 'loaders' in value;
}

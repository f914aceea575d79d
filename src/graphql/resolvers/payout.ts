import { toConnection, toPageRequest } from '../connections.ts';
import { requirePrincipal } from '../context.ts';
import { withUserErrors } from '../errors.ts';
import type {
  EarningsStatementResolvers,
  MutationResolvers,
  PayoutBatchResolvers,
  PayoutDestinationResolvers,
  PayoutImportResolvers,
  PayoutResolvers,
  QueryResolvers,
  StatementLineResolvers,
} from '../generated/types.ts';
import { optionalGlobalId, requireGlobalId, toGlobalId } from '../ids.ts';

export const StatementLine = {
  adapterVersion: ({ adapterVersionId }) =>
    adapterVersionId === null ? null : toGlobalId('AdapterVersion', adapterVersionId),
  postings: ({ postings }) => BigInt(postings),
} satisfies StatementLineResolvers;

export const EarningsStatement = {
  tenant: ({ tenantId }) => toGlobalId('Tenant', tenantId),
} satisfies EarningsStatementResolvers;

export const PayoutDestination = {
  uuid: ({ id }) => id,
} satisfies PayoutDestinationResolvers;

export const Payout = {
  uuid: ({ id }) => id,
  tenant: ({ tenantId }) => toGlobalId('Tenant', tenantId),
  batch: ({ batchId }) => batchId,
  amount: ({ amountNano }) => amountNano,
} satisfies PayoutResolvers;

export const PayoutBatch = {
  uuid: ({ id }) => id,
  total: ({ totalNano }) => totalNano,
} satisfies PayoutBatchResolvers;

export const PayoutImport = {
  uuid: ({ id }) => id,
  total: ({ totalNano }) => totalNano,
} satisfies PayoutImportResolvers;

export const payoutQueries = {
  earningsBalances: (_root, { tenant }, context) =>
    context.services.payouts.earnings.balances(
      requirePrincipal(context),
      optionalGlobalId('Tenant', tenant, 'tenant'),
    ),

  earningsStatement: (_root, { tenant, currency, period }, context) => {
    const wanted = { tenantId: optionalGlobalId('Tenant', tenant, 'tenant'), currency, period };
    return context.services.payouts.earnings.statement(requirePrincipal(context), wanted);
  },

  payoutDestinations: async (_root, args, context) => {
    const caller = requirePrincipal(context);
    const request = toPageRequest(args);
    const { destinations } = context.services.payouts;
    const page = await destinations.list(caller, optionalGlobalId('Tenant', args.tenant, 'tenant'), request);
    return toConnection(page, request, ({ id }) => id);
  },

  payouts: async (_root, args, context) => {
    const caller = requirePrincipal(context);
    const request = toPageRequest(args);
    const filter = {
      tenantId: optionalGlobalId('Tenant', args.tenant, 'tenant'),
      batchId: args.batch ?? null,
    };
    const page = await context.services.payouts.outcomes.list(caller, filter, request);
    return toConnection(page, request, ({ id }) => id);
  },

  payoutBatches: async (_root, args, context) => {
    const caller = requirePrincipal(context);
    const request = toPageRequest(args);
    const page = await context.services.payouts.batches.list(caller, request);
    return toConnection(page, request, ({ id }) => id);
  },

  payoutBatch: (_root, { id }, context) =>
    context.services.payouts.batches.get(requirePrincipal(context), id),
} satisfies QueryResolvers;

export const payoutMutations = {
  setPayoutDestination: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => ({
      destination: await context.services.payouts.destinations.set(caller, input, context),
    }));
  },

  adjustEarnings: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const { idempotencyKey, amount, reason, adapterVersion } = input;
      const adapterVersionId = optionalGlobalId('AdapterVersion', adapterVersion, 'adapterVersion');
      const tenantId = requireGlobalId('Tenant', input.tenant, 'tenant');
      const correction = { idempotencyKey, tenantId, adapterVersionId, amount, reason };
      const done = await context.services.payouts.corrections.adjust(caller, correction, context);
      return { transfer: done.transferId };
    });
  },

  createPayoutBatch: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const wanted = { ...input, earnedBefore: input.earnedBefore ?? null };
      return { batch: await context.services.payouts.batches.create(caller, wanted, context) };
    });
  },

  approvePayoutBatch: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => ({
      batch: await context.services.payouts.batches.approve(caller, input.batch, context),
    }));
  },

  cancelPayoutBatch: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => ({
      batch: await context.services.payouts.batches.cancel(caller, input.batch, context),
    }));
  },

  submitPayoutBatch: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => ({
      batch: await context.services.payouts.batches.submit(caller, input.batch, context),
    }));
  },

  importPayoutResults: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => ({
      import: await context.services.payouts.outcomes.importResults(caller, input.content, context),
    }));
  },

  resolveUnknownPayout: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const found = {
        payoutId: input.payout,
        outcome: input.outcome,
        bankReference: input.bankReference ?? null,
      };
      return { payout: await context.services.payouts.outcomes.resolveUnknown(caller, found, context) };
    });
  },
} satisfies MutationResolvers;

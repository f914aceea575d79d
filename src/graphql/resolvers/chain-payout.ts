import { requireChainPayouts } from '../../payouts/chain/require.ts';
import { toConnection, toPageRequest } from '../connections.ts';
import { requirePrincipal } from '../context.ts';
import { withUserErrors } from '../errors.ts';
import type {
  ClaimedPayoutResolvers,
  MutationResolvers,
  PayoutClaimResolvers,
  PayoutFundingResolvers,
  PayoutTreeResolvers,
  QueryResolvers,
} from '../generated/types.ts';
import { optionalGlobalId } from '../ids.ts';

export const PayoutTree = {
  uuid: ({ id }) => id,
  batch: ({ batchId }) => batchId,
} satisfies PayoutTreeResolvers;

export const ClaimedPayout = {
  payout: ({ payoutId }) => payoutId,
  amount: ({ amountNano }) => amountNano,
} satisfies ClaimedPayoutResolvers;

export const PayoutClaim = {
  rest: ({ restNano }) => restNano,
} satisfies PayoutClaimResolvers;

export const PayoutFunding = {
  uuid: ({ id }) => id,
} satisfies PayoutFundingResolvers;

export const chainPayoutQueries = {
  payoutTrees: async (_root, args, context) => {
    const caller = requirePrincipal(context);
    const request = toPageRequest(args);
    const page = await requireChainPayouts(context.services.payouts.chain).trees.list(caller, request);
    return toConnection(page, request, ({ id }) => id);
  },

  payoutClaim: (_root, { tenant, account, distributor }, context) => {
    const caller = requirePrincipal(context);
    const tenantId = optionalGlobalId('Tenant', tenant, 'tenant');
    const wanted = { tenantId, account: account ?? null, distributor: distributor ?? null };
    return requireChainPayouts(context.services.payouts.chain).claims.find(caller, wanted);
  },
} satisfies QueryResolvers;

export const chainPayoutMutations = {
  fundPayouts: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const { idempotencyKey, units } = input;
      const { funding } = requireChainPayouts(context.services.payouts.chain);
      return { funding: await funding.fund(caller, { idempotencyKey, units: units ?? null }, context) };
    });
  },
} satisfies MutationResolvers;

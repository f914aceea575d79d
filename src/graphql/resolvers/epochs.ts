import { hex } from '../../proofs/log/documents.ts';
import { requireProofs } from '../../proofs/require.ts';
import { toConnection, toPageRequest } from '../connections.ts';
import { type GraphqlContext, requirePrincipal } from '../context.ts';
import { withUserErrors } from '../errors.ts';
import type { EpochResolvers, MutationResolvers, QueryResolvers } from '../generated/types.ts';
import { optionalGlobalId, requireGlobalId } from '../ids.ts';

export const Epoch = {
  firstSize: ({ firstSize }) => BigInt(firstSize),
  size: ({ size }) => BigInt(size),
  digest: ({ digest }) => hex(digest),
  // Asked for by itself, because a page of them may have hundreds of megabytes.
  document: ({ number }, _args, context) => epochsOf(context).document(number),
} satisfies EpochResolvers;

export const epochQueries = {
  epoch: (_root, { number }, context) => {
    requirePrincipal(context);
    return epochsOf(context).find(number ?? null);
  },

  epochs: async (_root, args, context) => {
    requirePrincipal(context);
    const request = toPageRequest(args);
    return toConnection(await epochsOf(context).list(request), request, ({ number }) => String(number));
  },

  epochStatement: async (_root, { number, adapterVersion }, context) => {
    const caller = requirePrincipal(context);
    const version = optionalGlobalId('AdapterVersion', adapterVersion, 'adapterVersion');
    return { document: await epochsOf(context).statement(caller, number, version) };
  },

  quarantine: async (_root, args, context) => {
    const caller = requirePrincipal(context);
    const request = toPageRequest(args);
    const page = await epochsOf(context).quarantine(caller, request);
    return toConnection(page, request, ({ epoch, requestId }) => `${epoch}:${requestId}`);
  },
} satisfies QueryResolvers;

export const epochMutations = {
  eraseProofs: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(() => {
      const tenantId = requireGlobalId('Tenant', input.tenant, 'tenant');
      const { idempotencyKey } = input;
      return requireProofs(context.services.proofs).erasure.erase(
        caller,
        { idempotencyKey, tenantId },
        context,
      );
    });
  },
} satisfies MutationResolvers;

function epochsOf({ services }: GraphqlContext) {
  return requireProofs(services.proofs).epochs;
}

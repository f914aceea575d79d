import { requireProofs } from '../../proofs/require.ts';
import { toConnection, toPageRequest } from '../connections.ts';
import { requirePrincipal } from '../context.ts';
import type { QueryResolvers } from '../generated/types.ts';
import { optionalGlobalId } from '../ids.ts';

export const receiptQueries = {
  receipt: (_root, { requestId }, context) => {
    const caller = requirePrincipal(context);
    return requireProofs(context.services.proofs).receipts.find(caller, requestId);
  },

  receipts: async (_root, args, context) => {
    const caller = requirePrincipal(context);
    const request = toPageRequest(args);
    const version = optionalGlobalId('AdapterVersion', args.adapterVersion, 'adapterVersion');
    const page = await requireProofs(context.services.proofs).receipts.numbered(caller, version, request);
    return toConnection(page, request, ({ lane, number }) => `${lane}:${number}`);
  },
} satisfies QueryResolvers;

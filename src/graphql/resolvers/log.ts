import { hex } from '../../proofs/log/documents.ts';
import { requireProofs } from '../../proofs/require.ts';
import { type GraphqlContext, requirePrincipal } from '../context.ts';
import type { LogConsistencyResolvers, LogHeadResolvers, QueryResolvers } from '../generated/types.ts';

export const LogHead = {
  log: (_head, _args, context) => hex(logOf(context).id),
  root: ({ root }) => hex(root),
  size: ({ size }) => BigInt(size),
  signedAt: ({ signedAtMs }) => BigInt(signedAtMs),
} satisfies LogHeadResolvers;

export const LogConsistency = {
  path: ({ path }) => path.map(hex),
} satisfies LogConsistencyResolvers;

export const logQueries = {
  logHead: (_root, { size }, context) => {
    requirePrincipal(context);
    const log = logOf(context);
    return size === undefined || size === null ? log.latest() : log.head(Number(size));
  },
  logConsistency: (_root, { first, second }, context) => {
    requirePrincipal(context);
    const later = second === undefined || second === null ? null : Number(second);
    return logOf(context).consistency(Number(first), later);
  },
} satisfies QueryResolvers;

function logOf({ services }: GraphqlContext) {
  return requireProofs(services.proofs).log;
}

import { requireOperator } from '../../auth/principal.ts';
import { ERROR_CODES } from '../../kernel/codes.ts';
import { requirePrincipal } from '../context.ts';
import type {
  ChainProblemResolvers,
  ChainStatusResolvers,
  EpochAnchorResolvers,
  EpochResolvers,
  QueryResolvers,
} from '../generated/types.ts';

export const ChainStatus = {
  blockNumber: ({ blockNumber }) => (blockNumber === null ? null : BigInt(blockNumber)),
} satisfies ChainStatusResolvers;

export const ChainProblem = {
  fix: ({ code }) => ERROR_CODES[code].fix,
} satisfies ChainProblemResolvers;

export const EpochAnchor = {
  blockNumber: ({ block }) => (block === null ? null : BigInt(block.number)),
  blockHash: ({ block }) => block?.hash ?? null,
  // It may be in the node's own words, and name what the deployment's account has.
  problem: ({ problem }, _args, { principal }) => (principal?.kind === 'OPERATOR' ? problem : null),
} satisfies EpochAnchorResolvers;

/** The part of an epoch that the chain adds. */
export const anchoredEpoch = {
  anchor: ({ number }, _args, { loaders }) => loaders.epochAnchor.load(String(number)),
} satisfies EpochResolvers;

export const chainQueries = {
  chainStatus: async (_root, _args, context) => {
    const caller = requirePrincipal(context);
    requireOperator(caller);
    return (await context.services.chain?.status.status(caller)) ?? null;
  },
} satisfies QueryResolvers;

import { toConnection, toPageRequest } from '../connections.ts';
import { requirePrincipal } from '../context.ts';
import type { BackboneResolvers, QueryResolvers } from '../generated/types.ts';
import { parseGlobalId, toGlobalId } from '../ids.ts';

export const Backbone = {
  id: ({ digest }) => toGlobalId('Backbone', digest),
  family: ({ shape }) => shape.family,
  layers: ({ shape }) => shape.layers,
  hiddenSize: ({ shape }) => shape.hiddenSize,
  vocabSize: ({ shape }) => shape.vocabSize,
  maxPositions: ({ shape }) => shape.maxPositions,
  served: ({ digest }, _args, { services }) => digest === services.engine.backboneDigest,
} satisfies BackboneResolvers;

export const backboneQueries = {
  backbones: async (_root, args, context) => {
    const request = toPageRequest(args);
    const page = await context.services.backbones.list(requirePrincipal(context), request);
    return toConnection(page, request, ({ id }) => id);
  },

  backbone: (_root, { id }, context) => {
    requirePrincipal(context);
    const ref = parseGlobalId(id);
    return ref?.type === 'Backbone' ? context.loaders.backbone.load(ref.key) : null;
  },
} satisfies QueryResolvers;

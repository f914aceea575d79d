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
  backbones: (_root, _args, context) => context.services.backbones.list(requirePrincipal(context)),

  backbone: (_root, { id }, context) => {
    requirePrincipal(context);
    const ref = parseGlobalId(id);
    return ref?.type === 'Backbone' ? context.loaders.backbone.load(ref.key) : null;
  },
} satisfies QueryResolvers;

import { PatchbayError } from '../../kernel/errors.ts';
import type { PriceSubject } from '../../pricing/service.ts';
import type { RoyaltyTerms, SplitTerms, PriceTerms as Terms } from '../../pricing/terms.ts';
import { toConnection, toPageRequest } from '../connections.ts';
import { requirePrincipal } from '../context.ts';
import { inInput, withUserErrors } from '../errors.ts';
import type {
  MutationResolvers,
  PriceTermsInput,
  PriceTermsResolvers,
  PriceVersionResolvers,
  QueryResolvers,
  QuoteInput,
  QuoteResolvers,
  RoyaltyVersionResolvers,
  SetRoyaltyInput,
  SplitDecisionResolvers,
  SplitProposalResolvers,
  SplitVersionResolvers,
} from '../generated/types.ts';
import { optionalGlobalId, requireGlobalId, toGlobalId } from '../ids.ts';
import { toAdapterRef, toMessage } from './inference.ts';

export const PriceTerms = {
  interactivePpm: ({ classPpm }) => Number(classPpm.INTERACTIVE),
  standardPpm: ({ classPpm }) => Number(classPpm.STANDARD),
  batchPpm: ({ classPpm }) => Number(classPpm.BATCH),
  platformFeePpm: ({ platformFeePpm }) => Number(platformFeePpm),
} satisfies PriceTermsResolvers;

export const PriceVersion = {
  uuid: ({ id }) => id,
  backbone: ({ backboneDigest }, _args, { loaders }) =>
    backboneDigest === null ? null : loaders.backbone.load(backboneDigest),
  adapter: ({ adapterId }, _args, { loaders }) =>
    adapterId === null ? null : loaders.adapter.load(adapterId),
} satisfies PriceVersionResolvers;

export const RoyaltyVersion = {
  uuid: ({ id }) => id,
  adapter: ({ adapterId }, _args, { loaders }) => loaders.adapter.load(adapterId),
  kind: ({ terms }) => terms.kind,
  inputPerMillion: ({ terms }) => (terms.kind === 'PER_TOKEN' ? terms.inputPerMillion : null),
  outputPerMillion: ({ terms }) => (terms.kind === 'PER_TOKEN' ? terms.outputPerMillion : null),
  sharePpm: ({ terms }) => (terms.kind === 'SHARE' ? Number(terms.sharePpm) : null),
} satisfies RoyaltyVersionResolvers;

const splitFields = {
  adapter: ({ adapterId }: { readonly adapterId: string }) => toGlobalId('Adapter', adapterId),
  adapterVersion: ({ adapterVersionId }: { readonly adapterVersionId: string | null }) =>
    adapterVersionId === null ? null : toGlobalId('AdapterVersion', adapterVersionId),
  beneficiaries: ({ terms }: { readonly terms: SplitTerms }) =>
    terms.beneficiaries.map(({ tenantId, parts }) => ({ tenant: toGlobalId('Tenant', tenantId), parts })),
  whole: ({ terms }: { readonly terms: SplitTerms }) =>
    terms.beneficiaries.reduce((sum, { parts }) => sum + parts, 0n),
};

export const SplitVersion = {
  uuid: ({ id }) => id,
  ...splitFields,
} satisfies SplitVersionResolvers;

export const SplitDecision = {
  tenant: ({ tenantId }) => toGlobalId('Tenant', tenantId),
} satisfies SplitDecisionResolvers;

export const SplitProposal = {
  uuid: ({ id }) => id,
  owner: ({ ownerTenantId }) => toGlobalId('Tenant', ownerTenantId),
  ...splitFields,
} satisfies SplitProposalResolvers;

export const Quote = {
  currency: ({ pinned }) => pinned.currency,
  at: ({ pinned }) => pinned.at,
  priority: ({ pinned }) => pinned.priority,
  parts: ({ pinned }) =>
    pinned.parts.map(({ adapter, share, price, royalty }) => ({
      adapterVersion: adapter && toGlobalId('AdapterVersion', adapter.versionId),
      shareNumerator: share.numerator,
      shareDenominator: share.denominator,
      rank: adapter?.rank ?? null,
      price: price.versionId,
      royalty: royalty?.versionId ?? null,
    })),
  lines: ({ pinned, full }) =>
    full.lines.map(({ part, kind, tokens, amount }) => {
      const adapter = pinned.parts[part]?.adapter ?? null;
      return {
        kind,
        adapterVersion: adapter && toGlobalId('AdapterVersion', adapter.versionId),
        tokens,
        amount,
      };
    }),
  total: ({ full }) => full.total,
  maximum: ({ maximum }) => maximum.total,
} satisfies QuoteResolvers;

export const pricingQueries = {
  prices: async (_root, args, context) => {
    const caller = requirePrincipal(context);
    const request = toPageRequest(args);
    const page = await context.services.pricing.prices(caller, toSubject(args), request);
    return toConnection(page, request, ({ id }) => id);
  },

  royalties: async (_root, args, context) => {
    const caller = requirePrincipal(context);
    const request = toPageRequest(args);
    const adapterId = requireGlobalId('Adapter', args.adapter, 'adapter');
    const page = await context.services.pricing.royalties(caller, adapterId, request);
    return toConnection(page, request, ({ id }) => id);
  },

  splits: async (_root, args, context) => {
    const caller = requirePrincipal(context);
    const request = toPageRequest(args);
    const page = await context.services.pricing.splits(caller, toScope(args), request);
    return toConnection(page, request, ({ id }) => id);
  },

  splitProposals: async (_root, args, context) => {
    const caller = requirePrincipal(context);
    const request = toPageRequest(args);
    const adapterId = optionalGlobalId('Adapter', args.adapter, 'adapter');
    const page = await context.services.pricing.proposals(caller, adapterId, request);
    return toConnection(page, request, ({ id }) => id);
  },

  quote: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return inInput(() => context.services.pricing.quote(caller, toQuote(input)));
  },
} satisfies QueryResolvers;

export const pricingMutations = {
  setPrice: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const price = {
        idempotencyKey: input.idempotencyKey,
        subject: toSubject(input),
        terms: input.terms == null ? null : toPriceTerms(input.terms),
        effectiveFrom: input.effectiveFrom ?? null,
      };
      return { price: await context.services.pricing.setPrice(caller, price, context) };
    });
  },

  setRoyalty: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const royalty = {
        idempotencyKey: input.idempotencyKey,
        adapterId: requireGlobalId('Adapter', input.adapter, 'adapter'),
        terms: toRoyaltyTerms(input),
        effectiveFrom: input.effectiveFrom ?? null,
      };
      return { royalty: await context.services.pricing.setRoyalty(caller, royalty, context) };
    });
  },

  proposeSplit: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const proposal = {
        idempotencyKey: input.idempotencyKey,
        ...toScope(input),
        terms: {
          beneficiaries: input.beneficiaries.map(({ tenant, parts }, index) => ({
            tenantId: requireGlobalId('Tenant', tenant, `beneficiaries.${index}.tenant`),
            parts,
          })),
        },
        effectiveFrom: input.effectiveFrom ?? null,
      };
      return { proposal: await context.services.pricing.proposeSplit(caller, proposal, context) };
    });
  },

  decideSplit: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const decision = { proposalId: input.proposal, agrees: input.agrees };
      return { proposal: await context.services.pricing.decideSplit(caller, decision, context) };
    });
  },
} satisfies MutationResolvers;

interface SubjectArgs {
  readonly backbone?: string | null | undefined;
  readonly adapter?: string | null | undefined;
}

function toSubject({ backbone, adapter }: SubjectArgs): PriceSubject {
  if (backbone != null && adapter == null) {
    return { kind: 'BACKBONE', backboneDigest: requireGlobalId('Backbone', backbone, 'backbone') };
  }
  if (adapter != null && backbone == null) {
    return { kind: 'ADAPTER', adapterId: requireGlobalId('Adapter', adapter, 'adapter') };
  }
  throw new PatchbayError('BAD_INPUT', 'Give exactly one of `backbone` and `adapter`.', {
    field: 'backbone',
  });
}

function toScope(args: { readonly adapter: string; readonly adapterVersion?: string | null | undefined }) {
  const { adapter, adapterVersion } = args;
  return {
    adapterId: requireGlobalId('Adapter', adapter, 'adapter'),
    adapterVersionId: optionalGlobalId('AdapterVersion', adapterVersion, 'adapterVersion'),
  };
}

function toPriceTerms(input: PriceTermsInput): Terms {
  const ppm = (value: number | null | undefined): bigint => BigInt(value ?? 1_000_000);
  return {
    currency: input.currency,
    inputPerMillion: input.inputPerMillion,
    cachedInputPerMillion: input.cachedInputPerMillion,
    outputPerMillion: input.outputPerMillion,
    rankPerMillion: input.rankPerMillion ?? 0n,
    classPpm: {
      INTERACTIVE: ppm(input.interactivePpm),
      STANDARD: ppm(input.standardPpm),
      BATCH: ppm(input.batchPpm),
    },
    platformFeePpm: BigInt(input.platformFeePpm ?? 0),
  };
}

function toRoyaltyTerms({ perToken, sharePpm }: SetRoyaltyInput): RoyaltyTerms {
  if (perToken != null && sharePpm == null) return { kind: 'PER_TOKEN', ...perToken };
  if (sharePpm != null && perToken == null) return { kind: 'SHARE', sharePpm: BigInt(sharePpm) };
  throw new PatchbayError('BAD_INPUT', 'Give exactly one of `perToken` and `sharePpm`.', {
    field: 'perToken',
  });
}

function toQuote(input: QuoteInput) {
  const { backbone, promptTokens, messages, prompt, promptIds, adapters, maxTokens } = input;
  return {
    ...(backbone == null ? {} : { backboneDigest: requireGlobalId('Backbone', backbone, 'backbone') }),
    ...(promptTokens == null ? {} : { promptTokens }),
    ...(messages == null ? {} : { messages: messages.map(toMessage) }),
    ...(prompt == null ? {} : { prompt }),
    ...(promptIds == null ? {} : { promptIds }),
    ...(maxTokens == null ? {} : { maxTokens }),
    adapters: (adapters ?? []).map(toAdapterRef),
    plainBackbone: input.plainBackbone ?? false,
    priority: input.priority ?? ('STANDARD' as const),
  };
}

import { parseAdapterRef } from '../../adapter/resolve.ts';
import type { AdapterService } from '../../adapter/service.ts';
import { type Principal, requireScope } from '../../auth/principal.ts';
import type { Page, PageRequest } from '../../db/page.ts';
import type { EngineInfo } from '../../engine/port.ts';
import { checkSize, type InferenceInput, type NormalInput, normaliseInput } from '../../inference/input.ts';
import type { PromptEncoder } from '../../inference/ports.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import type { Uuid } from '../../kernel/ids.ts';
import { type Quote, quoteRequest } from '../../pricing/quote.ts';
import type { PriceResolver } from '../../pricing/resolver.ts';
import type { PriceVersion, RoyaltyVersion } from '../../pricing/rows.ts';
import type { PriceSubject, PricingService, SetPriceInput, SetRoyaltyInput } from '../../pricing/service.ts';
import type { ProposeSplitInput, SplitProposal, SplitService, SplitVersion } from '../../pricing/splits.ts';
import type { RequestContext } from '../../tenant/audit.ts';

/** A request to be priced: its prompt, or the number of its prompt's tokens. */
export interface QuoteInput
  extends Pick<
    InferenceInput,
    | 'prompt'
    | 'promptIds'
    | 'messages'
    | 'adapters'
    | 'plainBackbone'
    | 'backboneDigest'
    | 'maxTokens'
    | 'priority'
  > {
  readonly promptTokens?: number;
}

/** What {@link PricingAccess} works with. */
interface PricingAccessDependencies {
  readonly pricing: PricingService;
  readonly splits: SplitService;
  readonly prices: PriceResolver;
  readonly adapters: AdapterService;
  readonly encoder: PromptEncoder;
  readonly engine: { readonly info: EngineInfo };
}

/** Prices as a principal may use them. The services below check permissions themselves; a quote is put together here. */
export class PricingAccess {
  readonly #deps: PricingAccessDependencies;

  constructor(dependencies: PricingAccessDependencies) {
    this.#deps = dependencies;
  }

  setPrice(principal: Principal, input: SetPriceInput, context?: RequestContext): Promise<PriceVersion> {
    return this.#deps.pricing.setPrice(principal, input, context);
  }

  setRoyalty(
    principal: Principal,
    input: SetRoyaltyInput,
    context?: RequestContext,
  ): Promise<RoyaltyVersion> {
    return this.#deps.pricing.setRoyalty(principal, input, context);
  }

  prices(principal: Principal, subject: PriceSubject, page: PageRequest): Promise<Page<PriceVersion>> {
    return this.#deps.pricing.prices(principal, subject, page);
  }

  royalties(principal: Principal, adapterId: Uuid, page: PageRequest): Promise<Page<RoyaltyVersion>> {
    return this.#deps.pricing.royalties(principal, adapterId, page);
  }

  splits(
    principal: Principal,
    scope: { readonly adapterId: Uuid; readonly adapterVersionId: Uuid | null },
    page: PageRequest,
  ): Promise<Page<SplitVersion>> {
    return this.#deps.splits.list(principal, scope, page);
  }

  proposals(principal: Principal, adapterId: Uuid | null, page: PageRequest): Promise<Page<SplitProposal>> {
    return this.#deps.splits.proposals(principal, adapterId, page);
  }

  proposeSplit(
    principal: Principal,
    input: ProposeSplitInput,
    context?: RequestContext,
  ): Promise<SplitProposal> {
    return this.#deps.splits.propose(principal, input, context);
  }

  decideSplit(
    principal: Principal,
    input: { readonly proposalId: Uuid; readonly agrees: boolean },
    context?: RequestContext,
  ): Promise<SplitProposal> {
    return this.#deps.splits.decide(principal, input, context);
  }

  /** Prices a request as `infer` would: the same checks of its shape, the same adapters. */
  async quote(principal: Principal, input: QuoteInput): Promise<Quote> {
    // Who may send the request may ask what it costs, and so may who reads the bills.
    if (!principal.scopes.includes('infer')) requireScope(principal, 'billing:read');
    const { adapters, prices, engine } = this.#deps;
    const { backboneDigest, maxContext } = engine.info;
    if (input.backboneDigest !== undefined && input.backboneDigest !== backboneDigest) {
      throw new PatchbayError('BACKBONE_NOT_LOADED', 'This server serves another backbone.', {
        field: 'backbone',
      });
    }
    const { promptTokens: given, ...request } = input;
    const normal = normaliseInput(given === undefined ? request : { ...request, ...countOnly(request) });
    checkSize(engine.info, this.#deps.encoder.tokenCharsMax, normal);
    requireWeights(normal);
    const resolved = await adapters.resolveForInference(
      principal.tenantId,
      normal.adapters.map(({ adapter, version, weight }) => ({
        ref: parseAdapterRef(adapter, version),
        weight,
      })),
      backboneDigest,
    );
    requireDistinct(resolved.map(({ digest }) => digest));
    const promptTokens = given ?? (await this.#count(normal));
    requireFit(promptTokens, normal.maxTokens, maxContext, given === undefined ? 'prompt' : 'promptTokens');
    return quoteRequest(prices, {
      tenantId: principal.tenantId,
      backboneDigest,
      adapters: resolved,
      priority: normal.priority,
      promptTokens,
      maxTokens: normal.maxTokens,
    });
  }

  async #count({ source }: NormalInput): Promise<number> {
    const { encoder } = this.#deps;
    switch (source.kind) {
      case 'ids':
        return source.ids.length;
      case 'text':
        return (await encoder.encode(source.text)).length;
      case 'messages':
        return (await encoder.encodeChat(source.messages)).length;
    }
  }
}

/** Stands for a prompt of which only the number of tokens is known. */
function countOnly(request: QuoteInput): { readonly promptIds: readonly number[] } {
  if (request.prompt === undefined && request.messages === undefined && request.promptIds === undefined) {
    return { promptIds: [] };
  }
  throw new PatchbayError('BAD_INPUT', 'Give the prompt or the number of its tokens, not both.', {
    field: 'promptTokens',
  });
}

function requireWeights({ adapters }: NormalInput): void {
  for (const [index, { weight }] of adapters.entries()) {
    if (Number.isFinite(weight) && weight !== 0) continue;
    throw new PatchbayError('BLEND_INVALID', 'A blend weight is not finite and non-zero.', {
      field: `adapters.${index}.weight`,
    });
  }
}

function requireDistinct(digests: readonly string[]): void {
  if (new Set(digests).size === digests.length) return;
  throw new PatchbayError('BLEND_INVALID', 'The blend names an adapter twice.', { field: 'adapters' });
}

function requireFit(promptTokens: number, maxTokens: number, maxContext: number, field: string): void {
  if (!Number.isInteger(promptTokens) || promptTokens < 1) {
    throw new PatchbayError('PROMPT_EMPTY', 'The prompt has no tokens.', { field });
  }
  if (!Number.isInteger(maxTokens) || maxTokens < 1) {
    throw new PatchbayError('BAD_INPUT', 'At least one token is generated.', { field: 'maxTokens' });
  }
  if (promptTokens + maxTokens <= maxContext) return;
  throw new PatchbayError('PROMPT_TOO_LONG', `Prompt and answer have at most ${maxContext} tokens.`, {
    field,
    meta: { promptTokens, maxTokens, maxContext },
  });
}

import { createHash, timingSafeEqual } from 'node:crypto';
import type { EngineInfo, SamplingParams, SequenceRequest, StopRules } from '../engine/port.ts';
import { REQUEST_LIMITS, validateSequenceRequest } from '../engine/validate.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { PRIORITY_CLASSES, type PriorityClass } from '../kernel/priority.ts';
import type { AdapterRef, ChatMessage, ResolvedAdapter } from './ports.ts';

/** Bounds of the input before it is tokenised; feeds the reference documentation. */
export const INPUT_LIMITS = {
  /** Of the prompt, or of all messages together. */
  promptCharsMax: 1_000_000,
  /**
   * Characters that a prompt may have for each token of the context, where the vocabulary has longer ones: text of
   * nothing but the longest tokens does not occur, and encoding blocks the process.
   */
  charsPerTokenMax: 16,
  messagesMax: 1_000,
  idempotencyKeyCharsMax: 200,
  adapterRefCharsMax: 300,
} as const;

/** Tokens that are generated at most when the caller names no limit. */
export const MAX_TOKENS_DEFAULT = 256;

/** One inference as the caller states it. Exactly one prompt form; adapters, or explicitly the plain backbone. */
export interface InferenceInput {
  readonly prompt?: string;
  readonly promptIds?: readonly number[];
  readonly messages?: readonly ChatMessage[];
  readonly adapters?: readonly AdapterRef[];
  readonly plainBackbone?: boolean;
  /** Digest of the backbone to run on; the served one when absent. */
  readonly backboneDigest?: string;
  readonly maxTokens?: number;
  readonly sampling?: Partial<SamplingParams>;
  readonly stop?: readonly string[];
  readonly stopTokenIds?: readonly number[];
  readonly ignoreEos?: boolean;
  readonly priority?: PriorityClass;
  readonly topLogprobs?: number;
  readonly idempotencyKey?: string;
}

/** Where the prompt's tokens come from. */
export type PromptSource =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'ids'; readonly ids: readonly number[] }
  | { readonly kind: 'messages'; readonly messages: readonly ChatMessage[] };

/** Checked input with every default filled in but the seed, which must not make a retry another request. */
export interface NormalInput {
  readonly source: PromptSource;
  /** Empty: the plain backbone. */
  readonly adapters: readonly (AdapterRef & { readonly weight: number })[];
  readonly maxTokens: number;
  readonly sampling: Omit<SamplingParams, 'seed'> & { readonly seed: number | null };
  readonly stop: Omit<StopRules, 'maxTokens'>;
  readonly priority: PriorityClass;
  readonly topLogprobs: number;
}

/**
 * Checks the shape of an input and fills in defaults. What depends on the engine is checked by
 * {@link sequenceRequest}.
 *
 * @throws PatchbayError `BAD_INPUT` with the field.
 */
export function normaliseInput(input: InferenceInput): NormalInput {
  const adapters = input.adapters ?? [];
  const plain = input.plainBackbone === true;
  if (plain && adapters.length > 0)
    bad('plainBackbone', 'Name adapters or ask for the plain backbone, not both.');
  if (!plain && adapters.length === 0) {
    bad('adapters', 'Name at least one adapter, or ask for the plain backbone explicitly.');
  }
  for (const [index, ref] of adapters.entries()) {
    const length = ref.adapter.length;
    if (length === 0 || length > INPUT_LIMITS.adapterRefCharsMax)
      bad(`adapters.${index}.adapter`, 'Bad reference.');
  }
  const priority = input.priority ?? 'STANDARD';
  if (!PRIORITY_CLASSES.includes(priority)) bad('priority', 'Unknown priority class.');
  const key = input.idempotencyKey;
  if (key !== undefined && (key.length === 0 || key.length > INPUT_LIMITS.idempotencyKeyCharsMax)) {
    bad('idempotencyKey', `An idempotency key has 1 to ${INPUT_LIMITS.idempotencyKeyCharsMax} characters.`);
  }
  return {
    source: promptSource(input),
    adapters: adapters.map((ref) => ({ ...ref, weight: ref.weight ?? 1 })),
    maxTokens: input.maxTokens ?? MAX_TOKENS_DEFAULT,
    sampling: {
      temperature: input.sampling?.temperature ?? 0,
      topP: input.sampling?.topP ?? 1,
      topK: input.sampling?.topK ?? 0,
      minP: input.sampling?.minP ?? 0,
      repetitionPenalty: input.sampling?.repetitionPenalty ?? 1,
      seed: input.sampling?.seed ?? null,
    },
    stop: {
      strings: input.stop ?? [],
      tokenIds: input.stopTokenIds ?? [],
      ignoreEos: input.ignoreEos ?? false,
    },
    priority,
    topLogprobs: input.topLogprobs ?? 0,
  };
}

/**
 * Refuses what need not be looked at more closely: too many parts, or a prompt that cannot fit into the context. What
 * it lets pass costs a bounded number of queries and a bounded time to encode.
 *
 * @throws PatchbayError `BLEND_INVALID`, `SAMPLING_INVALID` or `PROMPT_TOO_LONG` with the field.
 */
export function checkSize(info: EngineInfo, tokenCharsMax: number | undefined, input: NormalInput): void {
  const { maxBlend, maxContext } = info;
  const { source, stop } = input;
  if (input.adapters.length > maxBlend) {
    tooMany('BLEND_INVALID', 'adapters', input.adapters.length, { maxBlend });
  }
  const { stopStrings, stopTokenIds } = REQUEST_LIMITS;
  if (stop.strings.length > stopStrings) {
    tooMany('SAMPLING_INVALID', 'stop', stop.strings.length, { stopStrings });
  }
  if (stop.tokenIds.length > stopTokenIds) {
    tooMany('SAMPLING_INVALID', 'stopTokenIds', stop.tokenIds.length, { stopTokenIds });
  }
  if (source.kind === 'ids') {
    if (source.ids.length > maxContext) tooLong('promptIds', source.ids.length, maxContext, { maxContext });
    return;
  }
  const charsPerToken = Math.min(tokenCharsMax ?? Number.POSITIVE_INFINITY, INPUT_LIMITS.charsPerTokenMax);
  const promptCharsMax = Math.min(INPUT_LIMITS.promptCharsMax, maxContext * charsPerToken);
  const chars = promptChars(source);
  if (chars > promptCharsMax) {
    const field = source.kind === 'text' ? 'prompt' : 'messages';
    tooLong(field, chars, promptCharsMax, { promptCharsMax, maxContext });
  }
}

function promptChars(source: Exclude<PromptSource, { readonly kind: 'ids' }>): number {
  if (source.kind === 'text') return source.text.length;
  return source.messages.reduce((sum, { role, content }) => sum + role.length + content.length, 0);
}

function tooMany(
  code: 'BLEND_INVALID' | 'SAMPLING_INVALID',
  field: string,
  given: number,
  limit: Readonly<Record<string, number>>,
): never {
  const [most = 0] = Object.values(limit);
  throw new PatchbayError(code, `At most ${most} are possible here, and ${given} were given.`, {
    field,
    meta: limit,
  });
}

function tooLong(field: string, given: number, most: number, meta: Readonly<Record<string, number>>): never {
  const unit = field === 'promptIds' ? 'tokens' : 'characters';
  const message = `The prompt has ${given} ${unit}; with this context it may have ${most}.`;
  throw new PatchbayError('PROMPT_TOO_LONG', message, { field, meta });
}

/** Puts the engine's request together and checks it against the engine, before anything is written or queued. */
export function sequenceRequest(
  info: EngineInfo,
  maxBlendWeight: number,
  input: NormalInput,
  facts: {
    readonly requestId: Uuid;
    readonly tenantId: Uuid;
    readonly promptIds: readonly number[];
    readonly adapters: readonly ResolvedAdapter[];
    readonly seed: number;
  },
): SequenceRequest {
  const request: SequenceRequest = {
    id: facts.requestId,
    tenantId: facts.tenantId,
    promptIds: facts.promptIds,
    adapters: facts.adapters.map(({ digest, weight }) => ({ digest, weight })),
    sampling: { ...input.sampling, seed: input.sampling.seed ?? facts.seed },
    stop: { ...input.stop, maxTokens: input.maxTokens },
    priority: input.priority,
    topLogprobs: input.topLogprobs,
  };
  validateSequenceRequest(info, request, { maxBlendWeight });
  // One order for all: sums of floats depend on it, and whoever runs the request again knows the digests and not how the
  // caller listed them.
  const adapters = request.adapters.toSorted((a, b) => (a.digest < b.digest ? -1 : 1));
  return { ...request, adapters };
}

/** SHA-256 of an idempotency key: the key itself is not stored. */
export function hashIdempotencyKey(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

/**
 * Salted hash of what was asked, as the caller said it: a retry is the same request even when an adapter has a newer
 * version meanwhile, and the stored hash does not give guessable prompts away.
 */
export function hashRequest(salt: Buffer, input: NormalInput): Buffer {
  return createHash('sha256').update(salt).update(canonicalJson(input)).digest();
}

/** Whether a stored idempotency record was made by the same request. */
export function isSameRequest(
  stored: { readonly salt: Buffer; readonly requestHash: Buffer },
  input: NormalInput,
): boolean {
  return timingSafeEqual(stored.requestHash, hashRequest(stored.salt, input));
}

/** JSON with sorted keys and without absent members: equal values give equal text. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}

function promptSource(input: InferenceInput): PromptSource {
  const sources: PromptSource[] = [];
  if (input.prompt !== undefined) sources.push({ kind: 'text', text: input.prompt });
  if (input.promptIds !== undefined) sources.push({ kind: 'ids', ids: input.promptIds });
  if (input.messages !== undefined) sources.push({ kind: 'messages', messages: input.messages });
  const [source] = sources;
  if (source === undefined || sources.length > 1) {
    bad('prompt', 'Give exactly one of prompt, promptIds and messages.');
  }
  if (source.kind === 'messages') {
    if (source.messages.length === 0) bad('messages', 'A conversation has at least one message.');
    if (source.messages.length > INPUT_LIMITS.messagesMax) bad('messages', 'Too many messages.');
  }
  return source;
}

function bad(field: string, message: string): never {
  throw new PatchbayError('BAD_INPUT', message, { field });
}

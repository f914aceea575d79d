import { createHash, timingSafeEqual } from 'node:crypto';
import type { EngineInfo, SamplingParams, SequenceRequest, StopRules } from '../engine/port.ts';
import { validateSequenceRequest } from '../engine/validate.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { PRIORITY_CLASSES, type PriorityClass } from '../kernel/priority.ts';
import type { AdapterRef, ChatMessage, ResolvedAdapter } from './ports.ts';

/** Bounds of the input before it is tokenised; feeds the reference documentation. */
export const INPUT_LIMITS = {
  promptCharsMax: 4_000_000,
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
  return request;
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
  if (promptChars(source) > INPUT_LIMITS.promptCharsMax) bad('prompt', 'The prompt is too long.');
  return source;
}

function promptChars(source: PromptSource): number {
  switch (source.kind) {
    case 'text':
      return source.text.length;
    case 'ids':
      return source.ids.length;
    case 'messages':
      return source.messages.reduce((sum, message) => sum + message.content.length, 0);
  }
}

function bad(field: string, message: string): never {
  throw new PatchbayError('BAD_INPUT', message, { field });
}

import type { FinishReason as EngineFinishReason, SamplingParams } from '../../engine/port.ts';
import type { EndEvent, GenerateResult, InferenceEvent } from '../../inference/events.ts';
import { type InferenceInput, MAX_TOKENS_DEFAULT } from '../../inference/input.ts';
import type { AdapterRef, ChatMessage } from '../../inference/ports.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import { requirePrincipal } from '../context.ts';
import { inInput, withUserErrors } from '../errors.ts';
import type {
  AdapterUseInput,
  ChatMessageInput,
  FinishReason,
  GeneratedTokenResolvers,
  GenerationResolvers,
  InferFinishedResolvers,
  InferInput,
  MutationResolvers,
  SamplingInput,
  SubscriptionResolvers,
} from '../generated/types.ts';
import { parseGlobalId, requireGlobalId } from '../ids.ts';
import { mapStream } from '../stream.ts';

/** The engine's words for GraphQL's. */
export const FINISH_REASON: Readonly<Record<EngineFinishReason, FinishReason>> = {
  stop: 'STOP',
  length: 'LENGTH',
  cancelled: 'CANCELLED',
  error: 'ERROR',
};

export const GeneratedToken = {
  top: ({ top }) => top ?? [],
} satisfies GeneratedTokenResolvers;

type Outcome = ReturnType<typeof outcome>;
/** The end of a stream. */
export type Finished = Omit<EndEvent, keyof Outcome> & Outcome;
/** An answer as a whole. */
export type Whole = Omit<GenerateResult, keyof Outcome> & Outcome;

// A receipt is waited for by who asks for the field alone.
export const InferFinished = {
  receipt: ({ receipt }) => receipt?.() ?? null,
} satisfies InferFinishedResolvers;

export const Generation = {
  receipt: ({ receipt }) => receipt?.() ?? null,
} satisfies GenerationResolvers;

export const inferenceMutations = {
  generate: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const result = await context.services.inference.generate(caller, toInference(input), {
        signal: context.signal,
      });
      return { generation: { ...result, ...outcome(result) } };
    });
  },
} satisfies MutationResolvers;

export const inferenceSubscriptions = {
  infer: {
    subscribe: async (_root, { input }, context) => {
      const caller = requirePrincipal(context);
      const { services, signal } = context;
      const events = await inInput(async () =>
        services.inference.infer(caller, toInference(input), { signal }),
      );
      return mapStream(events, (event) => ({ infer: toEvent(event) }));
    },
  },
} satisfies SubscriptionResolvers;

function toEvent(event: InferenceEvent) {
  switch (event.kind) {
    case 'started':
      return { __typename: 'InferStarted' as const, ...event };
    case 'tokens':
      return {
        __typename: 'InferChunk' as const,
        sequence: event.seq,
        text: event.text,
        tokens: event.tokens,
      };
    case 'end':
      return { __typename: 'InferFinished' as const, ...event, ...outcome(event) };
  }
}

/** The parts of an ending whose GraphQL form differs from the domain's. */
function outcome(end: Pick<EndEvent, 'finishReason' | 'timing' | 'error'>) {
  return {
    finishReason: FINISH_REASON[end.finishReason],
    timing: end.timing && { ...end.timing, bytesLoaded: BigInt(end.timing.bytesLoaded) },
    error: end.error ?? null,
  };
}

/** The service's input. Ranges and combinations are for the service to check, for every transport alike. */
function toInference(input: InferInput): InferenceInput {
  const { backbone, messages, prompt, promptIds, adapters } = input;
  return {
    idempotencyKey: input.idempotencyKey,
    ...(backbone == null ? {} : { backboneDigest: requireGlobalId('Backbone', backbone, 'backbone') }),
    ...(messages == null ? {} : { messages: messages.map(toMessage) }),
    ...(prompt == null ? {} : { prompt }),
    ...(promptIds == null ? {} : { promptIds }),
    adapters: (adapters ?? []).map(toAdapterRef),
    plainBackbone: input.plainBackbone ?? false,
    maxTokens: input.maxTokens ?? MAX_TOKENS_DEFAULT,
    sampling: toSampling(input.sampling ?? {}),
    stop: input.stop ?? [],
    stopTokenIds: input.stopTokenIds ?? [],
    ignoreEos: input.ignoreEos ?? false,
    priority: input.priority ?? 'STANDARD',
    topLogprobs: input.topLogprobs ?? 0,
  };
}

/** A message as the encoder takes it. */
export function toMessage({ role, content }: ChatMessageInput): ChatMessage {
  return { role: role.toLowerCase(), content };
}

function toSampling(sampling: SamplingInput): Partial<SamplingParams> {
  const { seed } = sampling;
  if (seed != null && (seed < 0n || seed > BigInt(Number.MAX_SAFE_INTEGER))) {
    throw new PatchbayError('SAMPLING_INVALID', 'The seed must be 0 to 2^53 - 1.', {
      field: 'sampling.seed',
    });
  }
  return {
    temperature: sampling.temperature ?? 0,
    topP: sampling.topP ?? 1,
    topK: sampling.topK ?? 0,
    minP: sampling.minP ?? 0,
    repetitionPenalty: sampling.repetitionPenalty ?? 1,
    ...(seed == null ? {} : { seed: Number(seed) }),
  };
}

/** Global ids become raw ones; anything else is a name, which the adapter domain resolves. */
export function toAdapterRef({ adapter, version, weight }: AdapterUseInput, index: number): AdapterRef {
  const ref = parseGlobalId(adapter);
  if (ref?.type === 'AdapterVersion') {
    if (version == null) return { adapter: ref.key, version: ref.key, weight: weight ?? 1 };
    const message = 'The id of a version says the version already.';
    throw new PatchbayError('BAD_INPUT', message, { field: `adapters.${index}.version` });
  }
  const name = ref?.type === 'Adapter' ? ref.key : adapter;
  const number = version == null ? {} : { version: String(version) };
  return { adapter: name, ...number, weight: weight ?? 1 };
}

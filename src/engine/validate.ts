import type { ErrorCode } from '../kernel/codes.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { PRIORITY_CLASSES } from '../kernel/priority.ts';
import { DEFAULT_ENGINE_OPTIONS } from './options.ts';
import type { EngineInfo, SamplingParams, SequenceRequest, StopRules } from './port.ts';

/** Bounds of a request; feeds the reference documentation. */
export const REQUEST_LIMITS = {
  idLength: 128,
  temperature: 2,
  repetitionPenalty: 100,
  topLogprobs: 20,
  stopStrings: 16,
  stopStringLength: 256,
  stopTokenIds: 128,
} as const;

const LONE_SURROGATE = /[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/;

/**
 * Checks a request against the engine that shall run it. Says nothing about memory: that is the scheduler's.
 *
 * @throws PatchbayError `PROMPT_EMPTY`, `TOKEN_OUT_OF_RANGE`, `PROMPT_TOO_LONG`, `SAMPLING_INVALID`,
 *   `BLEND_INVALID` or `BAD_INPUT`, with the dotted path of the field.
 */
export function validateSequenceRequest(
  info: EngineInfo,
  request: SequenceRequest,
  limits: { readonly maxBlendWeight: number } = DEFAULT_ENGINE_OPTIONS,
): void {
  const id = request.id.length;
  require(id > 0 && id <= REQUEST_LIMITS.idLength, 'BAD_INPUT', 'id', 'The request id is empty or too long.');
  require(PRIORITY_CLASSES.includes(request.priority), 'BAD_INPUT', 'priority', 'Unknown priority class.');
  validatePrompt(info, request.promptIds);
  validateSampling(request.sampling);
  range('topLogprobs', request.topLogprobs, { integer: true, min: 0, max: REQUEST_LIMITS.topLogprobs });
  validateStop(info, request.stop);
  const total = request.promptIds.length + request.stop.maxTokens;
  if (total > info.maxContext) {
    throw new PatchbayError(
      'PROMPT_TOO_LONG',
      `The prompt has ${request.promptIds.length} tokens; with ${request.stop.maxTokens} new ones it exceeds the ` +
        `context of ${info.maxContext}.`,
      {
        field: 'promptIds',
        meta: {
          promptTokens: request.promptIds.length,
          maxTokens: request.stop.maxTokens,
          maxContext: info.maxContext,
        },
      },
    );
  }
  validateBlend(info, request, limits.maxBlendWeight);
}

/**
 * Checks that a prompt has tokens and that all are in the vocabulary.
 *
 * @throws PatchbayError `PROMPT_EMPTY` or `TOKEN_OUT_OF_RANGE`
 */
export function validatePrompt(info: EngineInfo, promptIds: readonly number[]): void {
  require(promptIds.length > 0, 'PROMPT_EMPTY', 'promptIds', 'The prompt has no tokens.');
  promptIds.forEach((token, index) => {
    requireToken(info, token, `promptIds.${index}`, 'TOKEN_OUT_OF_RANGE');
  });
}

function validateSampling(sampling: SamplingParams): void {
  range('sampling.temperature', sampling.temperature, { min: 0, max: REQUEST_LIMITS.temperature });
  range('sampling.topP', sampling.topP, { above: 0, max: 1 });
  range('sampling.topK', sampling.topK, { integer: true, min: 0, max: Number.MAX_SAFE_INTEGER });
  range('sampling.minP', sampling.minP, { min: 0, below: 1 });
  range('sampling.repetitionPenalty', sampling.repetitionPenalty, {
    above: 0,
    max: REQUEST_LIMITS.repetitionPenalty,
  });
  range('sampling.seed', sampling.seed, { integer: true, min: 0, max: Number.MAX_SAFE_INTEGER });
}

function validateStop(info: EngineInfo, stop: StopRules): void {
  range('stop.maxTokens', stop.maxTokens, { integer: true, min: 1, max: Number.MAX_SAFE_INTEGER });
  range('stop.strings.length', stop.strings.length, {
    integer: true,
    min: 0,
    max: REQUEST_LIMITS.stopStrings,
  });
  stop.strings.forEach((text, index) => {
    const field = `stop.strings.${index}`;
    range(`${field}.length`, text.length, { integer: true, min: 1, max: REQUEST_LIMITS.stopStringLength });
    require(!LONE_SURROGATE.test(
      text,
    ), 'SAMPLING_INVALID', field, 'A stop string is not well-formed Unicode.');
  });
  range('stop.tokenIds.length', stop.tokenIds.length, {
    integer: true,
    min: 0,
    max: REQUEST_LIMITS.stopTokenIds,
  });
  stop.tokenIds.forEach((token, index) => {
    requireToken(info, token, `stop.tokenIds.${index}`, 'SAMPLING_INVALID');
  });
}

function validateBlend(info: EngineInfo, { adapters }: SequenceRequest, maxWeight: number): void {
  if (adapters.length > info.maxBlend) {
    throw new PatchbayError('BLEND_INVALID', `A blend may hold at most ${info.maxBlend} adapters.`, {
      field: 'adapters',
      meta: { adapters: adapters.length, maxBlend: info.maxBlend },
    });
  }
  const digests = new Set<string>();
  adapters.forEach(({ digest, weight }, index) => {
    const field = `adapters.${index}`;
    require(digest.length > 0, 'BLEND_INVALID', `${field}.digest`, 'An adapter has no digest.');
    require(!digests.has(digest), 'BLEND_INVALID', `${field}.digest`, 'The blend names an adapter twice.');
    digests.add(digest);
    // The runner computes in float32, where a weight this small would silently be no weight at all.
    if (!Number.isFinite(weight) || Math.fround(weight) === 0 || Math.abs(weight) > maxWeight) {
      throw new PatchbayError(
        'BLEND_INVALID',
        `A blend weight is not finite, non-zero and within ±${maxWeight}.`,
        {
          field: `${field}.weight`,
          meta: { maxBlendWeight: maxWeight },
        },
      );
    }
  });
}

interface Range {
  readonly integer?: boolean;
  readonly min?: number;
  readonly max?: number;
  /** Exclusive bounds. */
  readonly above?: number;
  readonly below?: number;
}

function range(field: string, value: number, { integer, ...bounds }: Range): void {
  const { min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY } = bounds;
  const { above = Number.NEGATIVE_INFINITY, below = Number.POSITIVE_INFINITY } = bounds;
  const number = integer === true ? Number.isSafeInteger(value) : Number.isFinite(value);
  if (number && value >= min && value <= max && value > above && value < below) return;
  throw new PatchbayError('SAMPLING_INVALID', `${field} is out of range.`, {
    field,
    meta: { ...bounds, ...(integer === true ? { integer } : {}) },
  });
}

function requireToken(info: EngineInfo, token: number, field: string, code: ErrorCode): void {
  if (Number.isInteger(token) && token >= 0 && token < info.shape.vocabSize) return;
  throw new PatchbayError(code, `Token id ${token} is not in the vocabulary of ${info.shape.vocabSize}.`, {
    field,
    meta: { vocabSize: info.shape.vocabSize },
  });
}

function require(condition: boolean, code: ErrorCode, field: string, message: string): void {
  if (!condition) throw new PatchbayError(code, message, { field });
}

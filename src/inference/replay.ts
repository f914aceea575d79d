import { ERROR_CODES, type ErrorCode, isErrorCode } from '../kernel/codes.ts';
import { PatchbayError, type PublicError } from '../kernel/errors.ts';
import type { SettledOutcome } from '../metering/types.ts';
import type { Chunk } from './chunk-buffer.ts';
import type { InferenceEvent } from './events.ts';

/**
 * What a retry is told about a request that is settled: how it ended and what was metered, and its output if this
 * process still remembers it. Nothing runs, nothing is metered.
 */
export async function* replay(
  outcome: SettledOutcome,
  output: Chunk | null,
): AsyncGenerator<InferenceEvent, undefined> {
  const { requestId } = outcome;
  yield { kind: 'started', requestId, replayed: true };
  if (output !== null && output.tokens.length > 0) {
    yield { kind: 'tokens', seq: 0, text: output.text, tokens: output.tokens };
  }
  yield {
    kind: 'end',
    requestId,
    finishReason: outcome.finishReason,
    usage: {
      promptTokens: outcome.promptTokens,
      cachedPromptTokens: outcome.cachedPromptTokens,
      completionTokens: outcome.completionTokens,
    },
    timing: null,
    replayed: true,
    outputComplete: output !== null || outcome.completionTokens === 0,
    // It may have been signed since; it is asked for by the id.
    receipt: null,
    opening: null,
    ...(outcome.errorCode === null ? {} : { error: storedError(outcome.errorCode) }),
  };
  return undefined;
}

function storedError(text: string): PublicError {
  const code: ErrorCode = isErrorCode(text) ? text : 'INTERNAL';
  return new PatchbayError(code, ERROR_CODES[code].meaning).toPublic();
}

import type { FinishReason, SequenceUsage } from '../engine/port.ts';
import type { PublicError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { Settlement } from '../metering/types.ts';
import type { InferenceTiming, InferenceUsage } from './events.ts';
import type { RequestPrice } from './ports.ts';

/** Why a request ended. */
export interface Ending {
  readonly reason: FinishReason;
  readonly error?: PublicError;
}

/** What is known about a request when it ends. */
export interface EndFacts {
  readonly requestId: Uuid;
  readonly instanceId: Uuid;
  /** Tokens of the prompt, from the admission. */
  readonly admittedPromptTokens: number;
  /** Completion tokens whose delivery was committed, and the commitment to them. */
  readonly completionTokens: number;
  /** Of the prompt's tokens, those that the engine had, as far as its tokens told. */
  readonly cachedPromptTokens: number;
  /** Tokens that came from the engine and were never to be delivered. */
  readonly droppedTokens: number;
  readonly outputCommitment: Buffer;
  readonly ending: Ending;
  /** The engine's measurements; null when it never reported an end. */
  readonly engine: SequenceUsage | null;
}

/**
 * What is billed, in one place:
 *
 * - Completion tokens: those whose delivery was committed. What the engine generated beyond them, because the client
 *   left or was slow, is not metered.
 * - The prompt: in full once the engine has processed any of it, for every way of ending but one: a failure that
 *   delivered nothing meters nothing, and the idempotency key is free for a retry.
 */
export function meteredUsage(facts: EndFacts): InferenceUsage {
  const { engine, completionTokens } = facts;
  const failedEmpty = facts.ending.reason === 'error' && completionTokens === 0;
  // By the time as it is recorded, so that whoever reads the record comes to the same.
  const processed = completionTokens > 0 || microseconds(engine?.prefillMs) > 0;
  const promptTokens = processed && !failedEmpty ? facts.admittedPromptTokens : 0;
  const cachedPromptTokens = Math.min(promptTokens, engine?.cachedPromptTokens ?? facts.cachedPromptTokens);
  return { promptTokens, cachedPromptTokens, completionTokens };
}

/** The settlement that records this end, and captures what it costs under the given id. */
export function settlementOf(facts: EndFacts, price: RequestPrice, captureId: Uuid): Settlement {
  const { engine } = facts;
  const usage = meteredUsage(facts);
  const { hold } = price.charge;
  return {
    requestId: facts.requestId,
    instanceId: facts.instanceId,
    ...usage,
    outputCommitment: facts.outputCommitment,
    queueUs: microseconds(engine?.queueMs),
    prefillUs: microseconds(engine?.prefillMs),
    decodeUs: microseconds(engine?.decodeMs),
    computeUs: microseconds(engine?.computeMs),
    bytesLoaded: Math.max(0, Math.round(engine?.bytesLoaded ?? 0)),
    finishReason: facts.ending.reason,
    errorCode: facts.ending.error?.code ?? null,
    settledBy: 'engine',
    engineCount: engine && {
      promptTokens: engine.promptTokens,
      completionTokens: engine.completionTokens,
      droppedTokens: facts.droppedTokens,
    },
    executed: engine?.executed ?? null,
    charge: price.settle(usage),
    capture: hold === null ? null : { id: captureId, hold },
  };
}

/** The timing that the final event reports. */
export function timingOf(engine: SequenceUsage | null): InferenceTiming | null {
  if (engine === null) return null;
  const { queueMs, prefillMs, decodeMs, computeMs, bytesLoaded } = engine;
  return { queueMs, prefillMs, decodeMs, computeMs, bytesLoaded };
}

function microseconds(ms: number | undefined): number {
  return Math.max(0, Math.round((ms ?? 0) * 1000));
}

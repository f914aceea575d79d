import type { FinishReason, GeneratedToken } from '../engine/port.ts';
import type { PublicError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';

/** What a request is metered with. */
export interface InferenceUsage {
  readonly promptTokens: number;
  readonly cachedPromptTokens: number;
  readonly completionTokens: number;
}

/** Where the time of a request went, as the engine measured it. */
export interface InferenceTiming {
  readonly queueMs: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
  readonly computeMs: number;
  readonly bytesLoaded: number;
}

/**
 * What opens the commitments to prompt and output, for the tenant of the request alone. Neither is stored with the request,
 * so this is the moment to keep them.
 */
export interface CommitmentOpening {
  /** Salt of both, hexadecimal. */
  readonly salt: string;
  readonly promptIds: readonly number[];
}

/** First event: the request is admitted, and this id finds its usage record later. */
export interface StartedEvent {
  readonly kind: 'started';
  readonly requestId: Uuid;
  /** The idempotency key was used before; what follows is the outcome of that request. */
  readonly replayed: boolean;
}

/** A chunk of the answer. Its tokens are metered before it is handed out. */
export interface TokensEvent {
  readonly kind: 'tokens';
  /** Counts the chunks of a request from 0, without gaps. */
  readonly seq: number;
  /** Text that became final with these tokens; lags behind them while a character is incomplete. */
  readonly text: string;
  readonly tokens: readonly GeneratedToken[];
}

/** Waits for the platform's signed statement of a request; null when that takes too long. Never rejects. */
export type ReceiptText = () => Promise<string | null>;

/** Last event. */
export interface EndEvent {
  readonly kind: 'end';
  readonly requestId: Uuid;
  readonly finishReason: FinishReason;
  /** What is metered; with an `error` of `LEASE_LOST` or `DATABASE_UNAVAILABLE`, what this process knows of it. */
  readonly usage: InferenceUsage;
  /** Absent where another process or an earlier request measured it. */
  readonly timing: InferenceTiming | null;
  readonly replayed: boolean;
  /** Null for a replay: the prompt is not stored. */
  readonly opening: CommitmentOpening | null;
  /** False for a replay whose text is no longer remembered. */
  readonly outputComplete: boolean;
  /** Asks for the platform's signed statement of the request; null where there is none. */
  readonly receipt: ReceiptText | null;
  readonly error?: PublicError;
}

export type InferenceEvent = StartedEvent | TokensEvent | EndEvent;

/** An answer as a whole. */
export interface GenerateResult {
  readonly requestId: Uuid;
  readonly text: string;
  readonly tokens: readonly GeneratedToken[];
  readonly finishReason: FinishReason;
  readonly usage: InferenceUsage;
  readonly timing: InferenceTiming | null;
  readonly replayed: boolean;
  readonly opening: CommitmentOpening | null;
  readonly outputComplete: boolean;
  readonly receipt: ReceiptText | null;
  readonly error?: PublicError;
}

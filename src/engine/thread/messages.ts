import type { PublicError } from '../../kernel/errors.ts';
import type {
  EngineInfo,
  EngineStatus,
  ProbeResult,
  ResidencyHour,
  SequenceEvent,
  SequenceRequest,
} from '../port.ts';

/** From the client to the engine's thread. `call` pairs an answer with its question. */
export type ToEngine =
  | { readonly kind: 'submit'; readonly call: number; readonly request: SequenceRequest }
  | { readonly kind: 'cancel'; readonly id: string }
  | {
      readonly kind: 'probe';
      readonly call: number;
      readonly digest: string;
      readonly promptIds: readonly number[];
    }
  | { readonly kind: 'status'; readonly call: number }
  | { readonly kind: 'residency'; readonly call: number }
  | { readonly kind: 'close'; readonly call: number; readonly graceMs: number };

/** What a call gave. */
export type Answer =
  | { readonly kind: 'accepted' }
  | { readonly kind: 'probed'; readonly result: ProbeResult }
  | { readonly kind: 'status'; readonly status: EngineStatus }
  | { readonly kind: 'residency'; readonly hours: readonly ResidencyHour[] }
  | { readonly kind: 'closed' }
  | { readonly kind: 'refused'; readonly error: PublicError };

/** From the engine's thread to the client. */
export type FromEngine =
  | { readonly kind: 'ready'; readonly info: EngineInfo }
  /** The engine could not be started; nothing follows. */
  | { readonly kind: 'failed'; readonly error: PublicError }
  | { readonly kind: 'answer'; readonly call: number; readonly answer: Answer }
  /** What one or more steps gave, in order for each sequence. */
  | {
      readonly kind: 'events';
      readonly events: readonly { readonly id: string; readonly event: SequenceEvent }[];
    };

/** The part of a `MessagePort` or `Worker` that is used. */
export interface ThreadPort {
  postMessage(message: unknown): void;
  on(event: 'message', listener: (message: unknown) => void): unknown;
}

const TO_ENGINE: ReadonlySet<unknown> = new Set([
  'submit',
  'cancel',
  'probe',
  'status',
  'residency',
  'close',
]);
const FROM_ENGINE: ReadonlySet<unknown> = new Set(['ready', 'failed', 'answer', 'events']);

// Both ends are this program, so a message's kind tells its shape; other libraries' messages have other kinds.
export function isToEngine(message: unknown): message is ToEngine {
  return TO_ENGINE.has(kindOf(message));
}

export function isFromEngine(message: unknown): message is FromEngine {
  return FROM_ENGINE.has(kindOf(message));
}

function kindOf(message: unknown): unknown {
  return typeof message === 'object' && message !== null && 'kind' in message ? message.kind : undefined;
}

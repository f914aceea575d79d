import type { PublicError } from '../kernel/errors.ts';
import type { ModelShape } from '../kernel/model.ts';
import type { PriorityClass } from '../kernel/priority.ts';

/** One adapter version of a request, and how strongly it counts. */
export interface AdapterUse {
  /** Content digest of the version. */
  readonly digest: string;
  /** Finite and non-zero; 1 for a plain single adapter. */
  readonly weight: number;
}

/** How the next token is chosen. */
export interface SamplingParams {
  /** 0 is greedy. */
  readonly temperature: number;
  /** Nucleus mass in (0, 1]; 1 is off. */
  readonly topP: number;
  /** Number of best tokens kept; 0 is off. */
  readonly topK: number;
  /** Share of the best token's probability below which a token is dropped, in [0, 1); 0 is off. */
  readonly minP: number;
  /** Divides positive and multiplies negative logits of tokens already seen (CTRL); 1 is off. */
  readonly repetitionPenalty: number;
  /** Seeds this sequence's own random stream, an unsigned 53-bit integer. */
  readonly seed: number;
}

/** When a sequence ends. */
export interface StopRules {
  readonly maxTokens: number;
  /** Text that ends the sequence; it is not part of the text that is delivered. */
  readonly strings: readonly string[];
  /** Token ids that end the sequence, on top of the backbone's end-of-sequence ids. */
  readonly tokenIds: readonly number[];
  readonly ignoreEos: boolean;
}

/** One request as the engine sees it: no names, no tenants' text beyond token ids. */
export interface SequenceRequest {
  /** Request id (uuid); unique among live sequences. */
  readonly id: string;
  /** Partition of fairness and of every cache; the engine never shares cached state across it. */
  readonly tenantId: string;
  readonly promptIds: readonly number[];
  /** Empty means explicitly the plain backbone. */
  readonly adapters: readonly AdapterUse[];
  readonly sampling: SamplingParams;
  readonly stop: StopRules;
  readonly priority: PriorityClass;
  /** How many of the best alternatives to report per token, 0 to 20. */
  readonly topLogprobs: number;
}

/** A token and how likely the model (before temperature and filters) held it. */
export interface TokenLogprob {
  readonly id: number;
  /** Natural logarithm of the softmax probability. */
  readonly logprob: number;
}

export interface GeneratedToken extends TokenLogprob {
  /** Best alternatives, most likely first; present when asked for. */
  readonly top?: readonly TokenLogprob[];
}

export const FINISH_REASONS = ['stop', 'length', 'cancelled', 'error'] as const;
export type FinishReason = (typeof FINISH_REASONS)[number];

/** What one sequence consumed, measured by the engine that ran it. */
export interface SequenceUsage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Tokens of the prompt whose keys and values the tenant's earlier requests had left. */
  readonly cachedPromptTokens: number;
  readonly queueMs: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
  /** This sequence's share of the time of the steps that it took part in, by its share of their tokens. */
  readonly computeMs: number;
  /** Adapter bytes that had to be loaded for this sequence, had its tenant the engine to itself. */
  readonly bytesLoaded: number;
  /**
   * The adapters and weights that its steps ran with, as the runner was given them; empty for the plain backbone. Null
   * when none of its steps ran, or nobody is left to say.
   */
  readonly executed: readonly AdapterUse[] | null;
}

/**
 * What a sequence reports. `tokens` events come in order; exactly one `end` comes last, whatever happens.
 * Text lags behind tokens while a character is incomplete or a stop string may be forming; it is never changed.
 */
export type SequenceEvent =
  | {
      readonly kind: 'tokens';
      readonly tokens: readonly GeneratedToken[];
      readonly text: string;
      /** As in {@link SequenceUsage}, so that it is known even when the end is never heard of. */
      readonly cachedPromptTokens: number;
    }
  | {
      readonly kind: 'end';
      readonly reason: FinishReason;
      /** Text held back until now. */
      readonly text: string;
      readonly usage: SequenceUsage;
      /** Present when the reason is `error`. */
      readonly error?: PublicError;
    };

/** Fixed facts of a running engine. */
export interface EngineInfo {
  readonly backboneDigest: string;
  readonly shape: ModelShape;
  /** Most tokens (prompt and completion) that one sequence may hold. */
  readonly maxContext: number;
  readonly maxRank: number;
  readonly maxBlend: number;
  readonly eosTokenIds: readonly number[];
}

/** A snapshot for operators. */
export interface EngineStatus {
  readonly running: number;
  readonly waiting: number;
  readonly waitingForAdapter: number;
  readonly steps: number;
  readonly tokensGenerated: number;
  readonly kvBytesUsed: number;
  readonly kvBytesBudget: number;
  readonly hostCacheBytesUsed: number;
  readonly hostCacheBytesBudget: number;
  readonly prefixes: PrefixUse;
  readonly residentAdapters: readonly ResidentAdapter[];
  /** Medians over the most recent steps, in milliseconds. */
  readonly stepMs: {
    readonly total: number;
    readonly model: number;
    readonly adapter: number;
    readonly host: number;
  };
}

/** Reuse of prompt prefixes since the engine started. */
export interface PrefixUse {
  readonly bytesUsed: number;
  /** 0 where prefixes are not kept. */
  readonly bytesBudget: number;
  /** Starts of sequences whose first tokens were in memory. */
  readonly hits: number;
  /** Tokens that these did not have to compute. */
  readonly tokens: number;
}

export interface ResidentAdapter {
  readonly digest: string;
  readonly rank: number;
  readonly bytes: number;
  /** `host`: in the host cache; `bank`: also in the bank that steps read. */
  readonly tier: 'host' | 'bank';
  readonly inUse: number;
}

/** What adapters took of the memory in one clock hour (UTC). Times are in microseconds of the engine's own clock. */
export interface ResidencyHour {
  /** Start of the hour, in milliseconds since the epoch. */
  readonly startMs: number;
  /** How long the engine was there. */
  readonly aliveUs: bigint;
  /** The bytes that adapters could have taken in that time: those of the host cache and of the bank, times the time. */
  readonly capacityByteUs: bigint;
  readonly adapters: readonly AdapterResidency[];
}

/** What one adapter took of the memory in an hour: the integral of its bytes over time, and its loads. */
export interface AdapterResidency {
  readonly digest: string;
  /** In the host cache, those included that wait for room there. */
  readonly hostByteUs: bigint;
  /** In the bank that steps read. */
  readonly bankByteUs: bigint;
  /** Loads that ended in the hour; one that failed is none. */
  readonly loads: bigint;
  readonly bytesLoaded: bigint;
  /** How long its loader took for them. */
  readonly loadUs: bigint;
}

/** The outcome of running one prompt with and without an adapter. */
export interface ProbeResult {
  /** Every logit with the adapter is finite. */
  readonly finite: boolean;
  /** Largest absolute difference between the logits with and without it. */
  readonly maxAbsDifference: number;
}

/** The engine as the rest of the program sees it; implemented in line and over a worker thread. */
export interface Engine {
  readonly info: EngineInfo;
  /**
   * Queues a sequence. Resolves when it is accepted; rejects with `ENGINE_FULL`, `ENGINE_TOO_LARGE`,
   * `PROMPT_TOO_LONG`, `SHUTTING_DOWN` and the like, in which case no event follows.
   */
  submit(request: SequenceRequest, onEvent: (event: SequenceEvent) => void): Promise<void>;
  /** Ends a live sequence with reason `cancelled` within two steps; unknown ids are ignored. */
  cancel(id: string): void;
  /** Runs a canary prompt with one adapter; used as proof of effect before a version becomes ready. */
  probe(digest: string, promptIds: readonly number[]): Promise<ProbeResult>;
  status(): Promise<EngineStatus>;
  /** What adapters took of the memory since the last drain; each stretch of time is told once. */
  drainResidency(): Promise<readonly ResidencyHour[]>;
  /** Stops admitting, lets live sequences end until the deadline, cancels the rest, releases everything. */
  close(options: { readonly graceMs: number }): Promise<void>;
}

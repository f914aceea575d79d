import type { ModelShape } from '../kernel/model.ts';

/**
 * An adapter version in the layout that steps read: fixed-rank pages, scale folded into B. Opaque to the scheduler;
 * made by an {@link AdapterLoader}, copied into the active bank by the runner.
 */
export interface PackedAdapter {
  readonly digest: string;
  /** Largest rank among its modules. */
  readonly rank: number;
  /** Bytes that it occupies in the host cache. */
  readonly bytes: number;
  /** One array per page; every page of a backbone has the same length. */
  readonly pages: readonly Float32Array[];
  /** How long its loader took for it, in milliseconds; absent where the loader does not say. */
  readonly loadMs?: number;
}

/** Reads adapter versions from the store, off the step path, and packs them for the runner. */
export interface AdapterLoader {
  /** Rejects with `ADAPTER_LOAD_FAILED` (missing, damaged) and never resolves to another version's weights. */
  load(digest: string): Promise<PackedAdapter>;
  close(): Promise<void>;
}

/** One sequence's part of a step: `tokens` are appended after the `past` tokens already in its KV rows. */
export interface RowWork {
  /** Handle from {@link StepRunner.open}. */
  readonly row: number;
  readonly tokens: readonly number[];
  /** Tokens of this sequence whose keys and values are cached. */
  readonly past: number;
  readonly adapters: readonly { readonly adapter: PackedAdapter; readonly weight: number }[];
  /** Whether a token is chosen after the last of `tokens`. */
  readonly wantsLogits: boolean;
  /** With `wantsLogits`: whether the best token is enough, so that the logits can stay where they are. */
  readonly greedy: boolean;
}

/** What is known of a row of logits without looking at it. */
export interface LogitSummary {
  /** Index of the largest logit; the lowest of several. */
  readonly best: number;
  /** The largest logit. */
  readonly max: number;
  /** Natural logarithm of the sum of the exponentials of all logits; not finite if a logit is NaN or infinite. */
  readonly logSumExp: number;
  /** The smallest logit. */
  readonly min: number;
}

/** What a step cost, in milliseconds. */
export interface StepTiming {
  /** Inside the model's runs. */
  readonly modelMs: number;
  /** Copying adapters into the bank. */
  readonly adapterMs: number;
  /** Everything else the runner did: building inputs, writing the cache. */
  readonly hostMs: number;
}

export interface StepOutput {
  /**
   * For each row of the work in order: its `[vocab]` logits, valid until the next run; null where none were wanted. A
   * row for which the best token is enough may have its summary instead.
   */
  readonly logits: readonly (Float32Array | LogitSummary | null)[];
  readonly timing: StepTiming;
}

/** Copies keys and values out of rows and into others, where the cache is in host memory. Not during a run. */
export interface KvSnapshots {
  /** Numbers that the keys and values of one token take. */
  readonly floatsPerToken: number;
  /** Copies as many tokens as `into` holds, from the given one on; the row has computed them. */
  save(row: number, fromToken: number, into: Float32Array): void;
  /** Begins an empty row with saved tokens; the blocks follow each other from token 0 on. */
  restore(row: number, blocks: readonly Float32Array[]): void;
}

/**
 * Executes steps; decides nothing about who runs. Mixed work is split into as many model runs as the driver needs
 * (docs/decisions says why), and each sequence gets what it would get alone.
 */
export interface StepRunner {
  readonly shape: ModelShape;
  readonly maxContext: number;
  /** Bytes of KV cache for one sequence that grows to this many tokens (capacity classes included). */
  kvBytes(tokens: number): number;
  readonly kvBudgetBytes: number;
  /** How many pages may be active at once. */
  readonly bankPages: number;
  /** Bytes that one page takes in the bank. */
  readonly bankPageBytes: number;
  /** Changes whenever the bank's pages do. */
  readonly bankGeneration: number;
  /** Reserves KV room for a sequence of at most `maxTokens`; the caller keeps the sum within the budget. */
  open(maxTokens: number): number;
  /** Frees a row; its cache content is wiped. */
  close(row: number): void;
  run(work: readonly RowWork[]): Promise<StepOutput>;
  /** Absent where keys and values stay on a device. */
  readonly snapshots?: KvSnapshots;
  /** How many pages of which adapters are in the bank now, by digest. */
  heldPages(): ReadonlyMap<string, number>;
  dispose(): Promise<void>;
}

/** Turns a sequence's token ids into text, incrementally. */
export interface StreamDecoder {
  /** Text that is final after these tokens: never half a character, never changed later. */
  push(tokenIds: readonly number[]): string;
  /** The rest, at the end of the sequence (incomplete bytes become U+FFFD). */
  end(): string;
}

export type StreamDecoderFactory = () => StreamDecoder;

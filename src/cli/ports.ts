import type { FormatName } from '../exports/format.ts';
import type { SourceName } from '../exports/sources.ts';
import type { Progress, ProgressStep } from '../observability/progress.ts';

/** `runBatch` of src/batch/run-batch.ts: everything in `--input` through the engine, with no server and no database. */
export type RunBatch = (options: RunBatchOptions) => Promise<RunBatchReport>;

export interface RunBatchOptions {
  /** Checkpoint folder; imported into `dataDir` first when it is not yet. */
  readonly backboneDir: string;
  /** JSON Lines to read and to write; paths of adapters inside are relative to the input file's folder. */
  readonly input: string;
  readonly output: string;
  /** Where imported backbones are kept. */
  readonly dataDir: string;
  readonly maxBatch: number;
  readonly bits: 32 | 8 | 4;
  /** 0 lets the runner choose. */
  readonly threads: number;
  readonly progress: Progress;
  /** Told of failures inside the engine, for the log. */
  readonly report: (error: unknown) => void;
  /** Aborted by Ctrl-C: running lines end as cancelled, and the output holds every line that ended before. */
  readonly signal: AbortSignal;
}

export interface RunBatchReport {
  readonly lines: number;
  /** Lines that were answered to their end. */
  readonly succeeded: number;
  /** Lines that Ctrl-C ended early; what they had until then is in the output. */
  readonly cancelled: number;
  /** Lines whose output is an error. */
  readonly failed: number;
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly elapsedMs: number;
}

export const WORKLOADS = ['identical', 'distinct', 'uniform', 'skewed', 'none'] as const;
export type Workload = (typeof WORKLOADS)[number];

/** `benchEngine` of src/bench/engine.ts: a measured load on an engine of its own. */
export type BenchEngine = (options: BenchEngineOptions) => Promise<BenchEngineReport>;

export interface BenchEngineOptions {
  /** A checkpoint folder, `synthetic:30m` or `synthetic:135m`. */
  readonly backbone: string;
  readonly workload: Workload;
  readonly streams: number;
  readonly requests: number;
  readonly promptTokens: number;
  readonly newTokens: number;
  /** Ranks of the adapters, dealt out in turn. */
  readonly ranks: readonly number[];
  readonly bits: 32 | 8 | 4;
  readonly threads: number;
  readonly seed: number;
  /** Where imported and generated backbones are kept. */
  readonly dataDir: string;
  readonly progress: Progress;
  /** Told of failures inside the engine, for the log. */
  readonly report: (error: unknown) => void;
  readonly signal: AbortSignal;
}

/** Percentiles of a duration in milliseconds. */
export interface Percentiles {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
}

/** Decode steps beside the least time that their bytes and operations take on this machine, measured on the spot. */
export interface RooflineReport {
  /** Least time ÷ measured time, over all steps that only decoded. */
  readonly share: number;
  /** Means over those steps. */
  readonly leastMs: number;
  readonly bytes: number;
  readonly flops: number;
  /** Which of the two decides. */
  readonly boundBy: 'bytes' | 'flops';
  /** What the machine reads from memory and multiplies at best, in floats and at the backbone's width. */
  readonly readBytesPerSecond: number;
  readonly floatFlopsPerSecond: number;
  readonly weightFlopsPerSecond: number;
}

export interface BenchEngineReport {
  readonly backbone: string;
  readonly workload: Workload;
  readonly ranks: readonly number[];
  readonly streams: number;
  readonly requests: number;
  readonly outputTokens: number;
  readonly elapsedMs: number;
  /** Output tokens per second from the first submission to the last end. */
  readonly tokensPerSecond: number;
  /** Output tokens per second over the steps that only decoded. */
  readonly decodeTokensPerSecond: number;
  readonly ttftMs: Percentiles;
  readonly interTokenMs: Percentiles;
  readonly stepMs: Percentiles;
  /** Shares of the step time; they add up to 1. */
  readonly share: { readonly model: number; readonly adapter: number; readonly host: number };
  /** Null when no step only decoded. */
  readonly roofline: RooflineReport | null;
  /** Of the `distinct` workload: throughput over that of `identical`, were a step nothing but reading bytes. */
  readonly byteBound: number | null;
}

/** What `export` offers; named here so that `--help` loads nothing that writes files. */
export const EXPORT_SOURCES = [
  'usage',
  'charges',
  'ledger',
  'invoices',
  'credit_notes',
  'payouts',
] as const satisfies readonly SourceName[];
export const EXPORT_FORMATS = ['csv', 'jsonl', 'parquet'] as const satisfies readonly FormatName[];

/** Follows a byte count, as imports and uploads report it. */
export function byteProgress(step: ProgressStep): (done: number, total: number) => void {
  return (done, total) => step.update(done, total, 'bytes');
}

/** `pushAdapter` of src/adapter/push.ts: opens an upload, sends the files by tus, finalises, waits when asked. */
export type PushAdapter = (options: PushAdapterOptions) => Promise<PushAdapterResult>;

interface PushAdapterOptions {
  readonly dir: string;
  readonly name: string;
  /** GraphQL URL. */
  readonly url: string;
  readonly key: string;
  /** Whether to follow the version until it is READY or REJECTED. */
  readonly wait: boolean;
  /** Global id of the backbone that the adapter belongs to; without it, the one that is served. */
  readonly backbone?: string;
  /** A repeated push with the same key goes on where the first one was interrupted. */
  readonly idempotencyKey?: string;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

interface PushAdapterResult {
  readonly versionId: string;
  readonly number: number;
  readonly state: 'UPLOADING' | 'VALIDATING' | 'READY' | 'REJECTED' | 'RETIRED';
  readonly rejection: { readonly code: string; readonly message: string; readonly fix: string } | null;
}

import type { InferenceSession, Tensor } from 'onnxruntime-node';
import type { Clock } from '../../kernel/clock.ts';
import { invariant } from '../../kernel/errors.ts';
import { GRAPH_OUTPUTS, pageLayout } from '../../kernel/graph.ts';
import type { ModelShape } from '../../kernel/model.ts';
import type { KvSnapshots, LogitSummary, PackedAdapter, RowWork, StepOutput, StepRunner } from '../runner.ts';
import { AdapterBank } from './bank.ts';
import { type Batch, splitIntoBatches } from './batches.ts';
import { FeedBuilder } from './feeds.ts';
import { KvCache } from './kv.ts';
import { type GraphPaths, type SessionSettings, StepSessions } from './sessions.ts';

/** Options of {@link createOnnxRunner}. */
export interface OnnxRunnerOptions extends SessionSettings {
  readonly graphs: GraphPaths;
  readonly shape: ModelShape;
  readonly maxContext: number;
  readonly kvBudgetBytes: number;
  readonly pageRank: number;
  /** Adapter pages that may be active at once. */
  readonly bankPages: number;
}

/** Runs steps on ONNX Runtime. */
export async function createOnnxRunner(
  options: OnnxRunnerOptions,
  deps: { clock: Clock },
): Promise<StepRunner> {
  const sessions = await StepSessions.open(options.graphs, options);
  return new OnnxRunner(options, deps.clock, sessions);
}

class OnnxRunner implements StepRunner {
  readonly shape: ModelShape;
  readonly maxContext: number;
  readonly kvBudgetBytes: number;
  readonly bankPages: number;
  readonly bankPageBytes: number;
  readonly snapshots: KvSnapshots;
  readonly #sessions: StepSessions;
  readonly #clock: Clock;
  readonly #cache: KvCache;
  readonly #bank: AdapterBank;
  readonly #feeds: FeedBuilder;

  constructor(options: OnnxRunnerOptions, clock: Clock, sessions: StepSessions) {
    this.shape = options.shape;
    this.maxContext = options.maxContext;
    this.kvBudgetBytes = options.kvBudgetBytes;
    this.bankPages = options.bankPages;
    this.bankPageBytes =
      pageLayout(options.shape, options.pageRank).elements * Float32Array.BYTES_PER_ELEMENT;
    this.#clock = clock;
    this.#sessions = sessions;
    this.#cache = new KvCache(options.shape, options.maxContext);
    this.snapshots = this.#cache;
    this.#bank = new AdapterBank(options.shape, options.pageRank, options.bankPages);
    this.#feeds = new FeedBuilder(options.shape, this.#bank, (form) => sessions.has(form));
  }

  kvBytes(tokens: number): number {
    return this.#cache.bytes(tokens);
  }

  open(maxTokens: number): number {
    invariant(maxTokens <= this.maxContext, 'a row fits the context');
    return this.#cache.open();
  }

  close(row: number): void {
    this.#cache.close(row);
  }

  get bankGeneration(): number {
    return this.#bank.generation;
  }

  heldPages(): ReadonlyMap<string, number> {
    return this.#bank.heldPages();
  }

  async dispose(): Promise<void> {
    await this.#sessions.release();
  }

  async run(work: readonly RowWork[]): Promise<StepOutput> {
    const started = this.#clock.monotonicMs();
    const adapters = new Map<string, PackedAdapter>();
    for (const row of work) {
      for (const { adapter } of row.adapters) adapters.set(adapter.digest, adapter);
    }
    this.#bank.activate([...adapters.values()]);
    const adapterMs = this.#clock.monotonicMs() - started;
    for (const row of work) {
      invariant(this.#cache.used(row.row) === row.past, `row ${row.row} holds the past that its work names`);
      invariant(row.tokens.length > 0, 'a row of a step has a token');
      this.#cache.reserve(row.row, row.past + row.tokens.length);
    }
    const logits: (Float32Array | LogitSummary | null)[] = work.map(() => null);
    let modelMs = 0;
    for (const batch of splitIntoBatches(work, this.#cache, this.#bank)) {
      modelMs += await this.#runBatch(batch, logits);
    }
    const hostMs = this.#clock.monotonicMs() - started - adapterMs - modelMs;
    return { logits, timing: { modelMs, adapterMs, hostMs } };
  }

  /** Runs one batch, writes its keys and values into the cache and what rows chose from into `logits`. */
  async #runBatch(batch: Batch, logits: (Float32Array | LogitSummary | null)[]): Promise<number> {
    const { form, feeds, lanes } = this.#feeds.build(batch);
    const started = this.#clock.monotonicMs();
    const outputs = await this.#sessions.run(form, feeds);
    const modelMs = this.#clock.monotonicMs() - started;
    const newKv = floats(outputs[GRAPH_OUTPUTS.newKv]);
    batch.rows.forEach((row, index) => {
      const lane = {
        index: lanes.laneOf[index] ?? 0,
        rows: lanes.rows,
        width: lanes.width,
        tokens: row.tokens.length,
      };
      this.#cache.write(row.row, newKv, lane);
    });
    this.#takeLogits(batch, outputs, logits);
    return modelMs;
  }

  #takeLogits(
    batch: Batch,
    outputs: InferenceSession.ReturnType,
    logits: (Float32Array | LogitSummary | null)[],
  ): void {
    const flat = floats(outputs[GRAPH_OUTPUTS.logits]);
    const summary = floats(outputs[GRAPH_OUTPUTS.summary]);
    const best = outputs[GRAPH_OUTPUTS.best]?.data;
    invariant(best instanceof BigInt64Array, 'the graph returns the best tokens as int64');
    const { vocabSize } = this.shape;
    let full = 0;
    batch.rows
      .filter((row) => row.wantsLogits)
      .forEach((row, index) => {
        if (row.greedy) {
          const [max = Number.NaN, logSumExp = Number.NaN, min = Number.NaN] = summary.subarray(3 * index);
          logits[row.index] = { best: Number(best[index]), max, logSumExp, min };
        } else {
          logits[row.index] = flat.subarray(full * vocabSize, (full + 1) * vocabSize);
          full += 1;
        }
      });
  }
}

function floats(tensor: Tensor | undefined): Float32Array {
  invariant(tensor?.data instanceof Float32Array, 'the graph returns float32');
  return tensor.data;
}

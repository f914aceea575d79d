import { InferenceSession, Tensor } from 'onnxruntime-node';
import type { Clock } from '../../kernel/clock.ts';
import { invariant } from '../../kernel/errors.ts';
import { GRAPH_INPUTS, GRAPH_OUTPUTS, pastName } from '../../kernel/graph.ts';
import type { ModelShape } from '../../kernel/model.ts';
import type { PackedAdapter, RowWork, StepOutput, StepRunner } from '../runner.ts';
import { AdapterBank } from './bank.ts';
import { type Batch, groupByPage, splitIntoBatches } from './batches.ts';
import { KvCache } from './kv.ts';

/** Options of {@link createOnnxRunner}. */
export interface OnnxRunnerOptions {
  /** Path of the `.onnx` file; its weights stand beside it. */
  readonly modelPath: string;
  readonly shape: ModelShape;
  readonly maxContext: number;
  readonly kvBudgetBytes: number;
  readonly pageRank: number;
  /** Adapter pages that may be active at once. */
  readonly bankPages: number;
  readonly intraOpThreads: number;
  readonly executionProviders: readonly string[];
}

/** Runs steps on ONNX Runtime. */
export async function createOnnxRunner(
  options: OnnxRunnerOptions,
  deps: { clock: Clock },
): Promise<StepRunner> {
  const session = await InferenceSession.create(options.modelPath, {
    executionProviders: [...options.executionProviders],
    intraOpNumThreads: options.intraOpThreads,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all',
    // Shapes change from step to step, so a memory plan made for one step would never fit the next.
    enableMemPattern: false,
    logSeverityLevel: 3,
  });
  return new OnnxRunner(options, deps.clock, session);
}

class OnnxRunner implements StepRunner {
  readonly shape: ModelShape;
  readonly maxContext: number;
  readonly kvBudgetBytes: number;
  readonly bankPages: number;
  readonly #session: InferenceSession;
  readonly #clock: Clock;
  readonly #cache: KvCache;
  readonly #bank: AdapterBank;

  constructor(options: OnnxRunnerOptions, clock: Clock, session: InferenceSession) {
    this.shape = options.shape;
    this.maxContext = options.maxContext;
    this.kvBudgetBytes = options.kvBudgetBytes;
    this.bankPages = options.bankPages;
    this.#clock = clock;
    this.#session = session;
    this.#cache = new KvCache(options.shape, options.maxContext);
    this.#bank = new AdapterBank(options.shape, options.pageRank, options.bankPages);
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

  bankDigests(): readonly string[] {
    return this.#bank.digests();
  }

  async dispose(): Promise<void> {
    await this.#session.release();
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
    const logits: (Float32Array | null)[] = work.map(() => null);
    let modelMs = 0;
    for (const batch of splitIntoBatches(work, this.#cache, this.#bank)) {
      modelMs += await this.#runBatch(batch, logits);
    }
    const hostMs = this.#clock.monotonicMs() - started - adapterMs - modelMs;
    return { logits, timing: { modelMs, adapterMs, hostMs } };
  }

  /** Runs one batch, writes its keys and values into the cache and its logits into `logits`. */
  async #runBatch(batch: Batch, logits: (Float32Array | null)[]): Promise<number> {
    const lanes = laneLayout(batch);
    const wanted = batch.rows.filter((row) => row.wantsLogits);
    const feeds = {
      ...this.#tokenInputs(batch, lanes),
      ...this.#adapterInputs(batch),
      ...this.#cacheInputs(batch),
    };
    const started = this.#clock.monotonicMs();
    const outputs = await this.#session.run(feeds);
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
    const flat = floats(outputs[GRAPH_OUTPUTS.logits]);
    wanted.forEach((row, index) => {
      logits[row.index] = flat.subarray(index * this.shape.vocabSize, (index + 1) * this.shape.vocabSize);
    });
    return modelMs;
  }

  #tokenInputs(batch: Batch, lanes: LaneLayout): Record<string, Tensor> {
    const ids: number[] = [];
    const positions: number[] = [];
    const wanted: number[] = [];
    for (const row of batch.rows) {
      row.tokens.forEach((token, i) => {
        ids.push(token);
        positions.push(row.past + i);
      });
      if (row.wantsLogits) wanted.push(ids.length - 1);
    }
    const capacity = batch.cache?.kvClass.capacity ?? 0;
    const keys = capacity + lanes.width;
    const { heads, kvHeads } = this.shape;
    const perKvHead = heads / kvHeads;
    return {
      [GRAPH_INPUTS.tokenIds]: int64(ids, [ids.length]),
      [GRAPH_INPUTS.positions]: int64(positions, [1, positions.length]),
      [GRAPH_INPUTS.laneIndex]: int64(lanes.laneIndex, [lanes.rows, lanes.width]),
      [GRAPH_INPUTS.unlaneIndex]: int64(lanes.unlaneIndex, [lanes.unlaneIndex.length]),
      [GRAPH_INPUTS.mask]: new Tensor('float32', attentionMask(batch, lanes), [
        lanes.rows,
        1,
        1,
        lanes.width,
        keys,
      ]),
      [GRAPH_INPUTS.keySplit]: int64([capacity, lanes.width], [2]),
      [GRAPH_INPUTS.scoreShape]: int64([lanes.rows, kvHeads, perKvHead, lanes.width, keys], [5]),
      [GRAPH_INPUTS.scoreMatrixShape]: int64([lanes.rows, kvHeads, perKvHead * lanes.width, keys], [4]),
      [GRAPH_INPUTS.logitIndex]: int64(wanted, [wanted.length]),
    };
  }

  #adapterInputs(batch: Batch): Record<string, Tensor> {
    const grouping = groupByPage(batch.rows, this.#bank);
    const tokens =
      grouping.pagesPerToken === 0 ? tokenCount(batch) : grouping.weights.length / grouping.pagesPerToken;
    const groups = grouping.to - grouping.from;
    const feeds: Record<string, Tensor> = {
      [GRAPH_INPUTS.groupIndex]: new Tensor('int64', grouping.groupIndex, [groups, grouping.width]),
      [GRAPH_INPUTS.ungroupIndex]: new Tensor('int64', grouping.ungroupIndex, [
        tokens,
        grouping.pagesPerToken,
      ]),
      [GRAPH_INPUTS.pageWeight]: new Tensor('float32', grouping.weights, [tokens, 1, grouping.pagesPerToken]),
    };
    this.#bank.tensors.forEach((tensor, index) => {
      const size = tensor.rows * tensor.columns;
      const view = this.#bank.array(index).subarray(grouping.from * size, grouping.to * size);
      feeds[tensor.name] = new Tensor('float32', view, [groups, tensor.rows, tensor.columns]);
    });
    return feeds;
  }

  #cacheInputs(batch: Batch): Record<string, Tensor> {
    const { kvHeads, headDim, layers } = this.shape;
    const feeds: Record<string, Tensor> = {};
    const { cache } = batch;
    const rows = cache === null ? batch.rows.length : cache.to - cache.from;
    const capacity = cache?.kvClass.capacity ?? 0;
    for (let layer = 0; layer < layers; layer++) {
      (['key', 'value'] as const).forEach((kind, offset) => {
        const array = cache?.kvClass.arrays[2 * layer + offset];
        const stride = cache?.kvClass.stride ?? 0;
        const view =
          array === undefined || cache === null
            ? new Float32Array(0)
            : array.subarray(cache.from * stride, cache.to * stride);
        feeds[pastName(layer, kind)] = new Tensor('float32', view, [rows, kvHeads, capacity, headDim]);
      });
    }
    return feeds;
  }
}

/** Where packed tokens stand in the lanes of attention. */
interface LaneLayout {
  /** B. */
  readonly rows: number;
  /** S. */
  readonly width: number;
  /** Lane of every row of the batch. */
  readonly laneOf: readonly number[];
  readonly laneIndex: readonly number[];
  readonly unlaneIndex: readonly number[];
}

/** With a cache a row's lane is its slot in the range; lanes of slots that do not take part repeat token 0, unread. */
function laneLayout(batch: Batch): LaneLayout {
  const width = batch.rows.reduce((max, row) => Math.max(max, row.tokens.length), 0);
  const rows = batch.cache === null ? batch.rows.length : batch.cache.to - batch.cache.from;
  const laneIndex = new Array<number>(rows * width).fill(0);
  const unlaneIndex: number[] = [];
  const laneOf: number[] = [];
  let token = 0;
  batch.rows.forEach((row, index) => {
    const slot = batch.cache === null ? index : batch.cache.kvClass.slots.indexOf(row.row) - batch.cache.from;
    laneOf.push(slot);
    for (let s = 0; s < width; s++) {
      // Padding repeats the row's own last token, so nothing of another row can leak into its sums.
      laneIndex[slot * width + s] = token + Math.min(s, row.tokens.length - 1);
    }
    row.tokens.forEach((_, s) => {
      unlaneIndex.push(slot * width + s);
    });
    token += row.tokens.length;
  });
  return { rows, width, laneOf, laneIndex, unlaneIndex };
}

/** `[B, S, T + S]`: a token sees its row's past and the tokens of its row up to itself. */
function attentionMask(batch: Batch, lanes: LaneLayout): Float32Array {
  const capacity = batch.cache?.kvClass.capacity ?? 0;
  const keys = capacity + lanes.width;
  const mask = new Float32Array(lanes.rows * lanes.width * keys).fill(Number.NEGATIVE_INFINITY);
  const pastOf = new Map(batch.rows.map((row, index) => [lanes.laneOf[index], row.past]));
  for (let lane = 0; lane < lanes.rows; lane++) {
    const past = pastOf.get(lane) ?? 0;
    for (let s = 0; s < lanes.width; s++) {
      const row = (lane * lanes.width + s) * keys;
      mask.fill(0, row, row + past);
      mask.fill(0, row + capacity, row + capacity + s + 1);
    }
  }
  return mask;
}

function tokenCount(batch: Batch): number {
  return batch.rows.reduce((sum, row) => sum + row.tokens.length, 0);
}

function int64(values: readonly number[], dims: readonly number[]): Tensor {
  return new Tensor('int64', BigInt64Array.from(values, BigInt), dims);
}

function floats(tensor: Tensor | undefined): Float32Array {
  invariant(tensor?.data instanceof Float32Array, 'the graph returns float32');
  return tensor.data;
}

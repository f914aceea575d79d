import { InferenceSession } from 'onnxruntime-node';
import type { Clock } from '../../../kernel/clock.ts';
import { DEVICE_LOGITS, nextName, poolNames } from '../../../kernel/device.ts';
import { invariant } from '../../../kernel/errors.ts';
import { type BankTensor, pageLayout } from '../../../kernel/graph.ts';
import type { ModelShape } from '../../../kernel/model.ts';
import type { PackedAdapter, RowWork, StepOutput, StepRunner } from '../../runner.ts';
import { DeviceMemory } from './device-memory.ts';
import { pageFeeds, tokenFeeds } from './feeds.ts';
import { PageSlots } from './page-slots.ts';
import { BLOCK_TOKENS, TokenPool } from './token-pool.ts';

/** Options of {@link createDeviceRunner}. */
export interface DeviceRunnerOptions {
  /** Paths of the graphs that an import wrote for devices. */
  readonly graphs: { readonly step: string; readonly pool: string; readonly bank: string };
  readonly shape: ModelShape;
  readonly maxContext: number;
  readonly kvBudgetBytes: number;
  readonly pageRank: number;
  /** Adapter pages that may be active at once. */
  readonly bankPages: number;
  readonly executionProviders: readonly string[];
}

/** A runner whose weights, keys, values and adapter pages stay on a device between steps. */
export interface DeviceRunner extends StepRunner {
  /** Where each tensor of keys or values is; `gpu-buffer` all of them, once a step has run. */
  kvLocations(): readonly string[];
  /** Where each tensor of adapter pages is. */
  bankLocations(): readonly string[];
}

/** Opens a backbone on a device. */
export async function createDeviceRunner(
  options: DeviceRunnerOptions,
  deps: { readonly clock: Clock },
): Promise<DeviceRunner> {
  const { shape, graphs } = options;
  const pools = poolNames(shape);
  const { tensors } = pageLayout(shape, options.pageRank);
  const open = (path: string, onDevice: readonly string[], onHost: readonly string[]) =>
    InferenceSession.create(path, {
      executionProviders: [...options.executionProviders],
      preferredOutputLocation: {
        ...Object.fromEntries(onDevice.map((name) => [nextName(name), 'gpu-buffer' as const])),
        ...Object.fromEntries(onHost.map((name) => [name, 'cpu' as const])),
      },
      enableMemPattern: false,
      logSeverityLevel: 3,
    });
  const step = await open(graphs.step, pools, [DEVICE_LOGITS]);
  const width = shape.kvHeads * shape.headDim;
  const cache = new DeviceMemory(
    await open(graphs.pool, pools, []),
    pools.map((name) => ({ name, dims: [width] })),
  );
  const bankNames = tensors.map(({ name }) => name);
  const bank = new DeviceMemory(
    await open(graphs.bank, bankNames, []),
    tensors.map(({ name, rows, columns }) => ({ name, dims: [rows, columns] })),
  );
  return new WebGpuRunner(options, { clock: deps.clock, step, cache, bank, tensors });
}

interface Parts {
  readonly clock: Clock;
  readonly step: InferenceSession;
  readonly cache: DeviceMemory;
  readonly bank: DeviceMemory;
  readonly tensors: readonly BankTensor[];
}

class WebGpuRunner implements DeviceRunner {
  readonly shape: ModelShape;
  readonly maxContext: number;
  readonly kvBudgetBytes: number;
  readonly bankPages: number;
  readonly bankPageBytes: number;
  readonly #parts: Parts;
  readonly #pool = new TokenPool();
  readonly #slots: PageSlots;

  constructor(options: DeviceRunnerOptions, parts: Parts) {
    this.shape = options.shape;
    this.maxContext = options.maxContext;
    this.kvBudgetBytes = options.kvBudgetBytes;
    this.bankPages = options.bankPages;
    this.bankPageBytes =
      pageLayout(options.shape, options.pageRank).elements * Float32Array.BYTES_PER_ELEMENT;
    this.#parts = parts;
    this.#slots = new PageSlots(options.bankPages);
  }

  kvBytes(tokens: number): number {
    const { layers, kvHeads, headDim } = this.shape;
    const perToken = 2 * layers * kvHeads * headDim * Float32Array.BYTES_PER_ELEMENT;
    return Math.ceil(tokens / BLOCK_TOKENS) * BLOCK_TOKENS * perToken;
  }

  open(maxTokens: number): number {
    invariant(maxTokens <= this.maxContext, 'a row fits the context');
    return this.#pool.open();
  }

  close(row: number): void {
    this.#pool.close(row);
  }

  get bankGeneration(): number {
    return this.#slots.generation;
  }

  heldPages(): ReadonlyMap<string, number> {
    return this.#slots.heldPages();
  }

  kvLocations(): readonly string[] {
    return this.#parts.cache.locations;
  }

  bankLocations(): readonly string[] {
    return this.#parts.bank.locations;
  }

  async dispose(): Promise<void> {
    await this.#parts.cache.dispose();
    await this.#parts.bank.dispose();
    await this.#parts.step.release();
  }

  async run(work: readonly RowWork[]): Promise<StepOutput> {
    const { clock, cache } = this.#parts;
    const started = clock.monotonicMs();
    await this.#activate(work);
    const adapterMs = clock.monotonicMs() - started;
    for (const { row, past, tokens } of work) {
      invariant(this.#pool.used(row) === past, `row ${row} holds the past that its work names`);
      invariant(tokens.length > 0, 'a row of a step has a token');
      this.#pool.reserve(row, past + tokens.length);
    }
    await cache.grow(this.#pool.capacity);
    const logits = new Map<RowWork, Float32Array>();
    let modelMs = 0;
    // Chunks apart from single tokens, which they would pad to their own length.
    const chunks = work.filter(({ tokens }) => tokens.length > 1);
    const single = work.filter(({ tokens }) => tokens.length === 1);
    for (const rows of [chunks, single]) {
      if (rows.length > 0) modelMs += await this.#runRows(rows, logits);
    }
    const hostMs = clock.monotonicMs() - started - adapterMs - modelMs;
    return {
      logits: work.map((row) => logits.get(row) ?? null),
      timing: { modelMs, adapterMs, hostMs },
    };
  }

  /** Brings the adapters of a step onto the device. */
  async #activate(work: readonly RowWork[]): Promise<void> {
    const adapters = new Map<string, PackedAdapter>();
    for (const row of work) {
      for (const { adapter } of row.adapters) adapters.set(adapter.digest, adapter);
    }
    const change = this.#slots.activate([...adapters.values()]);
    try {
      await this.#parts.bank.load(change, this.#parts.tensors);
    } catch (error) {
      this.#slots.forget(change.writes);
      throw error;
    }
  }

  /** Runs rows together; their keys and values are on the device afterwards, their logits in `logits`. */
  async #runRows(rows: readonly RowWork[], logits: Map<RowWork, Float32Array>): Promise<number> {
    const { clock, step, cache, bank } = this.#parts;
    const feeds = {
      ...tokenFeeds(rows, this.shape, this.#pool, this.#pool.dirtyPlaces()),
      ...pageFeeds(rows, this.#slots),
      ...cache.feeds,
      ...bank.feeds,
    };
    const started = clock.monotonicMs();
    const outputs = await step.run(feeds);
    const modelMs = clock.monotonicMs() - started;
    cache.replace(outputs);
    this.#pool.wiped();
    for (const { row, past, tokens } of rows) this.#pool.written(row, past + tokens.length);
    const flat = outputs[DEVICE_LOGITS]?.data;
    invariant(flat instanceof Float32Array, 'the graph returns float32');
    const { vocabSize } = this.shape;
    rows
      .filter(({ wantsLogits }) => wantsLogits)
      .forEach((row, index) => {
        logits.set(row, flat.subarray(index * vocabSize, (index + 1) * vocabSize));
      });
    return modelMs;
  }
}

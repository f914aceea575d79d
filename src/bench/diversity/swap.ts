import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DEFAULT_ADAPTER_LIMITS } from '../../adapter/limits.ts';
import { loadLoraWeights } from '../../adapter/loader.ts';
import { FsBlobStore } from '../../adapter/store/fs.ts';
import type { ImportedBackbone } from '../../backbone/import.ts';
import { openStoreEngine, type StoreEngine, submitGreedy } from '../store-engine.ts';
import type { SyntheticStore } from '../synthetic-store.ts';
import { type MergeBase, mergedTensors, openMergeBase, writeMerged } from './merge.ts';
import type { DiversityRequest, Served } from './requests.ts';

/** How long the parts of one swap took, in milliseconds. */
export interface SwapTimes {
  readonly readMs: number;
  readonly mergeMs: number;
  readonly writeMs: number;
  readonly openMs: number;
}

export interface SwapServerOptions {
  readonly backbone: ImportedBackbone;
  readonly checkpointDir: string;
  readonly store: SyntheticStore;
  readonly maxContext: number;
  readonly rows: number;
}

interface Waiting {
  readonly request: DiversityRequest;
  readonly sentMs: number;
  readonly resolve: (served: Served) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * The alternative without a graph for adapters: one process whose weights have one adapter merged in. Requests wait
 * until those that run have ended; then the adapter of the oldest is merged, and everybody who waits for it runs in one
 * batch. While nobody waits for another adapter, new requests for the same one join at once.
 */
export class SwapServer {
  readonly #options: SwapServerOptions;
  readonly #base: MergeBase;
  readonly #folder: string;
  readonly #waiting: Waiting[] = [];
  readonly #swaps: SwapTimes[] = [];
  readonly #batches: number[] = [];
  #current: { readonly adapter: number; readonly open: StoreEngine } | null = null;
  #running = 0;
  #working = false;

  private constructor(options: SwapServerOptions, base: MergeBase, folder: string) {
    this.#options = options;
    this.#base = base;
    this.#folder = folder;
  }

  static async create(options: SwapServerOptions): Promise<SwapServer> {
    const base = await openMergeBase(options.checkpointDir);
    return new SwapServer(options, base, await mkdtemp(join(tmpdir(), 'patchbay-swap-')));
  }

  get swaps(): readonly SwapTimes[] {
    return this.#swaps;
  }

  /** How many requests each batch began with. */
  get batches(): readonly number[] {
    return this.#batches;
  }

  /** Forgets the swaps so far, which warmed up. */
  clear(): void {
    this.#swaps.length = 0;
    this.#batches.length = 0;
  }

  serve(request: DiversityRequest): Promise<Served> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ request, sentMs: performance.now(), resolve, reject });
      // Requests of the same moment come before the choice, so that they can share a batch.
      setImmediate(() => void this.#work());
    });
  }

  async close(): Promise<void> {
    await this.#current?.open.engine.close({ graceMs: 0 });
    await this.#base.checkpoint.close();
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #work(): Promise<void> {
    if (this.#working) return;
    const oldest = this.#waiting[0]?.request.adapter;
    if (oldest === undefined) return;
    const same = this.#current?.adapter === oldest;
    if (this.#running > 0 && !(same && this.#waiting.every(({ request }) => request.adapter === oldest)))
      return;
    this.#working = true;
    try {
      const joining = this.#running > 0;
      const open = same && this.#current !== null ? this.#current.open : await this.#swap(oldest);
      const batch = this.#take(oldest);
      if (!joining) this.#batches.push(batch.length);
      for (const one of batch) void this.#run(open, one);
    } catch (error) {
      for (const { reject } of this.#waiting.splice(0)) reject(error);
    } finally {
      this.#working = false;
    }
  }

  #take(adapter: number): Waiting[] {
    const batch = this.#waiting.filter(({ request }) => request.adapter === adapter);
    const rest = this.#waiting.filter(({ request }) => request.adapter !== adapter);
    this.#waiting.splice(0, this.#waiting.length, ...rest);
    return batch;
  }

  async #run({ engine }: StoreEngine, { request, sentMs, resolve, reject }: Waiting): Promise<void> {
    this.#running += 1;
    try {
      const { promptIds, newTokens } = request;
      resolve(await submitGreedy(engine, { digest: null, promptIds, newTokens, sentMs }));
    } catch (error) {
      reject(error);
    } finally {
      this.#running -= 1;
      setImmediate(() => void this.#work());
    }
  }

  async #swap(adapter: number): Promise<StoreEngine> {
    const { backbone, store, maxContext, rows } = this.#options;
    const { shape, digest: backboneDigest } = backbone.manifest;
    const times: number[] = [performance.now()];
    const lap = (): number => times.push(performance.now());
    const context = { shape, backboneDigest, limits: DEFAULT_ADAPTER_LIMITS };
    const weights = await loadLoraWeights(
      new FsBlobStore({ root: store.root }),
      store.digests[adapter] ?? '',
      context,
    );
    lap();
    const merged = mergedTensors(this.#base, weights);
    lap();
    // A folder each: the runtime may have mapped the file of the session that is still open.
    const dir = join(this.#folder, String(this.#swaps.length));
    const written = await writeMerged(backbone, this.#base, merged, dir);
    lap();
    await this.#current?.open.engine.close({ graceMs: 0 });
    const open = await openStoreEngine({
      backbone: written,
      maxContext,
      rows,
      cacheBytes: 1,
      storeRoot: null,
    });
    lap();
    await rm(dir, { recursive: true, force: true });
    this.#current = { adapter, open };
    const [t0 = 0, t1 = 0, t2 = 0, t3 = 0, t4 = 0] = times;
    this.#swaps.push({ readMs: t1 - t0, mergeMs: t2 - t1, writeMs: t3 - t2, openMs: t4 - t3 });
    return open;
  }
}

import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DEFAULT_ADAPTER_LIMITS } from '../adapter/limits.ts';
import type { ImportedBackbone } from '../backbone/import.ts';
import { importOnce } from '../backbone/imported.ts';
import { createInlineEngine } from '../engine/loop.ts';
import type { Engine } from '../engine/port.ts';
import type { AdapterLoader, StepRunner } from '../engine/runner.ts';
import { systemClock } from '../kernel/clock.ts';
import { newId } from '../kernel/ids.ts';
import type { PriorityClass } from '../kernel/priority.ts';
import { PAGE_RANK } from '../serving/layout.ts';
import { createThreadLoader } from '../serving/loader-thread.ts';
import { openRunner } from '../serving/open-runner.ts';
import { syntheticCheckpoint } from './synthetic.ts';

/** Bounds that are no subject of these benches. */
const KV_BYTES = 2 ** 30;
const BANK_BYTES = 2 ** 30;
const MAX_QUEUE = 100_000;

/** Where the benches keep imported backbones. */
export const BENCH_BACKBONES = join(tmpdir(), 'patchbay-bench-backbones');

/** A synthetic backbone in full precision, imported once. */
export async function syntheticBackbone(name: string): Promise<ImportedBackbone> {
  return importOnce({ dir: await syntheticCheckpoint(name), root: BENCH_BACKBONES, bits: 32 });
}

/** What the loader of a {@link StoreEngine} has done. */
export interface LoadLog {
  count: number;
  /** Bytes and pages of everything that was loaded, packed. */
  bytes: number;
  pages: number;
  /** Most recent load of each digest, from asking for it to having it, in milliseconds. */
  readonly lastMs: Map<string, number>;
  /** Time that each load took in the loader's thread, without waiting for its turn. */
  readonly threadMs: number[];
}

export interface StoreEngineOptions {
  readonly backbone: ImportedBackbone;
  readonly maxContext: number;
  /** Most rows of a step. */
  readonly rows: number;
  /** Bound of the host cache of adapters. */
  readonly cacheBytes: number;
  /** Threads of the model's runtime; 0 lets it choose. */
  readonly threads?: number;
  /** Where {@link syntheticStore} keeps its adapters; null where no request names one. */
  readonly storeRoot: string | null;
}

/** An engine as the server has it, with its loader thread on a store on disk. */
export interface StoreEngine {
  readonly engine: Engine;
  readonly loads: LoadLog;
}

/** Opens an engine on a backbone and a store of adapters. It refuses nothing for being late. */
export async function openStoreEngine(options: StoreEngineOptions): Promise<StoreEngine> {
  const { backbone } = options;
  const { manifest } = backbone;
  const loads: LoadLog = { count: 0, bytes: 0, pages: 0, lastMs: new Map(), threadMs: [] };
  const runner = await openPlainRunner(backbone, options);
  const engine = createInlineEngine(
    { maxBatch: options.rows, maxQueue: MAX_QUEUE, hostCacheBytes: options.cacheBytes, maxWaitPercent: 0 },
    {
      runner,
      loader:
        options.storeRoot === null ? noLoader : watched(threadLoader(backbone, options.storeRoot), loads),
      // Text is of no interest here; tokens are counted.
      decoderFactory: () => ({ push: () => '', end: () => '' }),
      clock: systemClock,
      backboneDigest: manifest.digest,
      eosTokenIds: manifest.eosTokenIds,
      report: (error) => process.stderr.write(`${String(error)}\n`),
    },
  );
  return { engine, loads };
}

/** The runner of an imported backbone on the processor. */
export function openPlainRunner(
  { dir, manifest }: ImportedBackbone,
  { maxContext, threads = 0 }: Pick<StoreEngineOptions, 'maxContext' | 'threads'>,
): Promise<StepRunner> {
  const settings = {
    maxContext,
    kvBytes: KV_BYTES,
    bankBytes: BANK_BYTES,
    intraOpThreads: threads,
    executionProviders: ['cpu'],
  };
  return openRunner(dir, manifest, settings, { clock: systemClock });
}

const noLoader: AdapterLoader = {
  load: (digest) => Promise.reject(new Error(`There is no store to load ${digest} from.`)),
  close: async () => {},
};

function threadLoader({ manifest }: ImportedBackbone, storeRoot: string): AdapterLoader {
  return createThreadLoader({
    storeRoot,
    shape: manifest.shape,
    backboneDigest: manifest.digest,
    limits: DEFAULT_ADAPTER_LIMITS,
    pageRank: PAGE_RANK,
    log: { level: 'error', format: 'json' },
  });
}

function watched(inner: AdapterLoader, log: LoadLog): AdapterLoader {
  return {
    close: () => inner.close(),
    async load(digest) {
      const started = performance.now();
      const adapter = await inner.load(digest);
      log.lastMs.set(digest, performance.now() - started);
      if (adapter.loadMs !== undefined) log.threadMs.push(adapter.loadMs);
      log.count += 1;
      log.bytes += adapter.bytes;
      log.pages += adapter.pages.length;
      return adapter;
    },
  };
}

export interface GreedyRequest {
  /** Null asks for the plain backbone. */
  readonly digest: string | null;
  readonly promptIds: readonly number[];
  readonly newTokens: number;
  readonly priority?: PriorityClass;
  /** When the client sent it, on the clock of `performance.now()`; now, when absent. */
  readonly sentMs?: number;
}

/** What a client saw of its request. */
export interface GreedyAnswer {
  readonly ttftMs: number;
  readonly gapsMs: number[];
  readonly tokens: number;
}

/** Sends one greedy request that ignores the end of sequence, and waits for its last token. */
export function submitGreedy(engine: Engine, request: GreedyRequest): Promise<GreedyAnswer> {
  return new Promise((resolve, reject) => {
    const sentMs = request.sentMs ?? performance.now();
    const gapsMs: number[] = [];
    let ttftMs: number | null = null;
    let lastMs = sentMs;
    engine
      .submit(
        {
          id: newId(systemClock),
          tenantId: 'bench',
          promptIds: request.promptIds,
          adapters: request.digest === null ? [] : [{ digest: request.digest, weight: 1 }],
          sampling: { temperature: 0, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1, seed: 0 },
          stop: { maxTokens: request.newTokens, strings: [], tokenIds: [], ignoreEos: true },
          priority: request.priority ?? 'STANDARD',
          topLogprobs: 0,
        },
        (event) => {
          const nowMs = performance.now();
          if (event.kind === 'tokens') {
            if (ttftMs === null) ttftMs = nowMs - sentMs;
            else gapsMs.push(nowMs - lastMs);
            lastMs = nowMs;
          } else if (event.reason === 'error' || ttftMs === null) {
            reject(new Error(event.error?.message ?? 'A request ended without a token.'));
          } else {
            resolve({ ttftMs, gapsMs, tokens: event.usage.completionTokens });
          }
        },
      )
      .catch(reject);
  });
}

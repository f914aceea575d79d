import { join } from 'node:path';
import { importOnce } from '../backbone/imported.ts';
import type { WeightBits } from '../backbone/onnx/stored.ts';
import {
  type BenchEngine,
  type BenchEngineOptions,
  type BenchEngineReport,
  byteProgress,
} from '../cli/ports.ts';
import { createInlineEngine } from '../engine/loop.ts';
import type { Engine, SequenceRequest } from '../engine/port.ts';
import { packAdapter } from '../engine/runner/pack.ts';
import type { AdapterLoader, StepRunner, StreamDecoder } from '../engine/runner.ts';
import { systemClock } from '../kernel/clock.ts';
import { newId } from '../kernel/ids.ts';
import type { ModelShape } from '../kernel/model.ts';
import { withProgress } from '../observability/progress.ts';
import { PAGE_RANK, pageBytes } from '../serving/layout.ts';
import { openRunner } from '../serving/open-runner.ts';
import { measureMachine } from './machine.ts';
import { percentiles, StepLog, timed } from './measure.ts';
import { type BackboneCost, backboneCost, byteBound, rooflineReport } from './roofline.ts';
import { isSynthetic, syntheticAdapter, syntheticCheckpoint } from './synthetic.ts';
import { adapterOfRequest, prompts } from './workload.ts';

/** Memory bounds of the bench; generous, since it measures speed and not refusal. */
const KV_BYTES = 4 * 2 ** 30;
const HOST_CACHE_BYTES = 4 * 2 ** 30;
const BANK_BYTES = 8 * 2 ** 30;

/** Text is of no interest here; tokens are counted. */
const silentDecoder: StreamDecoder = { push: () => '', end: () => '' };

/**
 * Loads an engine of its own with a closed loop of `streams` greedy requests that ignore end of sequence, and reports
 * throughput, latencies and where the time of a step went.
 */
export const benchEngine: BenchEngine = async (options) => {
  const checkpoint = isSynthetic(options.backbone)
    ? await syntheticCheckpoint(options.backbone)
    : options.backbone;
  const backbone = await withProgress(options.progress, `Importing ${options.backbone}`, (step) =>
    importOnce({
      dir: checkpoint,
      root: join(options.dataDir, 'backbones'),
      bits: options.bits satisfies WeightBits,
      onProgress: byteProgress(step),
    }),
  );
  // Before the engine is there, whose waiting threads would slow it down, and closed before the engine starts.
  const machine = await withProgress(options.progress, 'Measuring the machine', () =>
    measureMachine({ bits: options.bits, intraOpThreads: options.threads }, { clock: systemClock }),
  );
  const settings = {
    maxContext: options.promptTokens + options.newTokens,
    kvBytes: KV_BYTES,
    bankBytes: BANK_BYTES,
    intraOpThreads: options.threads,
    executionProviders: ['cpu'],
  };
  const log = new StepLog();
  const runner = await openRunner(backbone.dir, backbone.manifest, settings, { clock: systemClock });
  const engine = createInlineEngine(
    {
      maxBatch: options.streams,
      maxQueue: options.streams * 2,
      hostCacheBytes: HOST_CACHE_BYTES,
      maxRank: Math.max(...options.ranks),
    },
    {
      runner: timed(runner, log, systemClock),
      loader: syntheticLoader(runner.shape, options.ranks),
      decoderFactory: () => silentDecoder,
      clock: systemClock,
      backboneDigest: backbone.manifest.digest,
      eosTokenIds: backbone.manifest.eosTokenIds,
      report: options.report,
    },
  );
  try {
    // The first runs allocate and warm caches; they are not measured.
    await drive(
      engine,
      { ...options, requests: options.streams, newTokens: Math.min(8, options.newTokens) },
      runner,
    );
    log.clear();
    const result = await withProgress(options.progress, 'Measuring', (step) =>
      drive(engine, options, runner, (done) => step.update(done, options.requests, 'items')),
    );
    const cost = backboneCost(runner.shape, options.bits);
    return {
      ...report(options, result, log),
      roofline: rooflineReport(log.decodeSteps(), cost, machine),
      byteBound: boundOfDistinct(options, runner.shape, cost),
    };
  } finally {
    await engine.close({ graceMs: 0 });
  }
};

function syntheticLoader(shape: ModelShape, ranks: readonly number[]): AdapterLoader {
  return {
    load: async (digest) => {
      const number = Number(digest);
      return packAdapter(syntheticAdapter(shape, rankOf(ranks, number), number, digest), shape, PAGE_RANK);
    },
    close: async () => {},
  };
}

function rankOf(ranks: readonly number[], adapter: number): number {
  return ranks[adapter % ranks.length] ?? 0;
}

function boundOfDistinct(
  options: BenchEngineOptions,
  shape: ModelShape,
  { weightBytes }: BackboneCost,
): number | null {
  if (options.workload !== 'distinct') return null;
  const pages = (stream: number): number => Math.ceil(rankOf(options.ranks, stream) / PAGE_RANK);
  const bytes = Array.from({ length: options.streams }, (_, stream) => pages(stream) * pageBytes(shape));
  return byteBound(weightBytes, bytes);
}

interface DriveResult {
  readonly elapsedMs: number;
  readonly outputTokens: number;
  readonly ttftMs: readonly number[];
  readonly interTokenMs: readonly number[];
}

/** Keeps `streams` requests in flight until `requests` have ended. */
async function drive(
  engine: Engine,
  options: BenchEngineOptions,
  runner: StepRunner,
  onProgress: (done: number) => void = () => {},
): Promise<DriveResult> {
  const ttftMs: number[] = [];
  const interTokenMs: number[] = [];
  const promptOf = prompts(options.seed, options.promptTokens, runner.shape.vocabSize);
  let outputTokens = 0;
  let next = 0;
  let done = 0;
  const started = systemClock.monotonicMs();
  const stream = async (slot: number): Promise<void> => {
    while (next < options.requests && !options.signal.aborted) {
      const number = next++;
      await one(number, slot);
      done += 1;
      onProgress(done);
    }
  };
  const one = (number: number, slot: number): Promise<void> =>
    new Promise((resolve, reject) => {
      const submitted = systemClock.monotonicMs();
      let last = submitted;
      const request = benchRequest(options, promptOf(number), adapterOfRequest(options, number, slot));
      engine
        .submit(request, (event) => {
          const now = systemClock.monotonicMs();
          if (event.kind === 'end') {
            if (event.reason === 'error') reject(new Error(event.error?.message ?? 'the engine failed'));
            else resolve();
            return;
          }
          if (last === submitted) ttftMs.push(now - submitted);
          else interTokenMs.push(now - last);
          last = now;
          outputTokens += event.tokens.length;
        })
        .catch(reject);
    });
  await Promise.all(Array.from({ length: options.streams }, (_, slot) => stream(slot)));
  return { elapsedMs: systemClock.monotonicMs() - started, outputTokens, ttftMs, interTokenMs };
}

function benchRequest(
  options: BenchEngineOptions,
  promptIds: readonly number[],
  adapter: number | null,
): SequenceRequest {
  return {
    id: newId(systemClock),
    tenantId: 'bench',
    promptIds,
    adapters: adapter === null ? [] : [{ digest: String(adapter), weight: 1 }],
    sampling: { temperature: 0, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1, seed: 0 },
    stop: { maxTokens: options.newTokens, strings: [], tokenIds: [], ignoreEos: true },
    priority: 'STANDARD',
    topLogprobs: 0,
  };
}

function report(
  options: BenchEngineOptions,
  result: DriveResult,
  log: StepLog,
): Omit<BenchEngineReport, 'roofline' | 'byteBound'> {
  return {
    backbone: options.backbone,
    workload: options.workload,
    ranks: options.ranks,
    streams: options.streams,
    requests: options.requests,
    outputTokens: result.outputTokens,
    elapsedMs: result.elapsedMs,
    tokensPerSecond: (result.outputTokens / result.elapsedMs) * 1000,
    decodeTokensPerSecond: log.decodeTokensPerSecond(),
    ttftMs: percentiles(result.ttftMs),
    interTokenMs: percentiles(result.interTokenMs),
    stepMs: percentiles(log.stepMs()),
    share: log.shares(),
  };
}

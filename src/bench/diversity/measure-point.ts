import type { EngineStatus } from '../../engine/port.ts';
import { PRIORITY_CLASSES } from '../../kernel/priority.ts';
import { quantile } from '../sim/metrics.ts';
import { openStoreEngine, submitGreedy, syntheticBackbone } from '../store-engine.ts';
import { syntheticCheckpoint } from '../synthetic.ts';
import { syntheticStore } from '../synthetic-store.ts';
import { ranksOf } from './plan.ts';
import { AdapterProcesses } from './processes.ts';
import {
  adapterDraws,
  closedLoop,
  type DiversityRequest,
  diversityRequests,
  type LoopResult,
} from './requests.ts';
import type { Latency, PointJob, Sample } from './schema.ts';
import { SwapServer, type SwapTimes } from './swap.ts';

/** Rows of a step; where more streams send, somebody waits. */
const ROWS = 16;
/** How often the status is looked at while the load runs. */
const SAMPLE_EVERY_MS = 100;
/** Requests that warm up: enough to fill the host cache as the law of popularity would. */
const WARM_UP = { least: 16, ranks: 2_048 };
/** Another seed than the measured load, or the measured requests would find their adapters loaded. */
const WARM_UP_SEED = 500_000;

/** Measures one point in this process, which should have been started for it. */
export function measurePoint(job: PointJob): Promise<Sample> {
  switch (job.spec.system) {
    case 'patchbay':
      return measurePatchbay(job);
    case 'swap':
      return measureSwap(job);
    case 'processes':
      return measureProcesses(job);
    case 'peer':
      throw new Error('The peer is measured by bench/peers.');
  }
}

async function prepare({ spec, round, load }: PointJob) {
  const backbone = await syntheticBackbone(load.backbone);
  const { shape, digest: backboneDigest } = backbone.manifest;
  const store = await syntheticStore({ shape, backboneDigest, ranks: ranksOf(spec) });
  const requests = diversityRequests({ spec, round, load }, shape.vocabSize);
  return { backbone, store, requests, shape, maxContext: load.promptTokens + load.newTokens, rows: ROWS };
}

async function measurePatchbay(job: PointJob): Promise<Sample> {
  const { spec, load } = job;
  const prepared = await prepare(job);
  const { store } = prepared;
  const { engine, loads } = await openStoreEngine({
    ...prepared,
    cacheBytes: load.cacheBytes,
    storeRoot: store.root,
  });
  const digestOf = (adapter: number): string => store.digests[adapter] ?? '';
  await closedLoop(
    warmUpRequests(job, prepared.requests),
    spec.streams,
    ({ adapter, promptIds, newTokens }) =>
      submitGreedy(engine, { digest: digestOf(adapter), promptIds, newTokens }),
  );
  const loadedBefore = loads.count;
  loads.lastMs.clear();
  const statuses: EngineStatus[] = [];
  const timer = setInterval(async () => statuses.push(await engine.status()), SAMPLE_EVERY_MS);
  const result = await closedLoop(prepared.requests, spec.streams, ({ adapter, ...request }) =>
    submitGreedy(engine, { ...request, digest: digestOf(adapter) }),
  );
  clearInterval(timer);
  statuses.push(await engine.status());
  const rssBytes = process.memoryUsage.rss();
  await engine.close({ graceMs: 0 });
  return {
    ...sampleOf(job, result, rssBytes),
    engine: engineOf(statuses),
    loads: {
      perRequest: (loads.count - loadedBefore) / spec.requests,
      ms: quantile([...loads.lastMs.values()], 0.5),
      threadMs: quantile(loads.threadMs, 0.5),
      bytes: loads.bytes / loads.count,
      pages: loads.pages / loads.count,
    },
  };
}

/** One-token requests by the same law, which leave the caches as they are in the long run. */
function warmUpRequests(
  { spec, round, load }: PointJob,
  measured: readonly DiversityRequest[],
): readonly DiversityRequest[] {
  // The larger the adapters, the fewer fill the cache.
  const most = Math.round(WARM_UP.ranks / mean(spec.ranks));
  const count = Math.min(most, Math.max(WARM_UP.least, 2 * spec.adapters));
  const draws = adapterDraws(spec, WARM_UP_SEED + load.seed + round, count);
  return draws.map((adapter, number) => ({
    number,
    // Where all fit, each was used before; no draw of this size guarantees that.
    adapter: spec.adapters <= count / 2 ? number % spec.adapters : adapter,
    priority: 'STANDARD',
    promptIds: measured[number % measured.length]?.promptIds.slice(0, 8) ?? [1],
    newTokens: 2,
  }));
}

function engineOf(statuses: readonly EngineStatus[]): Sample['engine'] {
  const last = statuses.at(-1);
  if (last === undefined) return null;
  const bank = last.residentAdapters.filter(({ tier }) => tier === 'bank');
  const inUse = statuses
    .slice(0, -1)
    .map(({ residentAdapters }) => residentAdapters.filter((adapter) => adapter.inUse > 0).length);
  return {
    hostCacheBytes: last.hostCacheBytesUsed,
    hostCacheBudget: last.hostCacheBytesBudget,
    bankBytes: bank.reduce((sum, { bytes }) => sum + bytes, 0),
    distinctInUse: mean(inUse),
    stepMs: last.stepMs,
  };
}

async function measureSwap(job: PointJob): Promise<Sample> {
  const { spec, load } = job;
  const prepared = await prepare(job);
  const server = await SwapServer.create({
    ...prepared,
    checkpointDir: await syntheticCheckpoint(load.backbone),
  });
  // The code of merging is compiled on its first use, which no server would count.
  const [first] = prepared.requests;
  if (first !== undefined) {
    for (const adapter of [0, spec.adapters - 1]) await server.serve({ ...first, adapter, newTokens: 2 });
  }
  server.clear();
  const result = await closedLoop(prepared.requests, spec.streams, (request) => server.serve(request));
  const rssBytes = process.memoryUsage.rss();
  const { swaps, batches } = server;
  await server.close();
  const of = (part: keyof SwapTimes): number =>
    quantile(
      swaps.map((times) => times[part]),
      0.5,
    );
  const avoidableMs = swaps.reduce((sum, { writeMs, openMs }) => sum + writeMs + openMs, 0);
  return {
    ...sampleOf(job, result, rssBytes),
    swap: {
      swapsPerRequest: swaps.length / spec.requests,
      readMs: of('readMs'),
      mergeMs: of('mergeMs'),
      writeMs: of('writeMs'),
      openMs: of('openMs'),
      batch: mean(batches),
      inPlaceTokensPerSecond: (tokensOf(result) / (result.elapsedMs - avoidableMs)) * 1_000,
    },
  };
}

async function measureProcesses(job: PointJob): Promise<Sample> {
  const { spec, load } = job;
  const prepared = await prepare(job);
  const processes = await AdapterProcesses.create({
    ...prepared,
    checkpointDir: await syntheticCheckpoint(load.backbone),
    backboneName: load.backbone,
    count: spec.adapters,
  });
  const warmUp = prepared.requests
    .slice(0, Math.max(spec.streams, spec.adapters))
    .map((request, number) => ({ ...request, adapter: number % spec.adapters, newTokens: 8 }));
  await closedLoop(warmUp, spec.streams, (request) => processes.serve(request));
  const result = await closedLoop(prepared.requests, spec.streams, (request) => processes.serve(request));
  const memory = await processes.memory();
  await processes.close();
  const rssBytes = memory.reduce((sum, one) => sum + one.rssBytes, 0);
  return {
    ...sampleOf(job, result, rssBytes),
    privateBytes: mean(memory.map((one) => one.privateBytes)),
  };
}

function sampleOf({ spec, round }: PointJob, result: LoopResult, rssBytes: number): Sample {
  const { served, elapsedMs } = result;
  const classes = PRIORITY_CLASSES.flatMap((priority) => {
    const own = served.filter(({ request }) => request.priority === priority);
    if (own.length === 0) return [];
    const ttftMs = latency(own.map((one) => one.served.ttftMs));
    return [{ priority, requests: own.length, ttftMs }];
  });
  return {
    spec,
    round,
    tokensPerSecond: (tokensOf(result) / elapsedMs) * 1_000,
    ttftMs: latency(served.map((one) => one.served.ttftMs)),
    interTokenMs: latency(served.flatMap((one) => one.served.gapsMs)),
    rssBytes,
    engine: null,
    loads: null,
    classes: spec.priorities === 'mixed' ? classes : [],
    swap: null,
    privateBytes: null,
  };
}

function tokensOf({ served }: LoopResult): number {
  return served.reduce((sum, one) => sum + one.served.tokens, 0);
}

function latency(values: readonly number[]): Latency {
  return { p50: quantile(values, 0.5), p95: quantile(values, 0.95) };
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}

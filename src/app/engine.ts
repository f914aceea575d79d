import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type AdapterLimits, DEFAULT_ADAPTER_LIMITS } from '../adapter/limits.ts';
import type { ImportedBackbone } from '../backbone/import.ts';
import { importOnce } from '../backbone/imported.ts';
import type { AppDeps } from '../cli/app-port.ts';
import type { Config } from '../config/index.ts';
import type { Engine } from '../engine/port.ts';
import { createThreadEngine } from '../engine/thread/client.ts';
import { EVERY_STEP } from '../engine/thread/event-beat.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { withProgress } from '../observability/progress.ts';
import type { EngineWorkerData } from '../serving/engine-worker.ts';
import type { MemoryPlan } from '../serving/memory-plan.ts';
import type { Lifecycle } from './lifecycle.ts';

/** The starter that ships with the program. */
export const STARTER_FOLDER = fileURLToPath(new URL('../../starter', import.meta.url));

/** Where a data folder keeps what. */
export function folders(config: Config): {
  readonly backbones: string;
  readonly store: string;
  readonly incoming: string;
  readonly payouts: string;
  readonly exports: string;
  /** The file of the key that signs receipts. */
  readonly proofKey: string;
} {
  const { dir } = config.data;
  return {
    backbones: join(dir, 'backbones'),
    store: join(dir, 'store'),
    incoming: join(dir, 'incoming'),
    payouts: join(dir, 'payouts'),
    exports: join(dir, 'exports'),
    proofKey: join(dir, 'proof-key.json'),
  };
}

/** The limits that uploads and loads are held to. */
export function adapterLimits(config: Config): AdapterLimits {
  return {
    ...DEFAULT_ADAPTER_LIMITS,
    maxRank: config.adapters.maxRank,
    maxTensorsBytes: config.adapters.maxBytes,
  };
}

/** The checkpoint folder that a setting names. */
export function backboneFolder(source: string): string {
  return source === 'starter' ? join(STARTER_FOLDER, 'backbone') : resolve(source);
}

/** Imports the configured backbone unless that was done before. */
export async function openBackbone(config: Config, deps: AppDeps): Promise<ImportedBackbone> {
  const { source, weightBits } = config.backbone;
  const dir = backboneFolder(source);
  if (!existsSync(dir)) {
    throw new PatchbayError('FILE_MISSING', `There is no folder ${dir}.`, {
      field: 'PATCHBAY_BACKBONE',
      fix: 'Set PATCHBAY_BACKBONE to `starter` or to the path of a checkpoint folder.',
    });
  }
  return withProgress(deps.progress, `Importing the backbone ${source}`, (step) =>
    importOnce({
      dir,
      root: folders(config).backbones,
      bits: weightBits,
      ...(source === 'starter' ? { name: 'starter' } : {}),
      onProgress: (done, total) => step.update(done, total, 'bytes'),
    }),
  );
}

/** Starts the engine in its thread. */
export async function startEngine(
  config: Config,
  backbone: ImportedBackbone,
  memory: MemoryPlan,
  deps: AppDeps,
  lifecycle: Lifecycle,
): Promise<Engine> {
  const { engine, adapters } = config;
  const data: EngineWorkerData = {
    backboneDir: backbone.dir,
    storeRoot: folders(config).store,
    limits: adapterLimits(config),
    runner: {
      maxContext: engine.maxContext,
      kvBytes: memory.kvBytes,
      bankBytes: memory.bankBytes,
      intraOpThreads: engine.intraOpThreads,
      executionProviders: [...engine.executionProviders],
    },
    engine: {
      maxBatch: engine.maxBatch,
      prefillTokensPerStep: engine.prefillTokensPerStep,
      maxQueue: engine.maxQueue,
      queueShare: 1,
      scheduling: engine.scheduling,
      interactiveTtftMs: engine.interactiveTtftMs,
      interactiveInterTokenMs: engine.interactiveInterTokenMs,
      standardTtftMs: engine.standardTtftMs,
      standardInterTokenMs: engine.standardInterTokenMs,
      maxWaitPercent: engine.maxWaitPercent,
      maxPreemptions: engine.maxPreemptions,
      hostCacheBytes: memory.hostCacheBytes,
      prefixBytes: memory.prefixBytes,
      maxConcurrentLoads: memory.maxConcurrentLoads,
      maxBlend: adapters.maxBlend,
      maxRank: adapters.maxRank,
    },
    beat: { ...EVERY_STEP, chunksPerSecond: engine.chunksPerSecond },
    log: config.log,
  };
  const worker = new URL('../serving/engine-worker.js', import.meta.url);
  const started = await withProgress(deps.progress, 'Starting the engine', () =>
    createThreadEngine(worker, data, {
      report: (err) => deps.logger.error({ err }, 'The engine reported a failure'),
      onDeath: deps.onFatal,
    }),
  );
  lifecycle.add('engine', () => started.close({ graceMs: 0 }));
  return started;
}

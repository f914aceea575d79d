import type { AdapterCache } from './adapter-cache.ts';
import type { EngineOptions } from './options.ts';
import type { EngineStatus } from './port.ts';
import type { PrefixStore } from './prefix/prefix-store.ts';
import type { StepRunner } from './runner.ts';
import type { Scheduler } from './scheduler.ts';
import type { RecentSteps } from './step-times.ts';

/** The parts of an engine that a snapshot is taken of. */
export interface EngineParts {
  readonly options: EngineOptions;
  readonly runner: StepRunner;
  readonly scheduler: Scheduler;
  readonly cache: AdapterCache;
  readonly prefixes: PrefixStore;
  readonly recent: RecentSteps;
}

export function engineStatus(
  { options, runner, scheduler, cache, prefixes, recent }: EngineParts,
  counted: Pick<EngineStatus, 'steps' | 'tokensGenerated'>,
): EngineStatus {
  const counts = scheduler.counts();
  const inBank = runner.heldPages();
  return {
    ...counted,
    running: counts.running,
    waiting: counts.waiting,
    waitingForAdapter: counts.pending,
    kvBytesUsed: counts.kvBytesUsed,
    kvBytesBudget: runner.kvBudgetBytes,
    hostCacheBytesUsed: cache.bytesUsed,
    hostCacheBytesBudget: options.hostCacheBytes,
    prefixes: prefixes.use(),
    residentAdapters: cache
      .residents()
      .map((adapter) => ({ ...adapter, tier: inBank.has(adapter.digest) ? 'bank' : 'host' })),
    stepMs: recent.medians(),
  };
}

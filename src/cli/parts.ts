import type { replay } from '../replay/replay.ts';
import type { CreateApp, DescribeMemory } from './app-port.ts';
import type { BenchEngine, PushAdapter, RunBatch } from './ports.ts';

/** The composition root, loaded late so that `--help` does not load a model runtime. */
export async function loadCreateApp(): Promise<CreateApp> {
  return (await import('../app.ts')).createApp;
}

/** See {@link DescribeMemory}. */
export async function loadDescribeMemory(): Promise<DescribeMemory> {
  return (await import('../app/memory.ts')).describeMemory;
}

/** See {@link RunBatch}. */
export async function loadRunBatch(): Promise<RunBatch> {
  return (await import('../batch/run-batch.ts')).runBatch;
}

/** See {@link BenchEngine}. */
export async function loadBenchEngine(): Promise<BenchEngine> {
  return (await import('../bench/engine.ts')).benchEngine;
}

/** `replay` of src/replay/replay.ts. */
export async function loadReplay(): Promise<typeof replay> {
  return (await import('../replay/replay.ts')).replay;
}

/** See {@link PushAdapter}. */
export async function loadPushAdapter(): Promise<PushAdapter> {
  return (await import('../adapter/push.ts')).pushAdapter;
}

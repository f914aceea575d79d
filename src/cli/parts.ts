import { PatchbayError } from '../kernel/errors.ts';
import type { CreateApp } from './app-port.ts';
import type { BenchEngine, PushAdapter, RunBatch } from './ports.ts';

/** The composition root, loaded late so that `--help` does not load a model runtime. */
export async function loadCreateApp(): Promise<CreateApp> {
  return (await import('../app.ts')).createApp;
}

/** See {@link RunBatch}. */
export async function loadRunBatch(): Promise<RunBatch> {
  return (await import('../batch/run-batch.ts')).runBatch;
}

/** See {@link BenchEngine}. */
export async function loadBenchEngine(): Promise<BenchEngine> {
  return (await import('../bench/engine.ts')).benchEngine;
}

/** See {@link PushAdapter}. */
export async function loadPushAdapter(): Promise<PushAdapter> {
  return (await import('../adapter/push.ts')).pushAdapter;
}

async function load<F extends (...args: never[]) => unknown>(path: string, name: string): Promise<F> {
  let found: unknown;
  try {
    const module: Readonly<Record<string, unknown>> = await import(path);
    found = module[name];
  } catch (cause) {
    throw new PatchbayError('INTERNAL', `${path} could not be loaded.`, { cause });
  }
  if (isFunction<F>(found)) return found;
  throw new PatchbayError('INTERNAL', `${path} exports no ${name}.`);
}

function isFunction<F>(value: unknown): value is F {
  return typeof value === 'function';
}

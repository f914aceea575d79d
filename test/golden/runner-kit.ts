import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ADAPTER_FILES, DEFAULT_ADAPTER_LIMITS } from '../../src/adapter/limits.ts';
import { parseAdapterConfig } from '../../src/adapter/peft/config.ts';
import { readPeftAdapter } from '../../src/adapter/peft/read.ts';
import { importBackbone } from '../../src/backbone/import.ts';
import type { WeightBits } from '../../src/backbone/onnx/stored.ts';
import { createOnnxRunner } from '../../src/engine/runner/onnx-runner.ts';
import { packAdapter } from '../../src/engine/runner/pack.ts';
import type { LogitSummary, PackedAdapter, StepRunner } from '../../src/engine/runner.ts';
import { systemClock } from '../../src/kernel/clock.ts';
import type { ModelShape } from '../../src/kernel/model.ts';
import { openSafetensors } from '../../src/safetensors/source.ts';
import { packedGraphs } from '../../src/serving/packed-graphs.ts';
import { multipliesBytesExactly } from '../../src/serving/processor.ts';
import { temporaryFolder } from './kit.ts';

export const PAGE_RANK = 8;

/** Imports a checkpoint folder and opens the real runner on it. */
export async function openRunner(
  dir: string,
  bits: WeightBits = 32,
): Promise<{ readonly runner: StepRunner; readonly shape: ModelShape; readonly dir: string }> {
  const imported = await importBackbone({ dir, root: await temporaryFolder(), bits });
  const { shape } = imported.manifest;
  const session = {
    intraOpThreads: 1,
    exactBytes: await multipliesBytesExactly(process.arch),
    executionProviders: ['cpu'],
  };
  const runner = await createOnnxRunner(
    {
      ...session,
      graphs: await packedGraphs(imported.dir, session),
      shape,
      maxContext: shape.maxPositions,
      kvBudgetBytes: 2 ** 30,
      pageRank: PAGE_RANK,
      bankPages: 64,
    },
    { clock: systemClock },
  );
  return { runner, shape, dir: imported.dir };
}

/** A runner as the engine sees it, some of it replaced: other limits, or somebody who listens. */
export function runnerWith(runner: StepRunner, changes: Partial<StepRunner>): StepRunner {
  return {
    shape: runner.shape,
    maxContext: runner.maxContext,
    bankPages: runner.bankPages,
    kvBudgetBytes: runner.kvBudgetBytes,
    ...(runner.snapshots === undefined ? {} : { snapshots: runner.snapshots }),
    kvBytes: (tokens) => runner.kvBytes(tokens),
    open: (tokens) => runner.open(tokens),
    close: (row) => runner.close(row),
    run: (work) => runner.run(work),
    bankPageBytes: runner.bankPageBytes,
    get bankGeneration() {
      return runner.bankGeneration;
    },
    heldPages: () => runner.heldPages(),
    dispose: () => runner.dispose(),
    ...changes,
  };
}

/** Reads and packs an adapter folder; its path serves as its digest. */
export async function packFolder(dir: string, shape: ModelShape): Promise<PackedAdapter> {
  const [configFile, tensorsFile] = ADAPTER_FILES;
  const config = parseAdapterConfig(await readFile(join(dir, configFile)), DEFAULT_ADAPTER_LIMITS);
  const tensors = await openSafetensors(join(dir, tensorsFile), DEFAULT_ADAPTER_LIMITS.header);
  const { modules } = await readPeftAdapter({ config, tensors }, shape, DEFAULT_ADAPTER_LIMITS);
  await tensors.close();
  return packAdapter({ digest: dir, modules }, shape, PAGE_RANK);
}

/** The best token with its log-probability: from logits, in float64, or from the runtime's summary of them. */
export function choice(values: Float32Array | LogitSummary | null | undefined): {
  readonly token: number;
  readonly logprob: number;
  readonly finite: boolean;
} {
  if (values === null || values === undefined) throw new Error('the runner gave nothing to choose from');
  if (!(values instanceof Float32Array)) {
    const finite = [values.max, values.min, values.logSumExp].every(Number.isFinite);
    return { token: values.best, logprob: values.max - values.logSumExp, finite };
  }
  // The lowest index of equals, as everywhere.
  const token = values.reduce((best, value, index) => (value > (values[best] ?? 0) ? index : best), 0);
  const max = values[token] ?? Number.NaN;
  const total = values.reduce((sum, value) => sum + Math.exp(value - max), 0);
  return { token, logprob: -Math.log(total), finite: values.every(Number.isFinite) };
}

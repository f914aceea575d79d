import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ADAPTER_FILES, DEFAULT_ADAPTER_LIMITS } from '../../src/adapter/limits.ts';
import { parseAdapterConfig } from '../../src/adapter/peft/config.ts';
import { readPeftAdapter } from '../../src/adapter/peft/read.ts';
import { importBackbone } from '../../src/backbone/import.ts';
import { BACKBONE_FILES } from '../../src/backbone/manifest.ts';
import type { WeightBits } from '../../src/backbone/onnx/graph.ts';
import { createOnnxRunner } from '../../src/engine/runner/onnx-runner.ts';
import { packAdapter } from '../../src/engine/runner/pack.ts';
import type { PackedAdapter, StepRunner } from '../../src/engine/runner.ts';
import { systemClock } from '../../src/kernel/clock.ts';
import type { ModelShape } from '../../src/kernel/model.ts';
import { openSafetensors } from '../../src/safetensors/source.ts';
import { temporaryFolder } from './kit.ts';

export const PAGE_RANK = 16;

/** Imports a checkpoint folder and opens the real runner on it. */
export async function openRunner(
  dir: string,
  bits: WeightBits = 32,
): Promise<{ readonly runner: StepRunner; readonly shape: ModelShape; readonly dir: string }> {
  const imported = await importBackbone({ dir, root: await temporaryFolder(), bits });
  const { shape } = imported.manifest;
  const runner = await createOnnxRunner(
    {
      modelPath: join(imported.dir, BACKBONE_FILES.model),
      shape,
      maxContext: shape.maxPositions,
      kvBudgetBytes: 2 ** 30,
      pageRank: PAGE_RANK,
      bankPages: 64,
      intraOpThreads: 1,
      executionProviders: ['cpu'],
    },
    { clock: systemClock },
  );
  return { runner, shape, dir: imported.dir };
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

/** Natural-logarithm softmax in float64. */
export function logSoftmax(logits: Float32Array): Float64Array {
  const max = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const total = logits.reduce((sum, value) => sum + Math.exp(value - max), 0);
  return Float64Array.from(logits, (value) => value - max - Math.log(total));
}

/** Index of the largest value, the lowest of equals. */
export function argmax(values: Float32Array): number {
  return values.reduce((best, value, index) => (value > (values[best] ?? 0) ? index : best), 0);
}

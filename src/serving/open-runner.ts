import { join } from 'node:path';
import { BACKBONE_FILES, type BackboneManifest } from '../backbone/manifest.ts';
import { createDeviceRunner } from '../engine/runner/device/device-runner.ts';
import { createOnnxRunner } from '../engine/runner/onnx-runner.ts';
import type { StepRunner } from '../engine/runner.ts';
import type { Clock } from '../kernel/clock.ts';

/** Rank of one adapter page: an adapter of rank 16 takes one, one of rank 40 takes three. */
export const PAGE_RANK = 16;

/** Context length where the operator names none; longer ones cost memory that few use. */
const DEFAULT_MAX_CONTEXT = 8192;

/** What an operator chooses of a runner. */
export interface RunnerSettings {
  /** Null takes what the backbone was trained for, up to {@link DEFAULT_MAX_CONTEXT}. */
  readonly maxContext: number | null;
  readonly kvBytes: number;
  readonly bankPages: number;
  /** 0 lets the runtime choose. */
  readonly intraOpThreads: number;
  readonly executionProviders: readonly string[];
}

/** Opens the runner of an imported backbone: the device's where WebGPU comes first, the host's otherwise. */
export async function openRunner(
  dir: string,
  manifest: BackboneManifest,
  settings: RunnerSettings,
  deps: { readonly clock: Clock },
): Promise<StepRunner> {
  const trained = manifest.shape.maxPositions;
  const options = {
    shape: manifest.shape,
    maxContext: Math.min(trained, settings.maxContext ?? DEFAULT_MAX_CONTEXT),
    kvBudgetBytes: settings.kvBytes,
    pageRank: PAGE_RANK,
    bankPages: settings.bankPages,
    executionProviders: settings.executionProviders,
  };
  if (staysOnDevice(settings)) {
    const graphs = {
      step: join(dir, BACKBONE_FILES.deviceStep),
      pool: join(dir, BACKBONE_FILES.devicePool),
      bank: join(dir, BACKBONE_FILES.deviceBank),
    };
    return createDeviceRunner({ ...options, graphs }, deps);
  }
  const modelPath = join(dir, BACKBONE_FILES.model);
  return createOnnxRunner({ ...options, modelPath, intraOpThreads: settings.intraOpThreads }, deps);
}

/** WebGPU is the only provider whose tensors the runtime's Node binding can leave on the device. */
function staysOnDevice({ executionProviders }: RunnerSettings): boolean {
  return executionProviders[0] === 'webgpu';
}

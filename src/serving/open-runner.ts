import { join } from 'node:path';
import { BACKBONE_FILES, type BackboneManifest } from '../backbone/manifest.ts';
import { createDeviceRunner } from '../engine/runner/device/device-runner.ts';
import { createOnnxRunner } from '../engine/runner/onnx-runner.ts';
import type { StepRunner } from '../engine/runner.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { contextLength, PAGE_RANK, pageBytes } from './layout.ts';
import { packedGraphs } from './packed-graphs.ts';
import { multipliesBytesExactly } from './processor.ts';

/** What an operator chooses of a runner. */
export interface RunnerSettings {
  /** See {@link contextLength}. */
  readonly maxContext: number | null;
  readonly kvBytes: number;
  /** Bound on the bank of active adapter pages, the page of zeros included. */
  readonly bankBytes: number;
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
  const { shape } = manifest;
  const options = {
    shape,
    maxContext: contextLength(shape, settings.maxContext),
    kvBudgetBytes: settings.kvBytes,
    pageRank: PAGE_RANK,
    // One page is the zeros that rows without an adapter read.
    bankPages: Math.max(1, Math.floor(settings.bankBytes / pageBytes(shape)) - 1),
    executionProviders: settings.executionProviders,
  };
  if (staysOnDevice(settings)) {
    if (manifest.bits === 8) {
      throw new PatchbayError('CONFIG_INVALID', 'WebGPU cannot run a backbone of 8 bits.', {
        field: 'PATCHBAY_WEIGHT_BITS',
        fix: 'Set PATCHBAY_WEIGHT_BITS to 32 or 4.',
      });
    }
    const graphs = {
      step: join(dir, BACKBONE_FILES.deviceStep),
      pool: join(dir, BACKBONE_FILES.devicePool),
      bank: join(dir, BACKBONE_FILES.deviceBank),
    };
    return createDeviceRunner({ ...options, graphs }, deps);
  }
  const session = {
    intraOpThreads: settings.intraOpThreads,
    exactBytes: await multipliesBytesExactly(process.arch),
    executionProviders: settings.executionProviders,
  };
  return createOnnxRunner({ ...options, ...session, graphs: await packedGraphs(dir, session) }, deps);
}

/** WebGPU is the only provider whose tensors the runtime's Node binding can leave on the device. */
function staysOnDevice({ executionProviders }: RunnerSettings): boolean {
  return executionProviders[0] === 'webgpu';
}

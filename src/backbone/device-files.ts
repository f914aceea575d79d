import type { ModelShape } from '../kernel/model.ts';
import { BACKBONE_FILES } from './manifest.ts';
import { buildBankGraph, buildDeviceGraph, buildPoolGraph } from './onnx/device-graph.ts';
import { encodeModel, type InitializerSpec } from './onnx/proto.ts';
import type { WeightBits } from './onnx/stored.ts';

/**
 * The graphs for devices with memory of their own, by file name. They share the data file of weights. There is none for
 * 8 bits, whose integer products have no kernel for WebGPU.
 */
export function deviceFiles(
  shape: ModelShape,
  bits: Exclude<WeightBits, 8>,
  stored: readonly InitializerSpec[],
): ReadonlyMap<string, Uint8Array> {
  return new Map([
    [BACKBONE_FILES.deviceStep, encodeModel(buildDeviceGraph(shape, bits, stored))],
    [BACKBONE_FILES.devicePool, encodeModel(buildPoolGraph(shape))],
    [BACKBONE_FILES.deviceBank, encodeModel(buildBankGraph(shape))],
  ]);
}

import { setImmediate } from 'node:timers/promises';
import { PatchbayError } from '../../kernel/errors.ts';
import {
  LORA_TARGETS,
  type LoraModule,
  type LoraTarget,
  type ModelShape,
  targetDims,
} from '../../kernel/model.ts';
import { largestMagnitude, toFloat32 } from '../../safetensors/convert.ts';
import { isFloatDtype } from '../../safetensors/dtype.ts';
import type { TensorInfo } from '../../safetensors/header.ts';
import { clip } from '../../safetensors/json.ts';
import type { TensorSource } from '../../safetensors/source.ts';
import type { AdapterLimits } from '../limits.ts';
import type { AdapterConfig, PatternEntry } from './config.ts';
import { moduleName, parseTensorName, tensorName, unsupportedTensorReason } from './names.ts';

/** Facts about an adapter that a registry shows. */
export interface AdapterSummary {
  readonly rankMax: number;
  /** In the order of `LORA_TARGETS`. */
  readonly targets: readonly LoraTarget[];
  /** Layers with at least one module, ascending. */
  readonly layers: readonly number[];
  readonly moduleCount: number;
  readonly parameters: number;
  /** Bytes of all tensors as stored. */
  readonly tensorBytes: number;
  /** Some module has a scale and a B that are not zero; otherwise the adapter changes nothing. */
  readonly hasEffect: boolean;
}

/** An adapter's updates, ordered by layer and then by `LORA_TARGETS`, and what they amount to. */
interface PeftAdapter {
  readonly modules: readonly LoraModule[];
  readonly summary: AdapterSummary;
}

interface PlannedModule {
  readonly layer: number;
  readonly target: LoraTarget;
  readonly rank: number;
  readonly scale: number;
  readonly a: TensorInfo;
  readonly b: TensorInfo;
}

/**
 * Reads a PEFT LoRA adapter against a backbone's shape. Everything about names, types, shapes and ranks is checked
 * from the header before the first weight is read. The tensors are the truth about targets; what the configuration
 * says about ranks must agree with them.
 */
export async function readPeftAdapter(
  input: { readonly config: AdapterConfig; readonly tensors: TensorSource },
  shape: ModelShape,
  limits: AdapterLimits,
): Promise<PeftAdapter> {
  const modules: LoraModule[] = [];
  const summary = await visitPeftAdapter(input, shape, limits, (module) => modules.push(module));
  return { modules, summary };
}

/** {@link readPeftAdapter} for callers that look at one module at a time, so that memory stays that of one module. */
export async function visitPeftAdapter(
  input: { readonly config: AdapterConfig; readonly tensors: TensorSource },
  shape: ModelShape,
  limits: AdapterLimits,
  visit: (module: LoraModule) => void,
): Promise<AdapterSummary> {
  const plan = await planModules(input.config, input.tensors.tensors, shape, limits);
  let hasEffect = false;
  for (const { layer, target, rank, scale, a, b } of plan) {
    const readA = await readMatrix(input.tensors, a);
    const readB = await readMatrix(input.tensors, b);
    const module = { layer, target, rank, scale, a: readA.values, b: readB.values };
    checkFoldable(module, readB.largest);
    hasEffect ||= scale !== 0 && readB.largest > 0 && readA.largest > 0;
    visit(module);
  }
  return summarise(plan, hasEffect);
}

/** The modules that the tensors make up, or the first reason to refuse them. */
async function planModules(
  config: AdapterConfig,
  tensors: ReadonlyMap<string, TensorInfo>,
  shape: ModelShape,
  limits: AdapterLimits,
): Promise<readonly PlannedModule[]> {
  if (tensors.size === 0) {
    throw new PatchbayError(
      'ADAPTER_NO_EFFECT',
      'The adapter has no tensors: it matches no module of the backbone.',
    );
  }
  const halves = pairUp(tensors, shape);
  const plan: PlannedModule[] = [];
  for (let layer = 0; layer < shape.layers; layer++) {
    for (const target of LORA_TARGETS) {
      const half = halves.get(moduleName(layer, target));
      if (half !== undefined) plan.push(planModule(layer, target, half, config, shape, limits));
    }
    // Hostile patterns make a layer take milliseconds; other work of this thread must get its turn.
    await setImmediate();
  }
  return plan;
}

interface Halves {
  readonly A?: TensorInfo;
  readonly B?: TensorInfo;
}

function pairUp(tensors: ReadonlyMap<string, TensorInfo>, shape: ModelShape): ReadonlyMap<string, Halves> {
  const halves = new Map<string, Halves>();
  for (const info of tensors.values()) {
    const role = parseTensorName(info.name);
    if (role === null || role.layer >= shape.layers) throw unknownTensor(info.name, shape);
    const module = moduleName(role.layer, role.target);
    const known = halves.get(module) ?? {};
    if (known[role.matrix] !== undefined) {
      throw new PatchbayError('ADAPTER_TENSOR_DUPLICATE', `Two tensors are ${role.matrix} of ${module}.`, {
        field: clip(info.name),
      });
    }
    halves.set(module, { ...known, [role.matrix]: info });
  }
  return halves;
}

function unknownTensor(name: string, shape: ModelShape): PatchbayError {
  const shown = clip(name);
  const feature = unsupportedTensorReason(name);
  if (feature !== null) {
    return new PatchbayError(
      'ADAPTER_UNSUPPORTED',
      `The tensor "${shown}" means ${feature}, which is not supported.`,
      {
        field: shown,
        meta: { feature },
      },
    );
  }
  return new PatchbayError(
    'ADAPTER_TENSOR_UNKNOWN',
    `The tensor "${shown}" belongs to no linear projection of a ${shape.family} backbone with ${shape.layers} layers.`,
    { field: shown },
  );
}

function planModule(
  layer: number,
  target: LoraTarget,
  { A: a, B: b }: Halves,
  config: AdapterConfig,
  shape: ModelShape,
  limits: AdapterLimits,
): PlannedModule {
  const name = moduleName(layer, target);
  if (a === undefined || b === undefined) {
    const [has, lacks] = a === undefined ? (['B', 'A'] as const) : (['A', 'B'] as const);
    throw new PatchbayError('ADAPTER_TENSOR_UNPAIRED', `${name} has ${has} without ${lacks}.`, {
      field: tensorName({ layer, target, matrix: lacks }),
    });
  }
  for (const info of [a, b]) {
    if (!isFloatDtype(info.dtype)) {
      throw new PatchbayError('SAFETENSORS_DTYPE', `"${info.name}" is ${info.dtype}, not F32, F16 or BF16.`, {
        field: info.name,
      });
    }
  }
  const dims = targetDims(shape, target);
  const rank = a.shape[0] ?? 0;
  checkShape(a, [rank, dims.in]);
  checkShape(b, [dims.out, rank]);
  if (rank < 1 || rank > limits.maxRank) {
    throw new PatchbayError('ADAPTER_RANK', `${name} has rank ${rank}; allowed are 1 to ${limits.maxRank}.`, {
      field: a.name,
      meta: { rank, maxRank: limits.maxRank },
    });
  }
  const configured = firstMatch(config.rankPattern, name) ?? config.r;
  if (configured !== rank) {
    throw new PatchbayError(
      'ADAPTER_RANK',
      `${name} has rank ${rank} by its tensors, and the configuration says ${configured}.`,
      { field: a.name, meta: { rank, configured } },
    );
  }
  const alpha = firstMatch(config.alphaPattern, name) ?? config.loraAlpha;
  const scale = config.useRslora ? alpha / Math.sqrt(rank) : alpha / rank;
  return { layer, target, rank, scale, a, b };
}

function checkShape(info: TensorInfo, wanted: readonly [number, number]): void {
  if (info.shape.length === 2 && info.shape[0] === wanted[0] && info.shape[1] === wanted[1]) return;
  throw new PatchbayError(
    'ADAPTER_SHAPE',
    `"${info.name}" has shape [${info.shape.join(', ')}]; the backbone needs [${wanted.join(', ')}].`,
    { field: info.name },
  );
}

function firstMatch(entries: readonly PatternEntry[], name: string): number | undefined {
  return entries.find((entry) => entry.pattern.matches(name))?.value;
}

/** A matrix and its largest absolute value, which two checks need. */
async function readMatrix(
  tensors: TensorSource,
  info: TensorInfo,
): Promise<{ readonly values: Float32Array; readonly largest: number }> {
  const values = toFloat32(await tensors.readTensor(info.name), info.dtype);
  const largest = largestMagnitude(values);
  if (Number.isNaN(largest)) {
    throw new PatchbayError('ADAPTER_NOT_FINITE', `"${info.name}" contains NaN or Inf.`, {
      field: info.name,
    });
  }
  return { values, largest };
}

/** The engine folds the scale into B in 32-bit floats; an overflow there could reach other sequences of the batch. */
function checkFoldable({ layer, target, scale }: LoraModule, largest: number): void {
  if (Number.isFinite(Math.fround(scale)) && Number.isFinite(Math.fround(scale * largest))) return;
  throw new PatchbayError(
    'ADAPTER_BREAKS_OUTPUT',
    `The scale ${scale} of ${moduleName(layer, target)} takes its B out of the range of 32-bit floats.`,
    { field: tensorName({ layer, target, matrix: 'B' }) },
  );
}

function summarise(plan: readonly PlannedModule[], hasEffect: boolean): AdapterSummary {
  return {
    rankMax: Math.max(...plan.map((module) => module.rank)),
    targets: LORA_TARGETS.filter((target) => plan.some((module) => module.target === target)),
    layers: [...new Set(plan.map((module) => module.layer))],
    moduleCount: plan.length,
    parameters: plan.reduce((sum, { a, b }) => sum + a.elements + b.elements, 0),
    tensorBytes: plan.reduce((sum, { a, b }) => sum + a.bytes + b.bytes, 0),
    hasEffect,
  };
}

import { LORA_TARGETS, type LoraTarget } from '../../kernel/model.ts';

/** Which matrix of which module a tensor is. */
interface TensorRole {
  readonly layer: number;
  readonly target: LoraTarget;
  readonly matrix: 'A' | 'B';
}

/** The submodule of a layer that holds each projection. */
const PARENT: Readonly<Record<LoraTarget, 'self_attn' | 'mlp'>> = {
  q_proj: 'self_attn',
  k_proj: 'self_attn',
  v_proj: 'self_attn',
  o_proj: 'self_attn',
  gate_proj: 'mlp',
  up_proj: 'mlp',
  down_proj: 'mlp',
};

// PEFT saves without the adapter's name, so `lora_A.default.weight` is not a saved name and PEFT would not load it.
const NAME =
  /^base_model\.model\.model\.layers\.(0|[1-9][0-9]{0,5})\.(self_attn|mlp)\.([a-z]+_proj)\.lora_([AB])\.weight$/;

const TARGETS: ReadonlyMap<string, LoraTarget> = new Map(LORA_TARGETS.map((target) => [target, target]));

/** Reads a tensor's name as PEFT writes it, or null when it names no matrix of a LoRA module. */
export function parseTensorName(name: string): TensorRole | null {
  const match = NAME.exec(name);
  if (match === null) return null;
  const target = TARGETS.get(match[3] ?? '');
  if (target === undefined || PARENT[target] !== match[2]) return null;
  return { layer: Number(match[1]), target, matrix: match[4] === 'A' ? 'A' : 'B' };
}

/** The module's name in the backbone, which patterns are matched against. */
export function moduleName(layer: number, target: LoraTarget): string {
  return `model.layers.${layer}.${PARENT[target]}.${target}`;
}

/** The tensor's name in the file. */
export function tensorName(role: TensorRole): string {
  return `base_model.model.${moduleName(role.layer, role.target)}.lora_${role.matrix}.weight`;
}

/**
 * Why a name that is not a LoRA matrix of a projection cannot be served, when it is of a kind that PEFT writes for
 * other features; null when it is of no known kind.
 */
export function unsupportedTensorReason(name: string): string | null {
  if (/\.lora_embedding_[AB]$/.test(name)) return 'LoRA on the embedding';
  if (/(^|\.)lm_head(\.|$)/.test(name)) return 'LoRA on the output head';
  if (/(^|\.)embed_tokens(\.|$)/.test(name)) return 'changes to the embedding';
  if (/\.lora_magnitude_vector(\.|$)/.test(name)) return 'DoRA';
  if (/\.lora_[AB]\.bias$/.test(name)) return 'lora_bias';
  if (/\.modules_to_save\./.test(name)) return 'modules_to_save';
  return null;
}

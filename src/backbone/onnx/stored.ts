import type { LoraSite } from '../../kernel/graph.ts';
import type { LoraTarget } from '../../kernel/model.ts';

/** How a stored weight takes part in the graph. */
export type WeightBits = 32 | 8 | 4;

/** Quantization block along the input dimension of `MatMulNBits`, for 4 bits. */
export const QUANT_BLOCK = 32;

/** The linears of a layer. Gate and up are two, since their results are used apart; q, k and v are taken apart by head. */
export const LINEARS = {
  qkv: { site: 'qkv', targets: ['q_proj', 'k_proj', 'v_proj'] },
  o: { site: 'o', targets: ['o_proj'] },
  gate: { site: 'gate_up', targets: ['gate_proj'] },
  up: { site: 'gate_up', targets: ['up_proj'] },
  down: { site: 'down', targets: ['down_proj'] },
} as const satisfies Record<
  string,
  { readonly site: LoraSite['name']; readonly targets: readonly LoraTarget[] }
>;
export type LinearName = keyof typeof LINEARS;
export const LINEAR_NAMES: readonly LinearName[] = ['qkv', 'o', 'gate', 'up', 'down'];

/** Names of stored tensors, shared between the writer of the data file and the graph. */
export const WEIGHTS = {
  embedding: 'embedding',
  head: 'head',
  finalNorm: 'final_norm',
  ropeCos: 'rope_cos',
  ropeSin: 'rope_sin',
  inputNorm: (layer: number): string => `l${layer}_input_norm`,
  postNorm: (layer: number): string => `l${layer}_post_norm`,
  qNorm: (layer: number): string => `l${layer}_q_norm`,
  kNorm: (layer: number): string => `l${layer}_k_norm`,
  /** A linear, rows `[out, in]`; `qkv` has three projections one after the other. */
  linear: (layer: number, linear: LinearName): string => `l${layer}_${linear}`,
  bias: (layer: number, linear: LinearName): string => `l${layer}_${linear}_bias`,
  quantized: (name: string): string => `${name}_q`,
  scales: (name: string): string => `${name}_s`,
} as const;

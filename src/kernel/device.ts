import type { ModelShape } from './model.ts';

/**
 * The contract between the graphs that an import writes for devices with memory of their own and the runner that feeds
 * them. Keys, values and adapter pages are tensors on the device that go in by name and come out under
 * {@link nextName}: the runtime's Node binding offers no other way to change what is on a device. Letters in shapes: N
 * packed tokens, B rows, S tokens of the longest row, T tokens that the longest row sees, P places of a pool or bank, W
 * places written, G adapter pages, M tokens of the largest group, J pages per token, O tokens whose logits are wanted.
 */
export const DEVICE_INPUTS = {
  /** `[N]` int64: token ids, packed without padding. */
  tokenIds: 'token_ids',
  /** `[1, N]` int64: absolute positions. */
  positions: 'positions',
  /** `[B, S]` int64: packed index of every row's s-th token; padding repeats a token of the same row. */
  laneIndex: 'lane_index',
  /** `[N]` int64: flattened `[B, S]` index of every packed token. */
  unlaneIndex: 'unlane_index',
  /** `[B, T]` int64: place of every row's t-th token; padding repeats a place of the same row. */
  keyIndex: 'key_index',
  /** `[B, 1, 1, S, T]` float32: 0 where a token may look, a large negative number elsewhere. */
  mask: 'attention_mask',
  /** `[5]` int64: `[B, kvHeads, heads / kvHeads, S, T]`. */
  scoreShape: 'score_shape',
  /** `[4]` int64: `[B, kvHeads, heads / kvHeads * S, T]`. */
  scoreMatrixShape: 'score_matrix_shape',
  /** `[W, 1]` int64: places that are written. */
  writeIndex: 'write_index',
  /** `[W]` int64: packed index of the token that is written there; N writes zeros. */
  writeSource: 'write_source',
  /** `[O]` int64: packed indices of the tokens whose logits are wanted. */
  logitIndex: 'logit_index',
  /** `[G]` int64: places of the bank that the run reads. */
  pageSlots: 'page_slots',
  /** `[G, M]` int64: packed index of every group's m-th token; padding is N, which reads zeros. */
  groupIndex: 'group_index',
  /** `[N, J]` int64: flattened `[G, M]` index of every token's j-th page. */
  ungroupIndex: 'ungroup_index',
  /** `[N, 1, J]` float32: blend weight of every token's j-th page. */
  pageWeight: 'page_weight',
} as const;

/** Inputs of the graphs that rearrange what is on the device. */
export const REARRANGE_INPUTS = {
  /** `[P']` int64: which old place every new place takes; place 0 holds zeros. */
  keep: 'keep',
  /** `[W, 1]` int64: new places that are overwritten with {@link pageInputName}. Only for the bank. */
  writeIndex: 'write_index',
} as const;

/** `[O, V]` float32. */
export const DEVICE_LOGITS = 'logits';

/** Name of a `[P, kvHeads * headDim]` pool. */
export function poolName(layer: number, kind: 'key' | 'value'): string {
  return `pool_${kind}_${layer}`;
}

/** All pools, layer by layer. */
export function poolNames(shape: ModelShape): readonly string[] {
  return Array.from({ length: shape.layers }, (_, layer) => [
    poolName(layer, 'key'),
    poolName(layer, 'value'),
  ]).flat();
}

/** Name under which a device tensor comes out of a graph that changed it. */
export function nextName(name: string): string {
  return `next_${name}`;
}

/** Name of the `[W, rows, columns]` matrices that are written into a bank tensor. */
export function pageInputName(bank: string): string {
  return `page_${bank}`;
}

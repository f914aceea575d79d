import { type LoraTarget, type ModelShape, targetDims } from './model.ts';

/**
 * The contract between the graph that an import writes and the runner that feeds it: names of inputs and outputs,
 * and which adapter matrices stand in which bank. Letters in shapes: N packed tokens of a run, B rows, S tokens of
 * the longest row, Bc rows of a cache segment, Tc its capacity, G groups (adapter pages), M tokens of the largest
 * group, J pages per token, O tokens that are followed by a choice, P of them whose logits are wanted, R page rank.
 */

/**
 * Rows of one run may lie in caches of this many different capacities: each has its own inputs, its *segment*, so
 * that rows of different length are decoded in one run and none reads the capacity of the longest. A segment costs a
 * run its nodes even where it has no rows (3 % of a small model's decode step), a second run costs the weights again.
 */
export const CACHE_SEGMENTS = 2;

export const GRAPH_INPUTS = {
  /** `[N]` int64: token ids, packed without padding. */
  tokenIds: 'token_ids',
  /** `[B, S]` int64: absolute position of every row's s-th token. */
  positions: 'positions',
  /** `[B, S]` int64: packed index of every row's s-th token; padding repeats a token of the same row. */
  laneIndex: 'lane_index',
  /** `[N]` int64: flattened `[B, S]` index of every packed token. */
  unlaneIndex: 'unlane_index',
  /** `[CACHE_SEGMENTS]` int64: rows of every segment; lanes stand segment by segment. */
  segmentRows: 'segment_rows',
  /** `[O]` int64: packed indices of the tokens after which one is chosen. */
  logitIndex: 'logit_index',
  /** `[P]` int64: which of those return all their logits. */
  logitRows: 'logit_rows',
  /** `[G, M]` int64: packed index of every group's m-th token; padding is N, which reads zeros. */
  groupIndex: 'group_index',
  /** `[U, J, 2]` int64: group and member of every token's j-th page; U is N, or 1 when no token has a page. */
  ungroupIndex: 'ungroup_index',
  /** `[N]` int64, in place of the two around it where every token has one adapter: flattened `[G, M]` index of each. */
  memberIndex: 'member_index',
  /** `[U, 1, J]` float32: blend weight of every token's j-th page. */
  pageWeight: 'page_weight',
} as const;

export const GRAPH_OUTPUTS = {
  /** `[P, V]` float32. */
  logits: 'logits',
  /** `[O]` int64: the token with the largest logit, the lowest id of several. */
  best: 'best',
  /** `[O, 3]` float32: largest logit, logarithm of the sum of all exponentials, smallest logit. */
  summary: 'summary',
  /** `[2 * layers * B, kvHeads, 1, S, headDim]` float32: keys of layer 0, values of layer 0, keys of layer 1, … */
  newKv: 'new_kv',
} as const;

/** Name of the `[Bc, kvHeads, 1, Tc, headDim]` cache input of a layer and segment. */
export function pastName(layer: number, kind: 'key' | 'value', segment: number): string {
  return `past_${kind}_${layer}_${segment}`;
}

/** Name of a segment's `[Bc, 1, 1, S, Tc + S]` float32 mask: 0 where a token may look, minus infinity elsewhere. */
export function maskName(segment: number): string {
  return `attention_mask_${segment}`;
}

/** Name of a segment's `[2]` int64 input `[Tc, S]`. */
export function keySplitName(segment: number): string {
  return `key_split_${segment}`;
}

/** Projections that read the same activation share one fused A matrix: a site. */
export interface LoraSite {
  readonly name: 'qkv' | 'o' | 'gate_up' | 'down';
  readonly targets: readonly LoraTarget[];
}

export const LORA_SITES: readonly LoraSite[] = [
  { name: 'qkv', targets: ['q_proj', 'k_proj', 'v_proj'] },
  { name: 'o', targets: ['o_proj'] },
  { name: 'gate_up', targets: ['gate_proj', 'up_proj'] },
  { name: 'down', targets: ['down_proj'] },
];

/** One bank of adapter matrices: input `name` of shape `[G, rows, columns]`. */
export interface BankTensor {
  readonly name: string;
  readonly layer: number;
  readonly kind: 'a' | 'b';
  /** Targets whose matrices stand side by side along the columns (A: all of a site; B: exactly one). */
  readonly targets: readonly LoraTarget[];
  readonly rows: number;
  readonly columns: number;
  /** Position of this matrix inside a page, in elements. */
  readonly offset: number;
}

/** Name of a site's fused A bank: `[G, in, R * targets]`. */
export function bankAName(layer: number, site: LoraSite): string {
  return `lora_a_${layer}_${site.name}`;
}

/** Name of a projection's B bank: `[G, R, out]`. */
export function bankBName(layer: number, target: LoraTarget): string {
  return `lora_b_${layer}_${target}`;
}

/**
 * Lays out one page: the slices of rank `pageRank` of every A and B of an adapter, matrix after matrix.
 * @returns the banks in page order, and the page's length in elements
 */
export function pageLayout(
  shape: ModelShape,
  pageRank: number,
): { readonly tensors: readonly BankTensor[]; readonly elements: number } {
  const tensors: BankTensor[] = [];
  let offset = 0;
  const push = (tensor: Omit<BankTensor, 'offset'>): void => {
    tensors.push({ ...tensor, offset });
    offset += tensor.rows * tensor.columns;
  };
  for (let layer = 0; layer < shape.layers; layer++) {
    for (const site of LORA_SITES) {
      const [first] = site.targets;
      if (first === undefined) continue;
      push({
        name: bankAName(layer, site),
        layer,
        kind: 'a',
        targets: site.targets,
        rows: targetDims(shape, first).in,
        columns: pageRank * site.targets.length,
      });
      for (const target of site.targets) {
        const columns = targetDims(shape, target).out;
        push({
          name: bankBName(layer, target),
          layer,
          kind: 'b',
          targets: [target],
          rows: pageRank,
          columns,
        });
      }
    }
  }
  return { tensors, elements: offset };
}

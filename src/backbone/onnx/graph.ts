import {
  bankAName,
  bankBName,
  GRAPH_INPUTS,
  GRAPH_OUTPUTS,
  LORA_SITES,
  type LoraSite,
  pastName,
} from '../../kernel/graph.ts';
import { type ModelShape, targetDims } from '../../kernel/model.ts';
import { GraphBuilder } from './builder.ts';
import type { GraphSpec, InitializerSpec } from './proto.ts';

/** How a stored weight takes part in the graph. */
export type WeightBits = 32 | 8 | 4;

/** Quantization block along the input dimension of `MatMulNBits`. */
export const QUANT_BLOCK = 32;

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
  /** Fused linear of a site, rows `[out, in]` one projection after the other. */
  linear: (layer: number, site: LoraSite['name']): string => `l${layer}_${site}`,
  bias: (layer: number, site: LoraSite['name']): string => `l${layer}_${site}_bias`,
  quantized: (name: string): string => `${name}_q`,
  scales: (name: string): string => `${name}_s`,
} as const;

/**
 * Builds the graph of a backbone that many adapters share: one run serves packed tokens of many rows, each with any
 * number of adapter pages, which are ordinary inputs.
 *
 * Linears see packed tokens `[N, …]`, so padding costs them nothing. Attention sees rows: tokens are gathered into
 * lanes `[B, S]`, attend to their row's cache `[B, kvHeads, T, headDim]` and to each other, and are gathered back.
 * It is written in plain operators, because `GroupQueryAttention` on CPU copies the whole cache and takes either many
 * rows or many tokens with a past, not both (docs/decisions/0001-step-and-attention.md).
 *
 * @param stored the tensors in the data file, by the names in {@link WEIGHTS}
 */
export function buildGraph(
  shape: ModelShape,
  bits: WeightBits,
  stored: readonly InitializerSpec[],
): GraphSpec {
  const g = new GraphBuilder();
  const available = new Set(stored.map((tensor) => tensor.name));
  for (const tensor of stored) g.initializer(tensor);
  declareInputs(g, shape);

  const embedded = g.op('Gather', [WEIGHTS.embedding, GRAPH_INPUTS.tokenIds]);
  let residual = embedded;
  let delta: string | null = null;
  const newKv: string[] = [];
  for (let layer = 0; layer < shape.layers; layer++) {
    const attentionIn = norm(g, shape, residual, delta, WEIGHTS.inputNorm(layer));
    const attention = attentionBlock(g, shape, bits, layer, attentionIn.normed, available);
    newKv.push(attention.newKey, attention.newValue);
    const mlpIn = norm(g, shape, attentionIn.sum, attention.out, WEIGHTS.postNorm(layer));
    delta = mlpBlock(g, shape, bits, layer, mlpIn.normed, available);
    residual = mlpIn.sum;
  }
  const final = norm(g, shape, residual, delta, WEIGHTS.finalNorm);
  const wanted = g.op('Gather', [final.normed, GRAPH_INPUTS.logitIndex]);
  const head = shape.tiedEmbeddings && bits === 32 ? WEIGHTS.embedding : WEIGHTS.head;
  const logits = linear(g, wanted, head, bits, shape.hiddenSize, shape.vocabSize, null);
  g.op('Identity', [logits], {}, GRAPH_OUTPUTS.logits);
  g.output(GRAPH_OUTPUTS.logits, 'float32', ['O', shape.vocabSize]);
  g.op('Concat', newKv, { axis: { int: 0 } }, GRAPH_OUTPUTS.newKv);
  g.output(GRAPH_OUTPUTS.newKv, 'float32', ['KVB', shape.kvHeads, 'S', shape.headDim]);
  return g.build();
}

function declareInputs(g: GraphBuilder, shape: ModelShape): void {
  g.input(GRAPH_INPUTS.tokenIds, 'int64', ['N']);
  g.input(GRAPH_INPUTS.positions, 'int64', [1, 'N']);
  g.input(GRAPH_INPUTS.laneIndex, 'int64', ['B', 'S']);
  g.input(GRAPH_INPUTS.unlaneIndex, 'int64', ['N']);
  g.input(GRAPH_INPUTS.mask, 'float32', ['B', 1, 1, 'S', 'K']);
  g.input(GRAPH_INPUTS.keySplit, 'int64', [2]);
  g.input(GRAPH_INPUTS.scoreShape, 'int64', [5]);
  g.input(GRAPH_INPUTS.scoreMatrixShape, 'int64', [4]);
  g.input(GRAPH_INPUTS.logitIndex, 'int64', ['O']);
  g.input(GRAPH_INPUTS.groupIndex, 'int64', ['G', 'M']);
  g.input(GRAPH_INPUTS.ungroupIndex, 'int64', ['N', 'J']);
  g.input(GRAPH_INPUTS.pageWeight, 'float32', ['N', 1, 'J']);
  for (let layer = 0; layer < shape.layers; layer++) {
    for (const kind of ['key', 'value'] as const) {
      g.input(pastName(layer, kind), 'float32', ['B', shape.kvHeads, 'T', shape.headDim]);
    }
    for (const site of LORA_SITES) {
      const [first] = site.targets;
      if (first === undefined) continue;
      g.input(bankAName(layer, site), 'float32', [
        'G',
        targetDims(shape, first).in,
        `R${site.targets.length}`,
      ]);
      for (const target of site.targets) {
        g.input(bankBName(layer, target), 'float32', ['G', 'R', targetDims(shape, target).out]);
      }
    }
  }
}

function norm(
  g: GraphBuilder,
  shape: ModelShape,
  residual: string,
  delta: string | null,
  scale: string,
): { normed: string; sum: string } {
  if (delta !== null) return g.skipRmsNorm(residual, delta, scale, shape.rmsNormEps);
  return { normed: rmsNorm(g, shape, residual, scale), sum: residual };
}

function rmsNorm(g: GraphBuilder, shape: ModelShape, input: string, scale: string): string {
  const attributes = { axis: { int: -1 }, epsilon: { float: shape.rmsNormEps }, stash_type: { int: 1 } };
  return g.op('SimplifiedLayerNormalization', [input, scale], attributes);
}

function linear(
  g: GraphBuilder,
  input: string,
  weight: string,
  bits: WeightBits,
  inWidth: number,
  outWidth: number,
  bias: string | null,
): string {
  if (bits === 32) {
    const inputs = bias === null ? [input, weight] : [input, weight, bias];
    return g.op('Gemm', inputs, { transB: { int: 1 } });
  }
  const attributes = {
    K: { int: inWidth },
    N: { int: outWidth },
    bits: { int: bits },
    block_size: { int: QUANT_BLOCK },
    accuracy_level: { int: 4 },
  };
  const product = g.msOp(
    'MatMulNBits',
    [input, WEIGHTS.quantized(weight), WEIGHTS.scales(weight)],
    attributes,
  );
  return bias === null ? product : g.op('Add', [product, bias]);
}

/** A site's fused linear plus the updates of every token's adapter pages: `y = Wx + Σ weight · B(Ax)`. */
function adaptedLinear(
  g: GraphBuilder,
  shape: ModelShape,
  bits: WeightBits,
  layer: number,
  siteName: LoraSite['name'],
  input: string,
  available: ReadonlySet<string>,
): string {
  const site = LORA_SITES.find((candidate) => candidate.name === siteName);
  const first = site?.targets[0];
  if (site === undefined || first === undefined) throw new Error(`unknown site ${siteName}`);
  const inWidth = targetDims(shape, first).in;
  const outWidth = site.targets.reduce((sum, target) => sum + targetDims(shape, target).out, 0);
  const biasName = WEIGHTS.bias(layer, siteName);
  const bias = available.has(biasName) ? biasName : null;
  const base = linear(g, input, WEIGHTS.linear(layer, siteName), bits, inWidth, outWidth, bias);

  // Padding of groups reads a row of zeros behind the tokens: another sequence's token might hold NaN or Inf there,
  // and zero times those is not zero.
  const padded = g.op('Concat', [input, g.zeroRow(inWidth)], { axis: { int: 0 } });
  const grouped = g.op('Gather', [padded, GRAPH_INPUTS.groupIndex]);
  const low = g.op('MatMul', [grouped, bankAName(layer, site)]);
  const lows = site.targets.length === 1 ? [low] : g.split(low, 2, site.targets.length);
  const highs = site.targets.map((target, index) =>
    g.op('MatMul', [lows[index] ?? low, bankBName(layer, target)]),
  );
  const high = highs.length === 1 ? (highs[0] ?? low) : g.op('Concat', highs, { axis: { int: 2 } });
  const flat = g.reshape(high, [-1, outWidth]);
  const perPage = g.op('Gather', [flat, GRAPH_INPUTS.ungroupIndex]);
  const update = g.op('MatMul', [GRAPH_INPUTS.pageWeight, perPage]);
  return g.op('Add', [base, g.reshape(update, [-1, outWidth])]);
}

/** Rotary embedding (and Qwen3's norm per head) over packed tokens; returns `[N, heads * headDim]`. */
function rotate(
  g: GraphBuilder,
  shape: ModelShape,
  input: string,
  heads: number,
  headNorm: string | null,
): string {
  const width = heads * shape.headDim;
  const normed =
    headNorm === null
      ? input
      : g.reshape(rmsNorm(g, shape, g.reshape(input, [-1, heads, shape.headDim]), headNorm), [-1, width]);
  const rotated = g.msOp(
    'RotaryEmbedding',
    [g.reshape(normed, [1, -1, width]), GRAPH_INPUTS.positions, WEIGHTS.ropeCos, WEIGHTS.ropeSin],
    { num_heads: { int: heads }, interleaved: { int: 0 } },
  );
  return g.reshape(rotated, [-1, width]);
}

function attentionBlock(
  g: GraphBuilder,
  shape: ModelShape,
  bits: WeightBits,
  layer: number,
  input: string,
  available: ReadonlySet<string>,
): { out: string; newKey: string; newValue: string } {
  const { heads, kvHeads, headDim } = shape;
  const perKvHead = heads / kvHeads;
  const fused = adaptedLinear(g, shape, bits, layer, 'qkv', input, available);
  const widths = g.ints([heads * headDim, kvHeads * headDim, kvHeads * headDim]);
  const [q = '', k = '', v = ''] = g.split(fused, 1, 3, widths);
  const queries = rotate(g, shape, q, heads, shape.qkNorm ? WEIGHTS.qNorm(layer) : null);
  const keys = rotate(g, shape, k, kvHeads, shape.qkNorm ? WEIGHTS.kNorm(layer) : null);

  const lanes = (packed: string): string => g.op('Gather', [packed, GRAPH_INPUTS.laneIndex]);
  // Query heads that share a key head stand together, so the cache is read in place, never repeated.
  const queryLanes = g.op('Reshape', [lanes(queries), g.ints([0, 0, kvHeads, perKvHead, headDim])]);
  const grouped = g.transpose(queryLanes, [0, 2, 3, 1, 4]);
  const query = g.op('Reshape', [grouped, g.ints([0, kvHeads, -1, headDim])]);
  const heads4 = (packed: string): string =>
    g.transpose(g.op('Reshape', [lanes(packed), g.ints([0, 0, kvHeads, headDim])]), [0, 2, 1, 3]);
  const newKey = heads4(keys);
  const newValue = heads4(v);

  const scale = { transB: { int: 1 }, alpha: { float: 1 / Math.sqrt(headDim) } };
  const pastScores = g.msOp('FusedMatMul', [query, pastName(layer, 'key')], scale);
  const ownScores = g.msOp('FusedMatMul', [query, newKey], scale);
  const scores = g.op('Concat', [pastScores, ownScores], { axis: { int: 3 } });
  const masked = g.op('Add', [g.op('Reshape', [scores, GRAPH_INPUTS.scoreShape]), GRAPH_INPUTS.mask]);
  const weights = g.op('Softmax', [masked], { axis: { int: -1 } });
  const flat = g.op('Reshape', [weights, GRAPH_INPUTS.scoreMatrixShape]);
  const [pastWeights = '', ownWeights = ''] = g.split(flat, 3, 2, GRAPH_INPUTS.keySplit);
  const context = g.op('Add', [
    g.op('MatMul', [pastWeights, pastName(layer, 'value')]),
    g.op('MatMul', [ownWeights, newValue]),
  ]);
  const perQuery = g.reshape(context, [0, kvHeads, perKvHead, -1, headDim]);
  const laneOut = g.reshape(g.transpose(perQuery, [0, 3, 1, 2, 4]), [-1, heads * headDim]);
  const packed = g.op('Gather', [laneOut, GRAPH_INPUTS.unlaneIndex]);
  return { out: adaptedLinear(g, shape, bits, layer, 'o', packed, available), newKey, newValue };
}

function mlpBlock(
  g: GraphBuilder,
  shape: ModelShape,
  bits: WeightBits,
  layer: number,
  input: string,
  available: ReadonlySet<string>,
): string {
  const fused = adaptedLinear(g, shape, bits, layer, 'gate_up', input, available);
  const [gate = '', up = ''] = g.split(fused, 1, 2);
  // QuickGelu with alpha 1 is x * sigmoid(x), that is SiLU, in one pass.
  const activated = g.msOp('QuickGelu', [gate], { alpha: { float: 1 } });
  return adaptedLinear(g, shape, bits, layer, 'down', g.op('Mul', [activated, up]), available);
}

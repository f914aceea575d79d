import {
  bankAName,
  bankBName,
  CACHE_SEGMENTS,
  GRAPH_INPUTS,
  GRAPH_OUTPUTS,
  keySplitName,
  LORA_SITES,
  type LoraSite,
  maskName,
  pastName,
} from '../../kernel/graph.ts';
import { type ModelShape, targetDims } from '../../kernel/model.ts';
import { GraphBuilder } from './builder.ts';
import type { GraphSpec, InitializerSpec } from './proto.ts';

/** How a stored weight takes part in the graph. */
export type WeightBits = 32 | 8 | 4;

/**
 * Which runs a graph serves. All forms compute the same and share their weights; a narrower one has fewer nodes, which
 * is most of what a decode step of a small model costs besides its products (docs/decisions/0016-graph-forms.md).
 */
export interface GraphForm {
  /**
   * `any`: rows of any number of tokens, with or without a past, in up to {@link CACHE_SEGMENTS} capacities.
   * `single`: every row appends one token to a cache of the same capacity, in the order of the cache's slots.
   */
  readonly rows: 'any' | 'single';
  /** Whether the graph takes adapter pages. */
  readonly adapters: boolean;
}

/** Takes every run. */
export const GENERAL_FORM: GraphForm = { rows: 'any', adapters: true };

function segmentsOf(form: GraphForm): readonly number[] {
  return Array.from({ length: form.rows === 'any' ? CACHE_SEGMENTS : 1 }, (_, segment) => segment);
}

/** Quantization block along the input dimension of `MatMulNBits`, for 4 bits. */
export const QUANT_BLOCK = 32;

/** Levels on each side of zero of a quantized activation; unsigned, as the fast kernels want it, around the middle. */
const LEVELS = 127;
const MIDDLE = 128;
/** Keeps a row of zeros from being divided by zero. */
const LEAST_SCALE = 1e-30;

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
  form: GraphForm = GENERAL_FORM,
): GraphSpec {
  const g = new GraphBuilder();
  const context: Context = {
    g,
    shape,
    bits,
    form,
    available: new Set(stored.map((tensor) => tensor.name)),
  };
  for (const tensor of stored) g.initializer(tensor);
  declareInputs(g, shape, form);

  const embedded = g.op('Gather', [WEIGHTS.embedding, GRAPH_INPUTS.tokenIds]);
  let residual = embedded;
  let delta: string | null = null;
  const newKv: string[] = [];
  for (let layer = 0; layer < shape.layers; layer++) {
    const attentionIn = norm(g, shape, residual, delta, WEIGHTS.inputNorm(layer));
    const attention = attentionBlock(context, layer, attentionIn.normed);
    newKv.push(attention.newKey, attention.newValue);
    const mlpIn = norm(g, shape, attentionIn.sum, attention.out, WEIGHTS.postNorm(layer));
    delta = mlpBlock(context, layer, mlpIn.normed);
    residual = mlpIn.sum;
  }
  const final = norm(g, shape, residual, delta, WEIGHTS.finalNorm);
  const wanted = g.op('Gather', [final.normed, GRAPH_INPUTS.logitIndex]);
  const head = shape.tiedEmbeddings && bits === 32 ? WEIGHTS.embedding : WEIGHTS.head;
  const logits = linear(g, wanted, head, bits, shape.hiddenSize, shape.vocabSize, null);
  choices(g, shape, bits === 8 ? withFailures(g, logits, wanted) : logits);
  g.op('Concat', newKv, { axis: { int: 0 } }, GRAPH_OUTPUTS.newKv);
  g.output(GRAPH_OUTPUTS.newKv, 'float32', ['KVB', shape.kvHeads, 1, 'S', shape.headDim]);
  return g.build();
}

/** What every part of the graph needs to know. */
interface Context {
  readonly g: GraphBuilder;
  readonly shape: ModelShape;
  readonly bits: WeightBits;
  readonly form: GraphForm;
  /** Names of the stored tensors. */
  readonly available: ReadonlySet<string>;
}

/** Logits that are not finite where the state is not: as integers, a state that overflowed would look like any other. */
function withFailures(g: GraphBuilder, logits: string, state: string): string {
  const sum = g.op('ReduceSum', [state, g.ints([1])], { keepdims: { int: 1 } });
  return g.op('Add', [logits, g.op('Mul', [sum, g.float('zero', 0)])]);
}

/**
 * What a choice needs of the logits. A greedy one with its log-probability needs three numbers and no logits at all,
 * so a vocabulary leaves the runtime only for the sequences that draw from it.
 */
function choices(g: GraphBuilder, shape: ModelShape, logits: string): void {
  g.op('Gather', [logits, GRAPH_INPUTS.logitRows], {}, GRAPH_OUTPUTS.logits);
  g.output(GRAPH_OUTPUTS.logits, 'float32', ['P', shape.vocabSize]);
  g.op('ArgMax', [logits], { axis: { int: 1 }, keepdims: { int: 0 } }, GRAPH_OUTPUTS.best);
  g.output(GRAPH_OUTPUTS.best, 'int64', ['O']);
  const columns = ['ReduceMax', 'ReduceLogSumExp', 'ReduceMin'].map((reduce) =>
    g.op(reduce, [logits, g.ints([1])], { keepdims: { int: 1 } }),
  );
  g.op('Concat', columns, { axis: { int: 1 } }, GRAPH_OUTPUTS.summary);
  g.output(GRAPH_OUTPUTS.summary, 'float32', ['O', 3]);
}

function declareInputs(g: GraphBuilder, shape: ModelShape, form: GraphForm): void {
  g.input(GRAPH_INPUTS.tokenIds, 'int64', ['N']);
  g.input(GRAPH_INPUTS.positions, 'int64', ['B', 'S']);
  if (form.rows === 'any') {
    g.input(GRAPH_INPUTS.laneIndex, 'int64', ['B', 'S']);
    g.input(GRAPH_INPUTS.unlaneIndex, 'int64', ['N']);
    g.input(GRAPH_INPUTS.segmentRows, 'int64', [CACHE_SEGMENTS]);
  }
  g.input(GRAPH_INPUTS.logitIndex, 'int64', ['O']);
  g.input(GRAPH_INPUTS.logitRows, 'int64', ['P']);
  if (form.adapters) {
    g.input(GRAPH_INPUTS.groupIndex, 'int64', ['G', 'M']);
    g.input(GRAPH_INPUTS.ungroupIndex, 'int64', ['U', 'J', 2]);
    g.input(GRAPH_INPUTS.pageWeight, 'float32', ['U', 1, 'J']);
  }
  const segments = segmentsOf(form);
  for (const segment of segments) {
    g.input(maskName(segment), 'float32', [`B${segment}`, 1, 1, 'S', `K${segment}`]);
    g.input(keySplitName(segment), 'int64', [2]);
  }
  for (let layer = 0; layer < shape.layers; layer++) {
    for (const segment of segments) {
      const dims = [`B${segment}`, shape.kvHeads, 1, `T${segment}`, shape.headDim];
      for (const kind of ['key', 'value'] as const) g.input(pastName(layer, kind, segment), 'float32', dims);
    }
    for (const site of form.adapters ? LORA_SITES : []) {
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

/** `input * weight^T + addend`; the addend is `[N, out]`, or `[1, out]` for all tokens alike. */
function linear(
  g: GraphBuilder,
  input: string,
  weight: string,
  bits: WeightBits,
  inWidth: number,
  outWidth: number,
  addend: string | null,
): string {
  if (bits === 32) {
    const inputs = addend === null ? [input, weight] : [input, weight, addend];
    return g.op('Gemm', inputs, { transB: { int: 1 } });
  }
  const product =
    bits === 8 ? integerProduct(g, input, weight) : blockProduct(g, input, weight, inWidth, outWidth);
  return addend === null ? product : g.op('Add', [product, addend]);
}

/**
 * Product with 8-bit weights in integers, which processors with VNNI do three times as fast as in floats. Each row is
 * scaled by its own largest absolute value before it is quantized: `DynamicQuantizeLinear` would take one scale over all
 * rows, and one tenant's prompt would then change another's tokens.
 */
function integerProduct(g: GraphBuilder, input: string, weight: string): string {
  const largest = g.op('ReduceMax', [g.op('Abs', [input]), g.ints([1])], { keepdims: { int: 1 } });
  const scale = g.op('Max', [largest, g.float('least_scale', LEAST_SCALE)]);
  const level = g.float('level', 1 / LEVELS);
  const quantized = g.op('QuantizeLinear', [g.op('Div', [input, scale]), level, g.byte('middle', MIDDLE)]);
  const product = g.msOp('MatMulIntegerToFloat', [
    quantized,
    WEIGHTS.quantized(weight),
    level,
    WEIGHTS.scales(weight),
    g.byte('middle', MIDDLE),
  ]);
  return g.op('Mul', [product, scale]);
}

function blockProduct(
  g: GraphBuilder,
  input: string,
  weight: string,
  inWidth: number,
  outWidth: number,
): string {
  const attributes = {
    K: { int: inWidth },
    N: { int: outWidth },
    bits: { int: 4 },
    block_size: { int: QUANT_BLOCK },
    accuracy_level: { int: 4 },
  };
  return g.msOp('MatMulNBits', [input, WEIGHTS.quantized(weight), WEIGHTS.scales(weight)], attributes);
}

/** A site's fused linear plus the updates of every token's adapter pages: `y = Wx + Σ weight · B(Ax)`. */
function adaptedLinear(context: Context, layer: number, siteName: LoraSite['name'], input: string): string {
  const { g, shape, bits, form, available } = context;
  const site = LORA_SITES.find((candidate) => candidate.name === siteName);
  const first = site?.targets[0];
  if (site === undefined || first === undefined) throw new Error(`unknown site ${siteName}`);
  const inWidth = targetDims(shape, first).in;
  const outWidth = site.targets.reduce((sum, target) => sum + targetDims(shape, target).out, 0);
  const biasName = WEIGHTS.bias(layer, siteName);
  const bias = available.has(biasName) ? biasName : null;
  const weight = WEIGHTS.linear(layer, siteName);
  if (!form.adapters) return linear(g, input, weight, bits, inWidth, outWidth, bias);
  const update = pageUpdates(context, layer, site, input, inWidth, outWidth);
  const addend = bias === null ? update : g.op('Add', [update, bias]);
  return linear(g, input, weight, bits, inWidth, outWidth, addend);
}

/** `Σ weight · B(Ax)` over every token's adapter pages, `[N, out]`, or `[1, out]` when no token has a page. */
function pageUpdates(
  { g }: Context,
  layer: number,
  site: LoraSite,
  input: string,
  inWidth: number,
  outWidth: number,
): string {
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
  const perPage = g.op('GatherND', [high, GRAPH_INPUTS.ungroupIndex]);
  return g.reshape(g.op('MatMul', [GRAPH_INPUTS.pageWeight, perPage]), [-1, outWidth]);
}

/**
 * Rotary embedding, after the norms per head where there are any (Qwen3), of queries and keys
 * `[B, heads + kvHeads, S, headDim]`. The rotary tables carry the scale of the scores, see `rotaryTable`.
 */
function rotated(g: GraphBuilder, shape: ModelShape, layer: number, plain: string): string {
  let normed = plain;
  if (shape.qkNorm) {
    const [q = '', k = ''] = g.split(plain, 1, 2, g.ints([shape.heads, shape.kvHeads]));
    const parts = [rmsNorm(g, shape, q, WEIGHTS.qNorm(layer)), rmsNorm(g, shape, k, WEIGHTS.kNorm(layer))];
    normed = g.op('Concat', parts, { axis: { int: 1 } });
  }
  const inputs = [normed, GRAPH_INPUTS.positions, WEIGHTS.ropeCos, WEIGHTS.ropeSin];
  return g.msOp('RotaryEmbedding', inputs, { interleaved: { int: 0 } });
}

function attentionBlock(
  context: Context,
  layer: number,
  input: string,
): { out: string; newKey: string; newValue: string } {
  const { g, shape, form } = context;
  const { heads, kvHeads, headDim } = shape;
  const fused = adaptedLinear(context, layer, 'qkv', input);
  const lanes = form.rows === 'any' ? lanesOf(context, fused) : singleLanes(context, fused);
  const [plain = '', v = ''] = g.split(lanes, 1, 2, g.ints([heads + kvHeads, kvHeads]));
  const [q = '', k = ''] = g.split(rotated(g, shape, layer, plain), 1, 2, g.ints([heads, kvHeads]));
  const query = g.reshape(q, [0, kvHeads, heads / kvHeads, -1, headDim]);
  const newKey = g.reshape(k, [0, kvHeads, 1, -1, headDim]);
  const newValue = g.reshape(v, [0, kvHeads, 1, -1, headDim]);
  const width = heads * headDim;
  let packed: string;
  if (form.rows === 'any') {
    const lanesOut = g.reshape(attend(g, layer, query, newKey, newValue), [0, heads, -1, headDim]);
    const perToken = g.reshape(g.transpose(lanesOut, [0, 2, 1, 3]), [-1, width]);
    packed = g.op('Gather', [perToken, GRAPH_INPUTS.unlaneIndex]);
  } else {
    packed = g.reshape(attendSingle(g, layer, query, newKey, newValue), [-1, width]);
  }
  return { out: adaptedLinear(context, layer, 'o', packed), newKey, newValue };
}

/** Packed tokens `[N, …]` in lanes `[B, heads + 2 kvHeads, S, headDim]`. */
function lanesOf({ g, shape }: Context, fused: string): string {
  const { heads, kvHeads, headDim } = shape;
  const gathered = g.op('Gather', [fused, GRAPH_INPUTS.laneIndex]);
  return g.transpose(g.reshape(gathered, [0, 0, heads + 2 * kvHeads, headDim]), [0, 2, 1, 3]);
}

/** One token a lane, in the order of the lanes: the same numbers with other dimensions. */
function singleLanes({ g, shape }: Context, fused: string): string {
  return g.reshape(fused, [-1, shape.heads + 2 * shape.kvHeads, 1, shape.headDim]);
}

/** {@link attend} for lanes of one token and one segment, which need not be taken apart. */
function attendSingle(
  g: GraphBuilder,
  layer: number,
  query: string,
  newKey: string,
  newValue: string,
): string {
  const keys = { transB: { int: 1 } };
  const own = g.msOp('FusedMatMul', [query, newKey], keys);
  const past = g.msOp('FusedMatMul', [query, pastName(layer, 'key', 0)], keys);
  const scores = g.op('Add', [g.op('Concat', [past, own], { axis: { int: 4 } }), maskName(0)]);
  const weights = g.op('Softmax', [scores], { axis: { int: -1 } });
  const [onPast = '', onOwn = ''] = g.split(weights, 4, 2, keySplitName(0));
  const pastContext = g.op('MatMul', [onPast, pastName(layer, 'value', 0)]);
  return g.op('Add', [pastContext, g.op('Mul', [onOwn, newValue])]);
}

/**
 * Attention of lanes `[B, kvHeads, heads per kvHead, S, headDim]` to their caches, segment by segment, and to each
 * other. The query heads of one key head are a batch dimension over which the cache is broadcast: a decode step then
 * multiplies vectors with matrices that are read in place, where rows of several heads together would have the
 * runtime repack the cache for a matrix product, at twice the time (docs/decisions/0014-step-speed.md).
 */
function attend(g: GraphBuilder, layer: number, query: string, newKey: string, newValue: string): string {
  const keys = { transB: { int: 1 } };
  const perSegment = (input: string): readonly string[] =>
    g.split(input, 0, CACHE_SEGMENTS, GRAPH_INPUTS.segmentRows);
  const queries = perSegment(query);
  const own = perSegment(g.msOp('FusedMatMul', [query, newKey], keys));
  const pastContexts: string[] = [];
  const ownWeights: string[] = [];
  for (const segment of segmentsOf(GENERAL_FORM)) {
    const past = g.msOp('FusedMatMul', [queries[segment] ?? '', pastName(layer, 'key', segment)], keys);
    const scores = g.op('Concat', [past, own[segment] ?? ''], { axis: { int: 4 } });
    const weights = g.op('Softmax', [g.op('Add', [scores, maskName(segment)])], { axis: { int: -1 } });
    const [onPast = '', onOwn = ''] = g.split(weights, 4, 2, keySplitName(segment));
    pastContexts.push(g.op('MatMul', [onPast, pastName(layer, 'value', segment)]));
    ownWeights.push(onOwn);
  }
  const first = { axis: { int: 0 } };
  const ownContext = g.op('MatMul', [g.op('Concat', ownWeights, first), newValue]);
  return g.op('Add', [g.op('Concat', pastContexts, first), ownContext]);
}

function mlpBlock(context: Context, layer: number, input: string): string {
  const { g } = context;
  const fused = adaptedLinear(context, layer, 'gate_up', input);
  const [gate = '', up = ''] = g.split(fused, 1, 2);
  // QuickGelu with alpha 1 is x * sigmoid(x), that is SiLU, in one pass.
  const activated = g.msOp('QuickGelu', [gate], { alpha: { float: 1 } });
  return adaptedLinear(context, layer, 'down', g.op('Mul', [activated, up]));
}

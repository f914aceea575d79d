import {
  DEVICE_INPUTS,
  DEVICE_LOGITS,
  nextName,
  pageInputName,
  poolName,
  poolNames,
  REARRANGE_INPUTS,
} from '../../kernel/device.ts';
import { bankAName, bankBName, LORA_SITES, pageLayout } from '../../kernel/graph.ts';
import { type LoraTarget, type ModelShape, targetDims } from '../../kernel/model.ts';
import { GraphBuilder } from './builder.ts';
import type { GraphSpec, InitializerSpec } from './proto.ts';
import { LINEARS, type LinearName, QUANT_BLOCK, WEIGHTS, type WeightBits } from './stored.ts';

/** What the parts of one graph share. */
interface Context {
  readonly g: GraphBuilder;
  readonly shape: ModelShape;
  readonly bits: Exclude<WeightBits, 8>;
  readonly available: ReadonlySet<string>;
}

/**
 * Builds the step for a device with memory of its own, from operators that WebGPU has kernels for. Keys and values of
 * all rows stand in one pool per layer, token by token: a step scatters its tokens into places and gathers what every
 * row sees, so rows of any length and chunks with and without a past share a run, and there are no capacity classes.
 * Adapter pages stand in banks, of which a step reads the places that it names.
 *
 * @param stored the tensors in the data file, by the names in {@link WEIGHTS}
 */
export function buildDeviceGraph(
  shape: ModelShape,
  bits: Exclude<WeightBits, 8>,
  stored: readonly InitializerSpec[],
): GraphSpec {
  const g = new GraphBuilder();
  for (const tensor of stored) g.initializer(tensor);
  const context = { g, shape, bits, available: new Set(stored.map(({ name }) => name)) };
  declareInputs(context);

  let residual = g.op('Gather', [WEIGHTS.embedding, DEVICE_INPUTS.tokenIds]);
  for (let layer = 0; layer < shape.layers; layer++) {
    const attentionIn = rmsNorm(context, residual, WEIGHTS.inputNorm(layer));
    residual = g.op('Add', [residual, attention(context, layer, attentionIn)]);
    const mlpIn = rmsNorm(context, residual, WEIGHTS.postNorm(layer));
    residual = g.op('Add', [residual, mlp(context, layer, mlpIn)]);
  }
  const final = rmsNorm(context, residual, WEIGHTS.finalNorm);
  const wanted = g.op('Gather', [final, DEVICE_INPUTS.logitIndex]);
  const head = shape.tiedEmbeddings && bits === 32 ? WEIGHTS.embedding : WEIGHTS.head;
  const logits = linear(context, wanted, head, shape.hiddenSize, shape.vocabSize, null);
  g.op('Identity', [logits], {}, DEVICE_LOGITS);
  g.output(DEVICE_LOGITS, 'float32', ['O', shape.vocabSize]);
  return g.build();
}

/** Builds the graph that resizes the pools of keys and values: every new place takes an old one. */
export function buildPoolGraph(shape: ModelShape): GraphSpec {
  const g = new GraphBuilder();
  g.input(REARRANGE_INPUTS.keep, 'int64', ['Q']);
  const width = shape.kvHeads * shape.headDim;
  for (const name of poolNames(shape)) {
    g.input(name, 'float32', ['P', width]);
    g.op('Gather', [name, REARRANGE_INPUTS.keep], {}, nextName(name));
    g.output(nextName(name), 'float32', ['Q', width]);
  }
  return g.build();
}

/** Builds the graph that loads pages into the banks: every new place takes an old one, then some are overwritten. */
export function buildBankGraph(shape: ModelShape): GraphSpec {
  const g = new GraphBuilder();
  g.input(REARRANGE_INPUTS.keep, 'int64', ['Q']);
  g.input(REARRANGE_INPUTS.writeIndex, 'int64', ['W', 1]);
  for (const { name } of pageLayout(shape, 1).tensors) {
    g.input(name, 'float32', ['P', `rows_${name}`, `columns_${name}`]);
    g.input(pageInputName(name), 'float32', ['W', `rows_${name}`, `columns_${name}`]);
    const kept = g.op('Gather', [name, REARRANGE_INPUTS.keep]);
    g.op('ScatterND', [kept, REARRANGE_INPUTS.writeIndex, pageInputName(name)], {}, nextName(name));
    g.output(nextName(name), 'float32', ['Q', `rows_${name}`, `columns_${name}`]);
  }
  return g.build();
}

function declareInputs({ g, shape }: Context): void {
  g.input(DEVICE_INPUTS.tokenIds, 'int64', ['N']);
  g.input(DEVICE_INPUTS.positions, 'int64', [1, 'N']);
  g.input(DEVICE_INPUTS.laneIndex, 'int64', ['B', 'S']);
  g.input(DEVICE_INPUTS.unlaneIndex, 'int64', ['N']);
  g.input(DEVICE_INPUTS.keyIndex, 'int64', ['B', 'T']);
  g.input(DEVICE_INPUTS.mask, 'float32', ['B', 1, 1, 'S', 'T']);
  g.input(DEVICE_INPUTS.scoreShape, 'int64', [5]);
  g.input(DEVICE_INPUTS.scoreMatrixShape, 'int64', [4]);
  g.input(DEVICE_INPUTS.writeIndex, 'int64', ['W', 1]);
  g.input(DEVICE_INPUTS.writeSource, 'int64', ['W']);
  g.input(DEVICE_INPUTS.logitIndex, 'int64', ['O']);
  g.input(DEVICE_INPUTS.pageSlots, 'int64', ['G']);
  g.input(DEVICE_INPUTS.groupIndex, 'int64', ['G', 'M']);
  g.input(DEVICE_INPUTS.ungroupIndex, 'int64', ['N', 'J']);
  g.input(DEVICE_INPUTS.pageWeight, 'float32', ['N', 1, 'J']);
  const width = shape.kvHeads * shape.headDim;
  for (const name of poolNames(shape)) {
    g.input(name, 'float32', ['P', width]);
    g.output(nextName(name), 'float32', ['P', width]);
  }
  for (const { name, kind, rows, columns, targets } of pageLayout(shape, 1).tensors) {
    const dims = kind === 'a' ? [rows, `R${targets.length}`] : ['R', columns];
    g.input(name, 'float32', ['C', ...dims]);
  }
}

function rmsNorm({ g, shape }: Context, input: string, scale: string): string {
  const attributes = { axis: { int: -1 }, epsilon: { float: shape.rmsNormEps }, stash_type: { int: 1 } };
  return g.op('SimplifiedLayerNormalization', [input, scale], attributes);
}

function linear(
  { g, bits }: Context,
  input: string,
  weight: string,
  inWidth: number,
  outWidth: number,
  bias: string | null,
): string {
  if (bits === 32) {
    const inputs = bias === null ? [input, weight] : [input, weight, bias];
    return g.op('Gemm', inputs, { transB: { int: 1 } });
  }
  const inputs = [input, WEIGHTS.quantized(weight), WEIGHTS.scales(weight)];
  const attributes = {
    K: { int: inWidth },
    N: { int: outWidth },
    bits: { int: bits },
    block_size: { int: QUANT_BLOCK },
    accuracy_level: { int: 4 },
  };
  const product = g.msOp('MatMulNBits', inputs, attributes);
  return bias === null ? product : g.op('Add', [product, bias]);
}

/**
 * The linears of a site, each plus the updates of every token's adapter pages.
 * @returns one output `[N, out]` for each linear
 */
function adapted(
  context: Context,
  layer: number,
  names: readonly LinearName[],
  input: string,
): readonly string[] {
  const { g, shape, available } = context;
  const site = LORA_SITES.find((candidate) => names.some((name) => LINEARS[name].site === candidate.name));
  const first = site?.targets[0];
  if (site === undefined || first === undefined)
    throw new Error(`no site has the linears ${names.join(', ')}`);
  const inWidth = targetDims(shape, first).in;
  const active = (bank: string): string => g.op('Gather', [bank, DEVICE_INPUTS.pageSlots]);
  const grouped = g.op('Gather', [withZeroRow(g, input, inWidth), DEVICE_INPUTS.groupIndex]);
  const low = g.op('MatMul', [grouped, active(bankAName(layer, site))]);
  const lows = site.targets.length === 1 ? [low] : g.split(low, 2, site.targets.length);
  const highOf = new Map<LoraTarget, string>(
    site.targets.map((target, index) => [
      target,
      g.op('MatMul', [lows[index] ?? low, active(bankBName(layer, target))]),
    ]),
  );
  return names.map((name) => {
    const { targets } = LINEARS[name];
    const outWidth = targets.reduce((sum, target) => sum + targetDims(shape, target).out, 0);
    const biasName = WEIGHTS.bias(layer, name);
    const bias = available.has(biasName) ? biasName : null;
    const base = linear(context, input, WEIGHTS.linear(layer, name), inWidth, outWidth, bias);
    const highs = targets.map((target) => highOf.get(target) ?? low);
    const high = highs.length === 1 ? (highs[0] ?? low) : g.op('Concat', highs, { axis: { int: 2 } });
    const perPage = g.op('Gather', [g.reshape(high, [-1, outWidth]), DEVICE_INPUTS.ungroupIndex]);
    const update = g.op('MatMul', [DEVICE_INPUTS.pageWeight, perPage]);
    return g.op('Add', [base, g.reshape(update, [-1, outWidth])]);
  });
}

/** Packed tokens with a row of zeros behind them, which padding reads instead of another sequence's token. */
function withZeroRow(g: GraphBuilder, input: string, width: number): string {
  return g.op('Concat', [input, g.zeroRow(width)], { axis: { int: 0 } });
}

/** Rotary embedding (and Qwen3's norm per head) over packed tokens; returns `[N, heads * headDim]`. */
function rotate(context: Context, input: string, heads: number, headNorm: string | null): string {
  const { g, shape } = context;
  const width = heads * shape.headDim;
  const normed =
    headNorm === null ? input : rmsNorm(context, g.reshape(input, [-1, heads, shape.headDim]), headNorm);
  const rotated = g.msOp(
    'RotaryEmbedding',
    [g.reshape(normed, [1, -1, width]), DEVICE_INPUTS.positions, WEIGHTS.ropeCos, WEIGHTS.ropeSin],
    { num_heads: { int: heads }, interleaved: { int: 0 } },
  );
  return g.reshape(rotated, [-1, width]);
}

function attention(context: Context, layer: number, input: string): string {
  const { g, shape } = context;
  const { heads, kvHeads, headDim } = shape;
  const [fused = ''] = adapted(context, layer, ['qkv'], input);
  const widths = g.ints([heads * headDim, kvHeads * headDim, kvHeads * headDim]);
  const [q = '', k = '', v = ''] = g.split(fused, 1, 3, widths);
  const queries = rotate(context, q, heads, shape.qkNorm ? WEIGHTS.qNorm(layer) : null);
  const keys = rotate(context, k, kvHeads, shape.qkNorm ? WEIGHTS.kNorm(layer) : null);
  const seenKeys = g.transpose(remember(context, poolName(layer, 'key'), keys), [0, 2, 3, 1]);
  const seenValues = g.transpose(remember(context, poolName(layer, 'value'), v), [0, 2, 1, 3]);

  const perKvHead = heads / kvHeads;
  const lanes = g.op('Gather', [queries, DEVICE_INPUTS.laneIndex]);
  const split = g.op('Reshape', [lanes, g.ints([0, 0, kvHeads, perKvHead, headDim])]);
  const query = g.reshape(g.transpose(split, [0, 2, 3, 1, 4]), [0, kvHeads, -1, headDim]);
  const scores = g.op('Reshape', [g.op('MatMul', [query, seenKeys]), DEVICE_INPUTS.scoreShape]);
  const weights = g.op('Softmax', [g.op('Add', [scores, DEVICE_INPUTS.mask])], { axis: { int: -1 } });
  const flat = g.op('Reshape', [weights, DEVICE_INPUTS.scoreMatrixShape]);
  const perQuery = g.reshape(g.op('MatMul', [flat, seenValues]), [0, kvHeads, perKvHead, -1, headDim]);
  const laneOut = g.reshape(g.transpose(perQuery, [0, 3, 1, 2, 4]), [-1, heads * headDim]);
  const packed = g.op('Gather', [laneOut, DEVICE_INPUTS.unlaneIndex]);
  const [out = ''] = adapted(context, layer, ['o'], packed);
  return out;
}

/** Writes the step's keys or values into their pool; returns what every row sees, `[B, T, kvHeads, headDim]`. */
function remember({ g, shape }: Context, pool: string, packed: string): string {
  const padded = withZeroRow(g, packed, shape.kvHeads * shape.headDim);
  const written = g.op('Gather', [padded, DEVICE_INPUTS.writeSource]);
  const next = g.op('ScatterND', [pool, DEVICE_INPUTS.writeIndex, written], {}, nextName(pool));
  const seen = g.op('Gather', [next, DEVICE_INPUTS.keyIndex]);
  return g.op('Reshape', [seen, g.ints([0, 0, shape.kvHeads, shape.headDim])]);
}

function mlp(context: Context, layer: number, input: string): string {
  const { g } = context;
  const [gate = '', up = ''] = adapted(context, layer, ['gate', 'up'], input);
  const activated = g.msOp('QuickGelu', [gate], { alpha: { float: 1 } });
  const [out = ''] = adapted(context, layer, ['down'], g.op('Mul', [activated, up]));
  return out;
}

import { bankAName, bankBName, GRAPH_INPUTS, LORA_SITES } from '../../kernel/graph.ts';
import { type LoraTarget, targetDims } from '../../kernel/model.ts';
import type { GraphBuilder } from './builder.ts';
import type { Context } from './context.ts';
import { LINEARS, type LinearName, QUANT_BLOCK, WEIGHTS, type WeightBits } from './stored.ts';

/** Levels on each side of zero of a quantized activation; unsigned, as the fast kernels want it, around the middle. */
const LEVELS = 127;
const MIDDLE = 128;

/** `input * weight^T + addend`; the addend is `[N, out]`, or `[1, out]` for all tokens alike. */
export function linear(
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
 * rows, and one tenant's prompt would then change another's tokens. A row of zeros becomes 0 / 0, any byte, and zeros
 * again where the scale is multiplied back.
 */
function integerProduct(g: GraphBuilder, input: string, weight: string): string {
  const scale = g.once(`scale of ${input}`, () =>
    g.op('ReduceMax', [g.op('Abs', [input]), g.ints([1])], { keepdims: { int: 1 } }),
  );
  const level = g.float('level', 1 / LEVELS);
  const middle = g.byte('middle', MIDDLE);
  const quantized = g.once(`bytes of ${input}`, () =>
    g.op('QuantizeLinear', [g.op('Div', [input, scale]), level, middle]),
  );
  const weights = [WEIGHTS.quantized(weight), level, WEIGHTS.scales(weight), middle];
  return g.op('Mul', [g.msOp('MatMulIntegerToFloat', [quantized, ...weights]), scale]);
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

/**
 * The linears of a site, each plus the updates of every token's adapter pages: `y = Wx + Σ weight · B(Ax)`.
 * @returns one output `[N, out]` for each linear
 */
export function adaptedLinears(
  context: Context,
  layer: number,
  names: readonly LinearName[],
  input: string,
): readonly string[] {
  const { g, shape, bits, form, available } = context;
  const lows = form.adapters ? lowRank(context, layer, names, input) : null;
  return names.map((name) => {
    const { targets } = LINEARS[name];
    const inWidth = targetDims(shape, targets[0]).in;
    const outWidth = targets.reduce((sum, target) => sum + targetDims(shape, target).out, 0);
    const biasName = WEIGHTS.bias(layer, name);
    const bias = available.has(biasName) ? biasName : null;
    const update = lows === null ? null : highRank(context, layer, targets, lows, outWidth);
    const addend = update !== null && bias !== null ? g.op('Add', [update, bias]) : (update ?? bias);
    return linear(g, input, WEIGHTS.linear(layer, name), bits, inWidth, outWidth, addend);
  });
}

/** A single linear of {@link adaptedLinears}. */
export function adaptedLinear(context: Context, layer: number, name: LinearName, input: string): string {
  const [output = ''] = adaptedLinears(context, layer, [name], input);
  return output;
}

/**
 * `Ax` of every group, by projection; those of a site share an A. For rows of any form `[G, M, R]`, where a group is a
 * page; for single ones `[G, M, P * R]`, where it is an adapter.
 */
function lowRank(
  { g, shape, form }: Context,
  layer: number,
  names: readonly LinearName[],
  input: string,
): ReadonlyMap<LoraTarget, string> {
  const site = LORA_SITES.find((candidate) => names.some((name) => LINEARS[name].site === candidate.name));
  const [first] = site?.targets ?? [];
  if (site === undefined || first === undefined)
    throw new Error(`no site has the linears ${names.join(', ')}`);
  if (form.rows === 'single') {
    const grouped = g.op('Gather', [input, GRAPH_INPUTS.groupIndex]);
    const low = g.transpose(g.op('MatMul', [grouped, bankAName(layer, site)]), [0, 2, 1, 3]);
    const parts = site.targets.length === 1 ? [low] : g.split(low, 3, site.targets.length);
    return new Map(
      site.targets.map((target, index) => {
        const part = parts[index] ?? low;
        return [target, g.op('Reshape', [part, g.ints([0, 0, -1])])];
      }),
    );
  }
  // Padding of groups reads a row of zeros behind the tokens: another sequence's token might hold NaN or Inf there,
  // and zero times those is not zero.
  const padded = g.op('Concat', [input, g.zeroRow(targetDims(shape, first).in)], { axis: { int: 0 } });
  const grouped = g.op('Gather', [padded, GRAPH_INPUTS.groupIndex]);
  const low = g.op('MatMul', [grouped, bankAName(layer, site)]);
  const lows = site.targets.length === 1 ? [low] : g.split(low, 2, site.targets.length);
  return new Map(site.targets.map((target, index) => [target, lows[index] ?? low]));
}

/** `Σ weight · B(Ax)` over every token's adapter pages, `[N, out]`, or `[1, out]` when no token has a page. */
function highRank(
  { g, form }: Context,
  layer: number,
  targets: readonly LoraTarget[],
  lows: ReadonlyMap<LoraTarget, string>,
  outWidth: number,
): string {
  const highs = targets.map((target) => g.op('MatMul', [lows.get(target) ?? '', bankBName(layer, target)]));
  const [only = ''] = highs;
  const high = highs.length === 1 ? only : g.op('Concat', highs, { axis: { int: 2 } });
  if (form.rows === 'single') {
    return g.op('Gather', [g.reshape(high, [-1, outWidth]), GRAPH_INPUTS.memberIndex]);
  }
  const perPage = g.op('GatherND', [high, GRAPH_INPUTS.ungroupIndex]);
  return g.reshape(g.op('MatMul', [GRAPH_INPUTS.pageWeight, perPage]), [-1, outWidth]);
}

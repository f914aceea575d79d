import { CACHE_SEGMENTS, GRAPH_INPUTS, keySplitName, maskName, pastName } from '../../kernel/graph.ts';
import type { ModelShape } from '../../kernel/model.ts';
import type { GraphBuilder } from './builder.ts';
import { type Context, GENERAL_FORM, segmentsOf } from './context.ts';
import { adaptedLinear } from './linear.ts';
import { WEIGHTS } from './stored.ts';

/** RMSNorm over the last dimension. */
export function rmsNorm(g: GraphBuilder, shape: ModelShape, input: string, scale: string): string {
  const attributes = { axis: { int: -1 }, epsilon: { float: shape.rmsNormEps }, stash_type: { int: 1 } };
  return g.op('SimplifiedLayerNormalization', [input, scale], attributes);
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

/** A layer's attention over normed tokens `[N, hidden]`, and the keys and values that it adds to the cache. */
export function attentionBlock(
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

import {
  bankAName,
  bankBName,
  CACHE_SEGMENTS,
  GRAPH_INPUTS,
  GRAPH_OUTPUTS,
  keySplitName,
  LORA_SITES,
  maskName,
  pastName,
} from '../../kernel/graph.ts';
import { type ModelShape, targetDims } from '../../kernel/model.ts';
import { attentionBlock, rmsNorm } from './attention.ts';
import { GraphBuilder } from './builder.ts';
import { type Context, GENERAL_FORM, type GraphForm, segmentsOf } from './context.ts';
import { adaptedLinear, adaptedLinears, linear } from './linear.ts';
import type { GraphSpec, InitializerSpec } from './proto.ts';
import { WEIGHTS, type WeightBits } from './stored.ts';

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
  if (form.adapters && form.rows === 'single') {
    g.input(GRAPH_INPUTS.groupIndex, 'int64', ['G', 1, 'M']);
    g.input(GRAPH_INPUTS.memberIndex, 'int64', ['N']);
  } else if (form.adapters) {
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
      const pages = form.rows === 'single' ? ['P'] : [];
      const inWidth = targetDims(shape, first).in;
      g.input(bankAName(layer, site), 'float32', ['G', ...pages, inWidth, `R${site.targets.length}`]);
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

function mlpBlock(context: Context, layer: number, input: string): string {
  const { g } = context;
  const [gate = '', up = ''] = adaptedLinears(context, layer, ['gate', 'up'], input);
  // QuickGelu with alpha 1 is x * sigmoid(x), that is SiLU, in one pass.
  const activated = g.msOp('QuickGelu', [gate], { alpha: { float: 1 } });
  return adaptedLinear(context, layer, 'down', g.op('Mul', [activated, up]));
}

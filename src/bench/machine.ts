import { GraphBuilder } from '../backbone/onnx/builder.ts';
import { type ElementType, encodeModel } from '../backbone/onnx/proto.ts';
import { QUANT_BLOCK, type WeightBits } from '../backbone/onnx/stored.ts';
import { blocksOf } from '../backbone/quantize.ts';
import { type TimedInput, timeGraph } from '../engine/runner/time-graph.ts';
import type { Clock } from '../kernel/clock.ts';
import { multipliesBytesExactly } from '../serving/processor.ts';
import type { Machine } from './roofline.ts';

/** Floats to read: 256 MiB, several times what the last cache of a server's processor holds. */
const READ_FLOATS = 2 ** 26;
const READ_COLUMNS = 4096;
/** Rows of a product that is bound by arithmetic, and the size of its square matrix. */
const PRODUCT_ROWS = 512;
const PRODUCT_SIZE = 1024;
/** Products of one run, each with a matrix of its own. */
const PRODUCTS = 8;
const FOR_MS = 250;

/** Measures what the machine reads and multiplies at best, with as many threads as the engine will have. */
export async function measureMachine(
  options: { readonly bits: WeightBits; readonly intraOpThreads: number },
  deps: { readonly clock: Clock },
): Promise<Machine> {
  const { bits, intraOpThreads } = options;
  const exactBytes = await multipliesBytesExactly(process.arch);
  const time = (graph: GraphBuilder, inputs: Readonly<Record<string, TimedInput>>): Promise<number> =>
    timeGraph(encodeModel(graph.build()), inputs, { intraOpThreads, exactBytes, forMs: FOR_MS }, deps);
  const product = async (width: WeightBits): Promise<number> => {
    const flops = 2 * PRODUCTS * PRODUCT_ROWS * PRODUCT_SIZE * PRODUCT_SIZE;
    return (flops / (await time(productGraph(width), productInput(width)))) * 1000;
  };
  // A page that was never written is the same page of zeros everywhere, and would be read from the cache.
  const data = new Float32Array(READ_FLOATS).fill(1);
  const matrix: TimedInput = { type: 'float32', data, dims: [READ_FLOATS / READ_COLUMNS, READ_COLUMNS] };
  const ones = new Float32Array(READ_FLOATS / READ_COLUMNS).fill(1);
  const vector: TimedInput = { type: 'float32', data: ones, dims: [1, ones.length] };
  const readMs = Math.min(await time(sumGraph(), { matrix }), await time(vectorGraph(), { matrix, vector }));
  const floatFlopsPerSecond = await product(32);
  return {
    readBytesPerSecond: (data.byteLength / readMs) * 1000,
    floatFlopsPerSecond,
    weightFlopsPerSecond: bits === 32 ? floatFlopsPerSecond : await product(bits),
  };
}

/** Sums of rows; which of two ways reads faster depends on the machine. */
function sumGraph(): GraphBuilder {
  const g = new GraphBuilder();
  const matrix = g.input('matrix', 'float32', ['rows', 'columns']);
  g.op('ReduceSum', [matrix, g.ints([1])], { keepdims: { int: 0 } }, 'sums');
  g.output('sums', 'float32', ['rows']);
  return g;
}

/** A vector times a matrix, as decoding reads adapters. */
function vectorGraph(): GraphBuilder {
  const g = new GraphBuilder();
  const vector = g.input('vector', 'float32', [1, 'rows']);
  const matrix = g.input('matrix', 'float32', ['rows', 'columns']);
  g.op('MatMul', [vector, matrix], {}, 'product');
  g.output('product', 'float32', [1, 'columns']);
  return g;
}

function productInput(bits: WeightBits): Readonly<Record<string, TimedInput>> {
  const dims = [PRODUCT_ROWS, PRODUCT_SIZE];
  const elements = PRODUCT_ROWS * PRODUCT_SIZE;
  return bits === 8
    ? { input: { type: 'uint8', data: new Uint8Array(elements).fill(100), dims } }
    : { input: { type: 'float32', data: new Float32Array(elements).fill(1), dims } };
}

/** Large products with the kernel that the backbone's graph uses for this width. */
function productGraph(bits: WeightBits): GraphBuilder {
  const g = new GraphBuilder();
  const input = g.input('input', bits === 8 ? 'uint8' : 'float32', ['rows', PRODUCT_SIZE]);
  const rows = Array.from({ length: PRODUCTS }, (_, index) =>
    // One row of each result leaves the graph: the runtime copies outputs, which would take longer than the product.
    g.op('Gather', [product(g, bits, input, index), g.ints([0])]),
  );
  g.op('Concat', rows, { axis: { int: 0 } }, 'rows_out');
  g.output('rows_out', 'float32', [PRODUCTS, PRODUCT_SIZE]);
  return g;
}

function product(g: GraphBuilder, bits: WeightBits, input: string, index: number): string {
  const weight = `weight_${index}`;
  const square = [PRODUCT_SIZE, PRODUCT_SIZE];
  const scales = (dims: readonly number[]): string => constant(g, `scales_${index}`, 'float32', dims);
  switch (bits) {
    case 32:
      return g.op('Gemm', [input, constant(g, weight, 'float32', square)], { transB: { int: 1 } });
    case 8: {
      const level = g.float('level', 1);
      const middle = g.byte('middle', 128);
      const weights = constant(g, weight, 'int8', square);
      return g.msOp('MatMulIntegerToFloat', [input, weights, level, scales([PRODUCT_SIZE]), middle]);
    }
    case 4: {
      const blocks = blocksOf(PRODUCT_SIZE);
      const weights = constant(g, weight, 'uint8', [PRODUCT_SIZE, blocks, QUANT_BLOCK / 2]);
      return g.msOp('MatMulNBits', [input, weights, scales([PRODUCT_SIZE * blocks])], {
        K: { int: PRODUCT_SIZE },
        N: { int: PRODUCT_SIZE },
        bits: { int: 4 },
        block_size: { int: QUANT_BLOCK },
        accuracy_level: { int: 4 },
      });
    }
  }
}

/** A constant of ones, or of any bytes. */
function constant(g: GraphBuilder, name: string, type: ElementType, dims: readonly number[]): string {
  const elements = dims.reduce((count, size) => count * size, 1);
  const inline =
    type === 'float32'
      ? new Uint8Array(new Float32Array(elements).fill(1).buffer)
      : new Uint8Array(elements).fill(3);
  return g.initializer({ name, type, dims, data: { inline } });
}

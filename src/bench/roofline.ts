import { WEIGHTS, type WeightBits } from '../backbone/onnx/stored.ts';
import { blocksOf } from '../backbone/quantize.ts';
import { storedWeights } from '../backbone/weights.ts';
import type { RooflineReport } from '../cli/ports.ts';
import type { RowWork } from '../engine/runner.ts';
import type { ModelShape } from '../kernel/model.ts';

const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;
/** Bytes of a block of 4-bit weights: 32 of them and their scale. */
const BLOCK_BYTES = 16 + FLOAT_BYTES;
/** A multiplication and an addition. */
const FLOPS = 2;

/** What a machine does at best, measured on the spot. */
export interface Machine {
  /** Bytes that all threads together read from memory in a second. */
  readonly readBytesPerSecond: number;
  /** Operations of a large product of floats in a second. */
  readonly floatFlopsPerSecond: number;
  /** The same of a product with weights of the backbone's width; that of floats where they are floats. */
  readonly weightFlopsPerSecond: number;
}

/** What every decode step of a backbone moves and computes, whatever its rows are. */
export interface BackboneCost {
  /** Bytes of all weights that a step reads: every matrix once, and of the embedding only what serves as the head. */
  readonly weightBytes: number;
  /** Weights that each token is multiplied with. */
  readonly weightElements: number;
  /** Bytes of keys and values of one token. */
  readonly kvBytesPerToken: number;
  /** Operations of attention for one token that is looked at. */
  readonly flopsPerContextToken: number;
}

/** A decode step: every row appends one token. */
export interface DecodeStep {
  readonly rows: number;
  /** Tokens that the rows look at, their own included. */
  readonly contextTokens: number;
  /** Bytes of the pages of all distinct adapters. */
  readonly pageBytes: number;
  /** Elements of pages, counted for each row that uses them. */
  readonly pageElements: number;
}

/** The least time that a step can take on a machine. */
export interface Roofline {
  readonly bytes: number;
  readonly flops: number;
  readonly ms: number;
  /** Which of the two takes longer. */
  readonly boundBy: 'bytes' | 'flops';
}

/** Counts the bytes and weights of a backbone as its graph reads them. */
export function backboneCost(shape: ModelShape, bits: WeightBits): BackboneCost {
  const weights = storedWeights(shape, bits !== 32);
  const hasHead = weights.some(({ name }) => name === WEIGHTS.head);
  let weightBytes = 0;
  let weightElements = 0;
  for (const { name, dims, quantizable } of weights) {
    // Of an embedding that is not the head a step reads one row for each token.
    if (name === WEIGHTS.embedding && hasHead) continue;
    const [rows = 0, columns = 1] = dims;
    if (dims.length > 1) weightElements += rows * columns;
    weightBytes += matrixBytes(rows, columns, quantizable ? bits : 32);
  }
  const { layers, heads, kvHeads, headDim } = shape;
  return {
    weightBytes,
    weightElements,
    kvBytesPerToken: 2 * layers * kvHeads * headDim * FLOAT_BYTES,
    // The product with the key, and that with the value.
    flopsPerContextToken: 2 * FLOPS * layers * heads * headDim,
  };
}

function matrixBytes(rows: number, columns: number, bits: WeightBits): number {
  switch (bits) {
    case 32:
      return rows * columns * FLOAT_BYTES;
    case 8:
      return rows * (columns + FLOAT_BYTES);
    case 4:
      return rows * blocksOf(columns) * BLOCK_BYTES;
  }
}

/** Sums up what the rows of a step that only decodes look at and use. */
export function decodeStep(work: readonly RowWork[]): DecodeStep {
  const distinct = new Map<string, number>();
  let contextTokens = 0;
  let pageElements = 0;
  for (const { past, tokens, adapters } of work) {
    contextTokens += past + tokens.length;
    for (const { adapter } of adapters) {
      const elements = adapter.pages.reduce((sum, page) => sum + page.length, 0);
      distinct.set(adapter.digest, elements * FLOAT_BYTES);
      pageElements += elements;
    }
  }
  const pageBytes = [...distinct.values()].reduce((sum, bytes) => sum + bytes, 0);
  return { rows: work.length, contextTokens, pageBytes, pageElements };
}

/**
 * The larger of the time to move a step's bytes (weights once, the pages of distinct adapters once, keys and values of
 * its rows) and the time to compute it. Products with weights and with floats may have different speeds.
 */
export function roofline(step: DecodeStep, backbone: BackboneCost, machine: Machine): Roofline {
  // Of a row's tokens, all but the last are read and the last is written.
  const bytes = backbone.weightBytes + step.pageBytes + step.contextTokens * backbone.kvBytesPerToken;
  const weightFlops = FLOPS * step.rows * backbone.weightElements;
  const floatFlops = FLOPS * step.pageElements + step.contextTokens * backbone.flopsPerContextToken;
  const bytesMs = (bytes / machine.readBytesPerSecond) * 1000;
  const flopsMs =
    (weightFlops / machine.weightFlopsPerSecond + floatFlops / machine.floatFlopsPerSecond) * 1000;
  return {
    bytes,
    flops: weightFlops + floatFlops,
    ms: Math.max(bytesMs, flopsMs),
    boundBy: bytesMs >= flopsMs ? 'bytes' : 'flops',
  };
}

/** Decode steps, each with the time that it took, beside the roofline; null when there are none. */
export function rooflineReport(
  steps: readonly { readonly step: DecodeStep; readonly ms: number }[],
  backbone: BackboneCost,
  machine: Machine,
): RooflineReport | null {
  if (steps.length === 0) return null;
  const lines = steps.map(({ step }) => roofline(step, backbone, machine));
  const mean = (of: (line: Roofline) => number): number =>
    lines.reduce((sum, line) => sum + of(line), 0) / lines.length;
  const measuredMs = steps.reduce((sum, { ms }) => sum + ms, 0) / steps.length;
  const leastMs = mean(({ ms }) => ms);
  return {
    share: leastMs / measuredMs,
    leastMs,
    bytes: mean(({ bytes }) => bytes),
    flops: mean(({ flops }) => flops),
    boundBy: mean(({ boundBy }) => (boundBy === 'bytes' ? 1 : 0)) >= 0.5 ? 'bytes' : 'flops',
    ...machine,
  };
}

/**
 * Throughput with distinct adapters over that with the first of them alone, were a step nothing but reading weights and
 * adapters.
 * @param adapterBytes of each of the adapters of a step
 */
export function byteBound(weightBytes: number, adapterBytes: readonly number[]): number {
  const all = adapterBytes.reduce((sum, bytes) => sum + bytes, 0);
  return (weightBytes + (adapterBytes[0] ?? 0)) / (weightBytes + all);
}

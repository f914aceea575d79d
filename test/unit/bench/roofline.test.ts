import { expect, test } from 'vitest';
import {
  backboneCost,
  byteBound,
  type DecodeStep,
  decodeStep,
  type Machine,
  roofline,
  rooflineReport,
} from '../../../src/bench/roofline.ts';
import type { RowWork } from '../../../src/engine/runner.ts';
import type { ModelShape } from '../../../src/kernel/model.ts';

const SHAPE: ModelShape = {
  family: 'llama',
  hiddenSize: 64,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 16,
  intermediateSize: 128,
  vocabSize: 1000,
  maxPositions: 512,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  ropeScaling: null,
  tiedEmbeddings: true,
  qkvBias: false,
  qkNorm: false,
};
/** Of one layer: q, k and v, o, gate and up, down. */
const LAYER = 64 * (64 + 32 + 32) + 64 * 64 + 64 * 256 + 128 * 64;
const HEAD = 1000 * 64;
const NORMS = 5 * 64;
const MACHINE: Machine = { readBytesPerSecond: 1e9, floatFlopsPerSecond: 1e9, weightFlopsPerSecond: 4e9 };

test('a step reads every matrix and norm once, and a tied embedding as the head', () => {
  const cost = backboneCost(SHAPE, 32);
  expect(cost.weightElements).toBe(2 * LAYER + HEAD);
  expect(cost.weightBytes).toBe(4 * (2 * LAYER + HEAD + NORMS));
  expect(cost.kvBytesPerToken).toBe(2 * 2 * 2 * 16 * 4);
  expect(cost.flopsPerContextToken).toBe(4 * 2 * 4 * 16);
});

test('an embedding of its own is not read as a whole, whatever the head’s width', () => {
  const untied = { ...SHAPE, tiedEmbeddings: false };
  expect(backboneCost(untied, 32)).toEqual(backboneCost(SHAPE, 32));
  expect(backboneCost(untied, 8)).toEqual(backboneCost(SHAPE, 8));
});

test('8 bits take a byte and a scale for each output, 4 bits twenty bytes for each block of 32; norms stay floats', () => {
  const outputs = 2 * (64 + 32 + 32 + 64 + 256 + 64) + 1000;
  expect(backboneCost(SHAPE, 8).weightBytes).toBe(2 * LAYER + HEAD + 4 * outputs + 4 * NORMS);
  expect(backboneCost(SHAPE, 4).weightBytes).toBe(((2 * LAYER + HEAD) / 32) * 20 + 4 * NORMS);
  expect(backboneCost(SHAPE, 8).weightElements).toBe(backboneCost(SHAPE, 32).weightElements);
});

test('pages are moved once for each distinct adapter and multiplied once for each row', () => {
  const adapter = (digest: string, pages: number) => ({
    adapter: {
      digest,
      rank: 8,
      bytes: 0,
      pages: Array.from({ length: pages }, () => new Float32Array(10)),
    },
    weight: 1,
  });
  const row = (past: number, adapters: RowWork['adapters']): RowWork => ({
    row: past,
    tokens: [1],
    past,
    adapters,
    wantsLogits: true,
    greedy: true,
  });
  const [one, two] = [adapter('one', 1), adapter('two', 3)];
  expect(decodeStep([row(4, [one]), row(9, [one, two]), row(1, [])])).toEqual({
    rows: 3,
    contextTokens: 5 + 10 + 2,
    pageBytes: 4 * (10 + 30),
    pageElements: 10 + 40,
  });
});

test('the roofline is the larger of moving the bytes and computing, each product at its own speed', () => {
  const cost = backboneCost(SHAPE, 32);
  const step: DecodeStep = { rows: 2, contextTokens: 30, pageBytes: 4000, pageElements: 1500 };
  const bytes = cost.weightBytes + 4000 + 30 * cost.kvBytesPerToken;
  const floatFlops = 2 * 1500 + 30 * cost.flopsPerContextToken;
  const weightFlops = 2 * 2 * cost.weightElements;
  const moved = roofline(step, cost, MACHINE);
  expect(moved).toMatchObject({ bytes, flops: weightFlops + floatFlops, boundBy: 'bytes' });
  expect(moved.ms).toBeCloseTo(bytes / 1e6, 9);
  const computed = roofline(step, cost, { ...MACHINE, readBytesPerSecond: 1e12 });
  expect(computed.boundBy).toBe('flops');
  expect(computed.ms).toBeCloseTo(weightFlops / 4e6 + floatFlops / 1e6, 9);
});

test('the share weighs steps by their time, and there is none without steps', () => {
  const cost = backboneCost(SHAPE, 32);
  const step: DecodeStep = { rows: 1, contextTokens: 1, pageBytes: 0, pageElements: 0 };
  const { ms } = roofline(step, cost, MACHINE);
  const steps = [
    { step, ms: 2 * ms },
    { step, ms: 6 * ms },
  ];
  expect(rooflineReport(steps, cost, MACHINE)).toMatchObject({ boundBy: 'bytes', ...MACHINE });
  expect(rooflineReport(steps, cost, MACHINE)?.share).toBeCloseTo(0.25, 9);
  expect(rooflineReport([], cost, MACHINE)).toBeNull();
});

test('the byte bound compares one adapter beside the weights with all of them', () => {
  expect(byteBound(100, [10, 10, 10, 10])).toBeCloseTo(110 / 140, 9);
  expect(byteBound(100, [])).toBe(1);
});

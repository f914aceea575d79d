import { describe, expect, test } from 'vitest';
import { KvCache, KvClass } from '../../../src/engine/runner/kv.ts';
import type { ModelShape } from '../../../src/kernel/model.ts';

const SHAPE: ModelShape = {
  family: 'llama',
  hiddenSize: 8,
  layers: 2,
  heads: 2,
  kvHeads: 1,
  headDim: 4,
  intermediateSize: 8,
  vocabSize: 8,
  maxPositions: 2_000_000,
  rmsNormEps: 1e-5,
  ropeTheta: 1e4,
  ropeScaling: null,
  tiedEmbeddings: true,
  qkvBias: false,
  qkNorm: false,
};

function allocatedRows(kvClass: KvClass): number {
  return (kvClass.arrays[0]?.length ?? 0) / kvClass.stride;
}

describe('memory of cache rows', () => {
  test('stays near the rows in use, also after a burst', () => {
    const kvClass = new KvClass(SHAPE, 128);
    for (let id = 0; id < 100; id++) {
      kvClass.append(id);
      expect(allocatedRows(kvClass)).toBeLessThanOrEqual(kvClass.slots.length + 4);
    }
    while (kvClass.slots.length > 0) {
      kvClass.pop();
      expect(allocatedRows(kvClass)).toBeLessThan(kvClass.slots.length + 8);
    }
    expect(allocatedRows(kvClass)).toBe(0);
  });

  test('of a long row is allocated for that row alone', () => {
    const kvClass = new KvClass(SHAPE, 1_000_000);
    kvClass.append(1);
    expect(allocatedRows(kvClass)).toBe(1);
  });

  test('a row books what its capacity class takes', () => {
    const cache = new KvCache(SHAPE, 4096);
    expect(cache.bytes(1)).toBe(2 * 2 * 128 * 4 * 4);
    expect(cache.bytes(129)).toBe(2 * 2 * 256 * 4 * 4);
    expect(cache.bytes(2049)).toBe(2 * 2 * 4096 * 4 * 4);
  });
});

import { expect, test } from 'vitest';
import { AdapterBank } from '../../../src/engine/runner/bank.ts';
import { splitIntoBatches } from '../../../src/engine/runner/batches.ts';
import { KvCache } from '../../../src/engine/runner/kv.ts';
import type { RowWork } from '../../../src/engine/runner.ts';
import type { ModelShape } from '../../../src/kernel/model.ts';

const SHAPE: ModelShape = {
  family: 'llama',
  hiddenSize: 8,
  layers: 1,
  heads: 1,
  kvHeads: 1,
  headDim: 4,
  intermediateSize: 8,
  vocabSize: 8,
  maxPositions: 1024,
  rmsNormEps: 1e-5,
  ropeTheta: 1e4,
  ropeScaling: null,
  tiedEmbeddings: true,
  qkvBias: false,
  qkNorm: false,
};

/** The runs of a step, by the positions of their rows in it: `[past, tokens, slots of its capacity class]` each. */
function runs(rows: readonly (readonly [past: number, tokens: number])[]): number[][] {
  const cache = new KvCache(SHAPE, 1024);
  const work = rows.map(([past, tokens]): RowWork => {
    const row = cache.open();
    cache.reserve(row, past + tokens);
    const ids = new Array<number>(tokens).fill(1);
    return { row, tokens: ids, past, adapters: [], wantsLogits: true, greedy: true };
  });
  const batches = splitIntoBatches(work, cache, new AdapterBank(SHAPE, 16, 1));
  for (const { rows: together, caches } of batches) {
    const slots = caches.reduce((sum, { from, to }) => sum + to - from, 0);
    const longest = Math.max(...together.map(({ tokens }) => tokens.length));
    const tokens = together.reduce((sum, row) => sum + row.tokens.length, 0);
    if (longest > 1) expect(slots * longest).toBeLessThanOrEqual(2 * tokens);
  }
  return batches.map((batch) => batch.rows.map(({ index }) => index));
}

test('chunks that continue a prompt run together, apart from first chunks and from decode rows', () => {
  expect(
    runs([
      [64, 20],
      [64, 24],
      [30, 1],
      [40, 28],
      [0, 40],
    ]),
  ).toEqual([[2], [4], [0, 1, 3]]);
});

test('they run apart where a class, distance or length would have attention pad too much', () => {
  // Of another capacity.
  expect(
    runs([
      [64, 20],
      [200, 20],
    ]),
  ).toEqual([[0], [1]]);
  // Two rows that decode stand between them.
  expect(
    runs([
      [10, 20],
      [10, 1],
      [10, 1],
      [10, 1],
      [10, 20],
    ]),
  ).toEqual([[1, 2, 3], [0], [4]]);
  // One is much longer than the others.
  expect(
    runs([
      [10, 4],
      [10, 4],
      [10, 4],
      [10, 90],
    ]),
  ).toEqual([[0, 1, 2], [3]]);
});

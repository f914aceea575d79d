import { mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { importBackbone } from '../../src/backbone/import.ts';
import { createOnnxRunner } from '../../src/engine/runner/onnx-runner.ts';
import type { GraphPaths } from '../../src/engine/runner/sessions.ts';
import { systemClock } from '../../src/kernel/clock.ts';
import { packedGraphs } from '../../src/serving/packed-graphs.ts';
import { multipliesBytesExactly } from '../../src/serving/processor.ts';
import { GOLDEN_ROOT, temporaryFolder } from './kit.ts';

const settings = async (providers: readonly string[] = ['cpu']) => ({
  intraOpThreads: 1,
  exactBytes: await multipliesBytesExactly(process.arch),
  executionProviders: providers,
});

/** Higher than any process id that Linux gives. */
const GONE = 2 ** 22 + 1;

test('weights are packed once, whole, also when two starts do it at the same time', async () => {
  const { dir } = await importBackbone({
    dir: join(GOLDEN_ROOT, 'llama-tied'),
    root: await temporaryFolder(),
    bits: 8,
  });
  const abandoned = join(dir, `.packing-${GONE}-x`);
  await mkdir(abandoned);
  await writeFile(join(abandoned, 'packed.data'), 'half');

  const [one, other] = await Promise.all([
    packedGraphs(dir, await settings()),
    packedGraphs(dir, await settings()),
  ]);
  expect(one).toEqual(other);
  const folders = (await readdir(dir)).filter((name) => name.includes('pack'));
  expect(folders).toEqual([expect.stringMatching(/^packed-[0-9a-f]{16}$/)]);
  const packed = join(dir, folders[0] ?? '');
  expect((await readdir(packed)).sort()).toEqual([
    'model.onnx',
    'packed.data',
    'single-plain.onnx',
    'single.onnx',
  ]);

  const before = await stat(join(packed, 'packed.data'));
  expect(await packedGraphs(dir, await settings())).toEqual(one);
  expect((await stat(join(packed, 'packed.data'))).ino).toBe(before.ino);
});

test.each([32, 8, 4] as const)('%i bits: packed graphs give the logits of the imported one', async (bits) => {
  const { dir, manifest } = await importBackbone({
    dir: join(GOLDEN_ROOT, 'llama-tied'),
    root: await temporaryFolder(),
    bits,
  });
  const logitsOf = async (graphs: GraphPaths): Promise<readonly number[]> => {
    const { shape } = manifest;
    const runner = await createOnnxRunner(
      {
        ...(await settings()),
        graphs,
        shape,
        maxContext: 64,
        kvBudgetBytes: 2 ** 30,
        pageRank: 8,
        bankPages: 1,
      },
      { clock: systemClock },
    );
    const work = { row: runner.open(64), adapters: [], wantsLogits: true, greedy: false };
    const all: number[] = [];
    for (const [past, tokens] of [
      [0, [5, 6, 7, 8]],
      [4, [9]],
    ] as const) {
      const { logits } = await runner.run([{ ...work, past, tokens }]);
      const [row] = logits;
      if (!(row instanceof Float32Array)) throw new Error('logits were asked for');
      all.push(...row);
    }
    await runner.dispose();
    return all;
  };
  const imported = await logitsOf({ general: join(dir, 'model.onnx') });
  const packed = await logitsOf(await packedGraphs(dir, await settings()));
  expect(Math.max(...imported) - Math.min(...imported)).toBeGreaterThan(1);
  packed.forEach((logit, index) => {
    expect(logit).toBeCloseTo(imported[index] ?? Number.NaN, 3);
  });
});

test('providers with memory of their own get the general graph as it was imported', async () => {
  const { dir } = await importBackbone({
    dir: join(GOLDEN_ROOT, 'llama-tied'),
    root: await temporaryFolder(),
    bits: 32,
  });
  expect(await packedGraphs(dir, await settings(['cuda', 'cpu']))).toEqual({
    general: join(dir, 'model.onnx'),
  });
});
